"""TaylorShift in Triton: registers the kernels of this folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from kernels.common.heads import unpaired
from kernels.common.shapes import MAX_DIM
from kernels.feature_maps.taylor_attention.autograd import call_of, taylor_direct, taylor_efficient
from kernels.feature_maps.taylor_attention.plan import candidates, key, tile
from kernels.feature_maps.taylor_attention.spec import full_features_exec, fused_exec, taylor_attention
from suite import Problem
from suite.problem import Value
from suite.tuning import Config

DIRECT = {"fwd": ("direct",), "bwd": ("dq", "dk_dv"), "fwdbwd": ("direct", "dq", "dk_dv")}
BACKWARD = ("efficient_dq", "efficient_dk_dv")
EFFICIENT = {"fwd": ("efficient",), "bwd": BACKWARD, "fwdbwd": ("efficient", *BACKWARD)}


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """The reason why our kernels cannot serve a problem, or None."""
    if max(problem.K, problem.V) > MAX_DIM:
        return f"the kernels take head dims up to {MAX_DIM}"
    return unpaired(problem)


def launches_of(kernels: Mapping[str, tuple[str, ...]]) -> dict[str, Any]:
    """What registers the kernels of each pass: their tile, warps and stages, and what tuning may try instead.

    The kernel that makes a state of the efficient order takes the tile of the kernel that reads it.
    """

    def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        p, causal = problem, bool(problem.axis("causal"))
        return {each: asdict(tile(each, p.K, p.V, p.dtype, causal)) for each in kernels[p.pass_]}

    def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, list[Config]]:
        p, causal = problem, bool(problem.axis("causal"))
        return {key(each, p.K, p.V, p.dtype, causal): candidates(each, p.K, p.V, p.dtype) for each in kernels[p.pass_]}

    return {"configuration": configuration, "search": search}


@taylor_attention.implementation(
    "triton_direct",
    origin="ours",
    devices={"cuda", "interpret"},
    supports=supports,
    flops_exec=fused_exec,
    **launches_of(DIRECT),
)
def direct_taylor_attention(q, k, v, *, temperature, causal: bool = True, cu_seqlens=None, cu_seqlens_cpu=None):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V], temperature [H] -> (o [B,T,H,V], None), as spec.py defines it.

    cu_seqlens [N+1] cuts the tokens of B = 1 into sequences; cu_seqlens_cpu is its copy on the CPU. Differentiable in
    q, k, v and temperature. Raises UsageError on bad input.
    """
    cuts = {"cu_seqlens": cu_seqlens, "cu_seqlens_cpu": cu_seqlens_cpu}
    return taylor_direct(q, k, v, temperature, call_of(q, k, v, temperature, causal=causal, **cuts)), None


def supports_efficient(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the efficient order cannot serve a problem, or None."""
    if problem.axis("causal"):
        return "the efficient order keeps one state of the whole sequence: it supports only no-causal"
    return supports(problem, tunables)


@taylor_attention.implementation(
    "triton_efficient",
    origin="ours",
    devices={"cuda", "interpret"},
    supports=supports_efficient,
    flops_exec=full_features_exec,
    **launches_of(EFFICIENT),
)
def efficient_taylor_attention(q, k, v, *, temperature, causal: bool = True, cu_seqlens=None, cu_seqlens_cpu=None):
    """The same for causal = False, linear in T: a state of all keys, then one product per query."""
    cuts = {"cu_seqlens": cu_seqlens, "cu_seqlens_cpu": cu_seqlens_cpu}
    return taylor_efficient(q, k, v, temperature, call_of(q, k, v, temperature, causal=causal, **cuts)), None
