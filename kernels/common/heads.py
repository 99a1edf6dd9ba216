"""Heads: repeat q, k and v for every state head if fewer are stored (GQA, value heads), and sum their gradients."""

from __future__ import annotations

import torch

from suite import Problem
from suite.errors import UsageError


def unpaired(problem: Problem) -> str | None:
    """The reason why grouped attention (one head of v per head of k) cannot serve a problem, or None."""
    if problem.HK == problem.HV <= problem.H:
        return None
    heads = f"H = {problem.H}, HK = {problem.HK}, HV = {problem.HV}"
    return f"the kernels take as many heads of v as of k, at most those of q, not {heads}"


def expand_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    """[B, T, H, D] -> [B, T, heads, D], each head repeated heads / H times in place. UsageError unless H divides."""
    if not x.shape[2] or heads % x.shape[2]:
        raise UsageError(f"{x.shape[2]} heads do not divide {heads}; choose heads that do")
    times = heads // x.shape[2]
    return x if times == 1 else x.repeat_interleave(times, dim=2)


def sum_heads(dx: torch.Tensor | None, x: torch.Tensor | None) -> torch.Tensor | None:
    """[B, T, heads, D] -> the shape of x [B, T, H, D]: gradients of the heads that share one of x, summed."""
    if dx is None or x is None:
        return None
    shared = dx.shape[2] // x.shape[2]
    return dx if shared == 1 else dx.unflatten(2, (x.shape[2], shared)).sum(3)
