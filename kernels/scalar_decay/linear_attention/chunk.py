"""Linear attention in Triton: the public function; its kernels are in kernels/scalar_decay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kernels.common.arguments import Options, check_states, given
from kernels.common.shapes import MAX_DIM
from kernels.feature_maps.function import mapped
from kernels.feature_maps.registry import map_named
from kernels.scalar_decay.autograd import check_tensors, chunk_scalar_decay
from kernels.scalar_decay.linear_attention.spec import features_of, linear_attention, map_of
from kernels.scalar_decay.register import of_chunk
from kernels.scalar_decay.shape import Shape, of_problem
from suite import Problem
from suite.problem import Value

# Maps that the sweeps make on chip, in both directions, and those that they make where nothing is differentiated: the
# backward sweeps load slices of a row, which do not hold what a rowwise map needs.
FUSED = ("identity", "relu", "elu1")
FUSED_FORWARD = ("softmax",)


def on_chip(feature_map: str, differentiated: bool) -> bool:
    """Whether the sweeps compute the features themselves; if not, a launch before them stores the features."""
    return feature_map in FUSED or (feature_map in FUSED_FORWARD and not differentiated)


def shape_of(problem: Problem, tunables: Mapping[str, Value]) -> Shape:
    """The shape by which a problem is planned."""
    name = map_of(problem).name
    fused = on_chip(name, problem.differentiates)
    return of_problem(
        problem if fused else problem.replace(K=features_of(problem)),
        int(tunables["chunk"]),
        normalised=bool(problem.axis("normalised")),
        feature_map=name if fused else "identity",
        causal=bool(problem.axis("causal")),
    )


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """The reason why our kernels cannot serve a problem, or None."""
    F = features_of(problem)
    if max(problem.K, F, problem.V) > MAX_DIM:
        return f"the kernels hold states of up to {MAX_DIM} features and columns, not {F} and {problem.V}"
    return None


def _registration() -> dict[str, Any]:
    registration = of_chunk(shape_of)

    def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        found = registration["configuration"](problem, tunables)
        fused = on_chip(map_of(problem).name, problem.differentiates)
        return found if fused else {**found, "features": {"made": "in-memory"}}

    def flops_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
        rows = problem.tokens * (problem.H + problem.HK) * (2 if problem.pass_ == "fwdbwd" else 1)
        features = rows * map_of(problem).flops(problem.K, features_of(problem))
        return registration["flops_exec"](problem, tunables) + features

    return {**registration, "supports": supports, "configuration": configuration, "flops_exec": flops_exec}


@linear_attention.implementation("triton_chunk", **_registration())
def chunk_linear_attention(
    q,
    k,
    v,
    *,
    projection=None,
    feature_map: str = "identity",
    normalised: bool = False,
    causal: bool = True,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int = 64,
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], final state or None), as spec.py defines them.

    The state is S [N,HS,F,V], normalised the pair (S, z [N,HS,F]), for F features; cu_seqlens_cpu is cu_seqlens on the
    CPU. projection [M,K] belongs to favor. chunk is a power of 2 of at least 16. Differentiable in q, k, v and the
    initial state. Raises UsageError on bad input.
    """
    phi = map_named(feature_map)
    K = check_tensors(q, k, v, given({"projection": (projection, "M K")}), scale=scale)["K"]
    scale = K**-0.5 if scale is None else scale
    states = initial_state if isinstance(initial_state, tuple) else (initial_state,)
    check_states(q, {f"initial state {name}": x for name, x in zip("Sz", states, strict=False)})
    differentiated = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (q, k, v, *states))
    if not on_chip(feature_map, differentiated):
        q, k = mapped(phi, q, k, projection)
        feature_map = "identity"
    options = Options(initial_state, output_final_state, cu_seqlens, cu_seqlens_cpu, chunk)
    return chunk_scalar_decay(
        q,
        k,
        v,
        feature_map=feature_map,
        normalised=normalised,
        causal=causal,
        scale=scale,
        eps=phi.eps,
        options=options,
    )
