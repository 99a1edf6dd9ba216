"""PyTorch's FlexAttention under a block mask of the band, compiled: blocks outside of it are skipped.

The block mask of a length is made in the first call and kept: it is not part of the time.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from baselines.attention.sliding_window_attention.band import sees
from baselines.attention.softmax_attention.flex import attend, supports
from kernels.attention.sliding_window_attention.spec import sliding_window_attention


@sliding_window_attention.implementation("flex", origin="baseline", supports=supports)
def flex(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = True,
    window: int = 1024,
    dilation: int = 1,
    scale: float | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] -> (o [B,T,H,V], None). Raises as softmax attention's `flex` does."""
    return attend(q, k, v, _mask(q.shape[1], causal, window, dilation, q.device), scale), None


@lru_cache(maxsize=32)
def _mask(T: int, causal: bool, window: int, dilation: int, device: torch.device) -> BlockMask:
    def band(b: torch.Tensor, h: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        return sees(query, key, causal, window, dilation)

    return create_block_mask(band, None, None, T, T, device=str(device))
