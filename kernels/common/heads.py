"""Heads: giving every state head its own q, k and v where fewer are stored (GQA, value heads)."""

from __future__ import annotations

import torch


def expand_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, T, H, D] -> [B, T, heads, D], each head repeated heads / H times in place."""
    times = heads // x.shape[2]
    return x if times == 1 else x.repeat_interleave(times, dim=2)
