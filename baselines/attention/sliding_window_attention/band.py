"""The band: which keys a query sees, as a mask that PyTorch's own kernels take; a length's is made once and kept."""

from __future__ import annotations

from functools import lru_cache

import torch


@lru_cache(maxsize=32)
def seen(T: int, causal: bool, window: int, dilation: int, device: torch.device) -> torch.Tensor:
    """[T, T], true where query t (row) sees key j (column)."""
    at = torch.arange(T, device=device)
    return sees(at[:, None], at[None, :], causal, window, dilation)


def sees(query: torch.Tensor, key: torch.Tensor, causal: bool, window: int, dilation: int) -> torch.Tensor:
    """Whether queries see keys, by their tokens, broadcast against each other."""
    behind = query - key
    near = (behind.abs() < window * dilation) & (behind % dilation == 0)
    return near & (behind >= 0) if causal else near
