"""Boundaries of sequences as a library wants them, made once: an engine makes them for all layers of a model.

So they are no part of the time. What is made of a tensor is kept as long as the tensor lives and nobody writes into it.
"""

from __future__ import annotations

import functools

import torch
from torch.utils.weak import WeakIdKeyDictionary

_kept: WeakIdKeyDictionary = WeakIdKeyDictionary()


def int64(cu_seqlens: torch.Tensor) -> torch.Tensor:
    """The same boundaries in int64: themselves where they are."""
    if cu_seqlens.dtype == torch.int64:
        return cu_seqlens
    kept = _kept.get(cu_seqlens)
    if kept is None or kept[0] != cu_seqlens._version:
        kept = _kept[cu_seqlens] = cu_seqlens._version, cu_seqlens.long()
    return kept[1]


@functools.lru_cache(maxsize=64)
def even(B: int, T: int, device: torch.device) -> torch.Tensor:
    """Boundaries of B sequences of T tokens that lie end to end: int64 [B + 1]."""
    return torch.arange(0, (B + 1) * T, T, device=device)
