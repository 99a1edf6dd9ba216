"""Chunked gated delta products in Triton, registered: the kernels are in kernels/delta."""

from __future__ import annotations

from kernels.common.arguments import check_given
from kernels.delta.autograd import chunk_delta
from kernels.delta.gated_delta_product.spec import gated_delta_product
from kernels.delta.register import registration


@gated_delta_product.implementation("triton_chunk", **registration(gated=True))
def chunk_gated_delta_product(
    q,
    k,
    v,
    beta,
    log_decay,
    *,
    steps: int = 2,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int = 64,
):
    """q [B,T,H,K], k [B,T,n,H,K], v [B,T,n,HV,V], beta [B,T,n,HV], log_decay [B,T,HV] -> (o [B,T,HV,V], state or None).

    The state is S [N,HV,K,V]; cu_seqlens_cpu is cu_seqlens on the CPU; chunk must be a power of two >= 16.
    Differentiable in every float input. Raises UsageError on bad input.
    """
    check_given(log_decay=log_decay)
    cuts = {"cu_seqlens": cu_seqlens, "cu_seqlens_cpu": cu_seqlens_cpu}
    states = {"initial_state": initial_state, "output_final_state": output_final_state}
    return chunk_delta(q, k, v, beta, log_decay, steps=steps, l2norm=l2norm, scale=scale, chunk=chunk, **states, **cuts)
