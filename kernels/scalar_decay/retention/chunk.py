"""Chunked retention in Triton: the public function; its kernels are in kernels/scalar_decay."""

from __future__ import annotations

from collections.abc import Mapping

from kernels.common.arguments import Options, state_heads
from kernels.scalar_decay.autograd import Gates, chunk_scalar_decay
from kernels.scalar_decay.register import of_chunk
from kernels.scalar_decay.retention.spec import log_decays, retention
from kernels.scalar_decay.shape import Shape, of_problem
from suite import Problem
from suite.problem import Value


def shape_of(problem: Problem, tunables: Mapping[str, Value]) -> Shape:
    """The shape by which a problem is planned."""
    return of_problem(problem, int(tunables["chunk"]), decay="head")


@retention.implementation("triton_chunk", **of_chunk(shape_of))
def chunk_retention(
    q,
    k,
    v,
    log_decay=None,
    *,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int = 64,
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], S [N,HS,K,V] or None), as spec.py defines them.

    log_decay [HS] is log gamma_h; None takes the paper's.
    cu_seqlens_cpu is cu_seqlens on the CPU. chunk is a power of 2 of at least 16. Differentiable in q, k, v and the
    initial state. Raises UsageError on bad input.
    """
    if log_decay is None:
        log_decay = log_decays(state_heads(q, v), device=q.device)
    options = Options(initial_state, output_final_state, cu_seqlens, cu_seqlens_cpu, chunk)
    return chunk_scalar_decay(q, k, v, Gates(log_decay=log_decay.detach()), scale=scale, options=options)
