"""Naive: sliding-window attention by the full matrix of scores, all but the band masked, multiplied in float32.

Source: Beltagy et al. 2020, arXiv:2004.05150.
"""

from __future__ import annotations

import torch

from baselines.attention.sliding_window_attention.band import seen
from baselines.attention.softmax_attention.naive import by_squares, square_flops
from kernels.attention.sliding_window_attention.spec import sliding_window_attention
from kernels.common.packed import host_copy


@sliding_window_attention.implementation("naive", origin="baseline", flops_exec=square_flops)
def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = True,
    window: int = 1024,
    dilation: int = 1,
    scale: float | None = None,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] -> (o [B,T,H,V], None); one packed sequence after the other."""

    def hidden(T: int) -> torch.Tensor:
        return ~seen(T, causal, window, dilation, q.device)

    return by_squares(q, k, v, hidden, scale, host_copy(cu_seqlens, cu_seqlens_cpu, q)), None
