"""Chunked delta rule in Triton, registered: the kernels are in kernels/delta."""

from __future__ import annotations

from kernels.delta.autograd import chunk_delta
from kernels.delta.delta_rule.spec import delta_rule
from kernels.delta.register import registration


@delta_rule.implementation("triton_chunk", **registration(gated=False))
def chunk_delta_rule(
    q,
    k,
    v,
    beta,
    *,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int = 64,
):
    """q, k [B,T,H,K], v [B,T,HV,V], beta [B,T,HV] -> (o [B,T,HV,V], final state or None), as spec.py defines them.

    The state is S [N,HV,K,V]; cu_seqlens_cpu is cu_seqlens on the CPU. chunk is a power of 2 of at least 16.
    Differentiable in every float input. Raises UsageError on bad input.
    """
    cuts = {"cu_seqlens": cu_seqlens, "cu_seqlens_cpu": cu_seqlens_cpu}
    states = {"initial_state": initial_state, "output_final_state": output_final_state}
    return chunk_delta(q, k, v, beta, None, steps=1, l2norm=l2norm, scale=scale, chunk=chunk, **states, **cuts)
