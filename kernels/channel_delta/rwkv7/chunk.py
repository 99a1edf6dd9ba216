"""Chunked RWKV-7 in Triton, registered: the kernels are in kernels/channel_delta."""

from __future__ import annotations

from kernels.channel_delta.autograd import chunk_channel_delta
from kernels.channel_delta.register import registration
from kernels.channel_delta.rwkv7.spec import rwkv7


@rwkv7.implementation(
    "triton_chunk",
    origin="ours",
    devices={"cuda", "interpret"},
    tunables={"chunk": (64, 32)},
    **registration(dplr=True),
)
def chunk_rwkv7(
    q,
    k,
    v,
    log_decay,
    a,
    b,
    *,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int = 64,
):
    """q, k [B,T,H,K], v [B,T,HV,V], log_decay, a, b [B,T,HV,K] -> (o [B,T,HV,V], final state or None).

    As spec.py defines them; the state is S [N,HV,K,V]. cu_seqlens_cpu is cu_seqlens on the CPU; chunk is a power of 2
    of at least 16, and 64 tokens (fp32: 32 or 16) at most are taken at a time. Differentiable in every tensor. Raises
    UsageError on bad input.
    """
    cuts = {"cu_seqlens": cu_seqlens, "cu_seqlens_cpu": cu_seqlens_cpu}
    states = {"initial_state": initial_state, "output_final_state": output_final_state}
    scale = 1.0 if scale is None else scale
    return chunk_channel_delta(q, k, v, log_decay, a=a, b=b, l2norm=False, scale=scale, chunk=chunk, **states, **cuts)
