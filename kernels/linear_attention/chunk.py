"""Chunked linear attention in Triton: the operator's face on the shared kernels of kernels/common/linear_state."""

from __future__ import annotations

from collections.abc import Mapping

from kernels.common.linear_state.faces import of_chunk
from kernels.common.linear_state.function import chunk_linear_state
from kernels.common.linear_state.shape import Shape, of_problem
from kernels.linear_attention.spec import EPS, FEATURE_MAPS, linear_attention
from suite import Problem
from suite.errors import unknown
from suite.problem import Value


def shape_of(problem: Problem, tunables: Mapping[str, Value]) -> Shape:
    """What the plan of a problem depends on."""
    own = {"normalised": bool(problem.axis("normalised")), "feature_map": str(problem.axis("feature_map"))}
    return of_problem(problem, int(tunables["chunk"]), **own)


@linear_attention.implementation("triton_chunk", **of_chunk(shape_of))
def chunk_linear_attention(q, k, v, *, feature_map: str = "identity", normalised: bool = False,
                           scale: float | None = None, initial_state=None, output_final_state: bool = False,
                           cu_seqlens=None, cu_seqlens_cpu=None, chunk: int = 64):  # fmt: skip
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], final state or None), as spec.py defines them.

    The state is S [N,HS,K,V], normalised the pair (S, z [N,HS,K]); cu_seqlens_cpu is cu_seqlens on the CPU. chunk is a
    power of 2 of at least 16. Differentiable in q, k, v and the initial state. Raises UsageError on bad input.
    """
    if feature_map not in FEATURE_MAPS:
        raise unknown("feature map", feature_map, FEATURE_MAPS)
    return chunk_linear_state(
        q, k, v, feature_map=feature_map, normalised=normalised, scale=scale, eps=EPS, initial_state=initial_state,
        output_final_state=output_final_state, cu_seqlens=cu_seqlens, cu_seqlens_cpu=cu_seqlens_cpu, chunk=chunk,
    )  # fmt: skip
