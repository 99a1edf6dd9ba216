"""TaylorShift in Triton: the operator's face on the kernels of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kernels.common.linear_state.plan import MAX_DIM
from kernels.taylor_attention.function import call_of, taylor_direct, taylor_efficient
from kernels.taylor_attention.plan import candidates, key, tile
from kernels.taylor_attention.spec import full_features_exec, fused_exec, taylor_attention
from suite import Problem
from suite.problem import Value
from suite.tuning import Launch

KERNELS = {"fwd": ("direct",), "bwd": ("dq", "dk_dv"), "fwdbwd": ("direct", "dq", "dk_dv")}


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why a problem can not be served, or None."""
    return f"the kernels take head dims up to {MAX_DIM}" if max(problem.K, problem.V) > MAX_DIM else None


def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """Tile, warps and stages of each kernel of the pass."""
    p, causal = problem, bool(problem.axis("causal"))
    return {each: asdict(tile(each, p.K, p.V, p.dtype, causal)) for each in KERNELS[p.pass_]}


def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, list[Launch]]:
    """The launches that tuning may try, by the key under which the plan asks."""
    p, causal = problem, bool(problem.axis("causal"))
    return {key(each, p.K, p.V, p.dtype, causal): candidates(each, p.K, p.V, p.dtype) for each in KERNELS[p.pass_]}


@taylor_attention.implementation(
    "triton_direct", origin="ours", devices={"cuda", "interpret"}, supports=supports, configuration=configuration,
    search=search, flops_exec=fused_exec,
)  # fmt: skip
def direct_taylor_attention(q, k, v, *, temperature, causal: bool = True, cu_seqlens=None, cu_seqlens_cpu=None):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V], temperature [H] -> (o [B,T,H,V], None), as spec.py defines it.

    cu_seqlens [N+1] cuts the tokens of B = 1 into sequences; cu_seqlens_cpu is its copy on the CPU. Differentiable in
    q, k, v and temperature. Raises UsageError on bad input.
    """
    return taylor_direct(q, k, v, temperature, call_of(q, k, v, temperature, causal, cu_seqlens, cu_seqlens_cpu)), None


def supports_efficient(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the efficient order can not serve a problem, or None."""
    if problem.axis("causal"):
        return "the efficient order here keeps one state of the whole sequence: it serves only no-causal"
    return supports(problem, tunables)


def configuration_efficient(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """Tile, warps and stages of the product; the state takes the walked rows at a time."""
    p = problem
    return {"efficient": asdict(tile("efficient", p.K, p.V, p.dtype, False))}


def search_efficient(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, list[Launch]]:
    """The launches that tuning may try, by the key under which the plan asks."""
    p = problem
    return {key("efficient", p.K, p.V, p.dtype, False): candidates("efficient", p.K, p.V, p.dtype)}


@taylor_attention.implementation(
    "triton_efficient", origin="ours", devices={"cuda", "interpret"}, passes={"fwd"}, supports=supports_efficient,
    configuration=configuration_efficient, search=search_efficient, flops_exec=full_features_exec,
)  # fmt: skip
def efficient_taylor_attention(q, k, v, *, temperature, causal: bool = True, cu_seqlens=None, cu_seqlens_cpu=None):
    """The same for causal = False and without gradients, linear in T: a state of all keys, then one product a query."""
    call = call_of(q, k, v, temperature, causal, cu_seqlens, cu_seqlens_cpu)
    return taylor_efficient(q, k, v, temperature, call), None
