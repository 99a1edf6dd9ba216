"""FlashAttention 2 and 4 with their window_size: adapters to the packages flash-attn and flash-attn-4. CUDA only.

window_size = (left, right) counts the neighbours on each side, the token itself left out. Neither library dilates.
"""

from __future__ import annotations

import torch

from baselines.attention.softmax_attention.flash_attention import (
    FLASH_2,
    FLASH_4,
    HALVES,
    call_2,
    call_4,
    supports_2,
    supports_4,
)
from kernels.attention.sliding_window_attention.spec import sliding_window_attention


def sides(causal: bool, window: int) -> tuple[int, int]:
    """window_size of a window that counts the token itself."""
    return window - 1, 0 if causal else window - 1


@sliding_window_attention.implementation(
    "flash_attn_2",
    origin="peer",
    devices={"cuda"},
    dtypes=HALVES,
    requires=FLASH_2,
    supports=supports_2,
    deterministic=False,
)
def flash_attn_2(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = True,
    window: int = 1024,
    scale: float | None = None,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k, v [B,T,HK,K] -> (o [B,T,H,K], None). Its backward pass adds dq atomically."""
    options = {"softmax_scale": scale, "causal": causal, "window_size": sides(causal, window)}
    return call_2(q, k, v, cu_seqlens, cu_seqlens_cpu, **options), None


@sliding_window_attention.implementation(
    "flash_attn_4",
    origin="peer",
    devices={"cuda"},
    dtypes=HALVES,
    requires=FLASH_4,
    supports=supports_4,
    deterministic=False,
)
def flash_attn_4(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = True,
    window: int = 1024,
    scale: float | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] -> (o [B,T,H,V], None). Its backward pass adds dq atomically."""
    return call_4(q, k, v, softmax_scale=scale, causal=causal, window_size=sides(causal, window)), None
