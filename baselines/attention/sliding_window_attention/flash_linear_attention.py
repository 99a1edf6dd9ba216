"""Sliding-window attention of flash-linear-attention: parallel_attn with a window_size: causal, no dilation, CUDA."""

from __future__ import annotations

import torch

from baselines.attention.softmax_attention.flash_linear_attention import FLA, HALVES, call, supports
from kernels.attention.sliding_window_attention.spec import sliding_window_attention


@sliding_window_attention.implementation(
    "fla_parallel", origin="peer", devices={"cuda", "interpret"}, dtypes=HALVES, requires=FLA, supports=supports
)
def fla_parallel(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    window: int = 1024,
    scale: float | None = None,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] -> (o [B,T,H,V], None); its window counts the token itself, as ours."""
    return call(q, k, v, window_size=window, scale=scale, cu_seqlens=cu_seqlens), None
