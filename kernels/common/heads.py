"""Heads: giving every state head its own q, k and v where fewer are stored (GQA, value heads), and back."""

from __future__ import annotations

import torch


def expand_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, T, H, D] -> [B, T, heads, D], each head repeated heads / H times in place."""
    times = heads // x.shape[2]
    return x if times == 1 else x.repeat_interleave(times, dim=2)


def sum_heads(dx: torch.Tensor | None, x: torch.Tensor | None) -> torch.Tensor | None:
    """[B, T, heads, D] -> the shape of x [B, T, H, D]: gradients of the heads that share one of x, summed."""
    if dx is None or x is None:
        return None
    shared = dx.shape[2] // x.shape[2]
    return dx if shared == 1 else dx.unflatten(2, (x.shape[2], shared)).sum(3)
