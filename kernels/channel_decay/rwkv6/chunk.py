"""Chunked RWKV-6 in Triton: the public function; its kernels are in kernels/channel_decay."""

from __future__ import annotations

from kernels.channel_decay.autograd import chunk_channel_decay
from kernels.channel_decay.register import registration
from kernels.channel_decay.rwkv6.spec import rwkv6
from kernels.common.arguments import Options, check_given


@rwkv6.implementation("triton_chunk", **registration(bonus=True))
def chunk_rwkv6(
    q,
    k,
    v,
    log_decay,
    u,
    *,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int = 64,
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [B,T,HS,K], u [HS,K] -> (o [B,T,HS,V], S [N,HS,K,V] or None).

    cu_seqlens_cpu is cu_seqlens on the CPU. chunk is a power of 2 of at least 16. Differentiable in every float input.
    Raises UsageError on bad input.
    """
    check_given(k=k, u=u)
    options = Options(initial_state, output_final_state, cu_seqlens, cu_seqlens_cpu, chunk)
    scale = 1.0 if scale is None else scale
    return chunk_channel_decay(q, k, v, log_decay, u=u, scale=scale, options=options)
