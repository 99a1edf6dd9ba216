"""Chunked HGRN-2 in Triton: the public function; its kernels are in kernels/channel_decay."""

from __future__ import annotations

from kernels.channel_decay.autograd import chunk_channel_decay
from kernels.channel_decay.hgrn2.spec import hgrn2
from kernels.channel_decay.register import registration
from kernels.common.arguments import Options


@hgrn2.implementation("triton_chunk", **registration(derived=True))
def chunk_hgrn2(
    q,
    v,
    log_decay,
    *,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int = 64,
):
    """q [B,T,H,K], v [B,T,HV,V], log_decay [B,T,HS,K] -> (o [B,T,HS,V], S [N,HS,K,V] or None).

    The keys 1 - exp(log_decay) are made in the kernels. cu_seqlens_cpu is cu_seqlens on the CPU. chunk is a power of 2
    of at least 16. Differentiable in every float input. Raises UsageError on bad input.
    """
    options = Options(initial_state, output_final_state, cu_seqlens, cu_seqlens_cpu, chunk)
    return chunk_channel_decay(q, None, v, log_decay, scale=scale, options=options)
