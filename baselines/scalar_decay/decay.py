"""Decays from logarithms: cumulated in float64, since differences of long sums are taken, and never above 1."""

from __future__ import annotations

import torch

# exp of this is 0 in float64 too; -inf would make differences NaN.
LOWEST = -1e3


def cumulated(log_decay: torch.Tensor) -> torch.Tensor:
    """Sums over the last dimension up to and with each element, float64."""
    return log_decay.double().clamp(min=LOWEST).cumsum(-1)


def between(later: torch.Tensor, earlier: torch.Tensor, dtype: torch.dtype, diagonal: int = 0) -> torch.Tensor:
    """exp(later_i - earlier_j) [..., I, J] in `dtype` for j <= i + diagonal, 0 elsewhere; both are sums.

    The difference is taken in `dtype` of a sum's high and low part, so that no [I, J] is float64.
    """
    parts = [(x.to(dtype), (x - x.to(dtype).double()).to(dtype)) for x in (later, earlier)]
    (high_i, low_i), (high_j, low_j) = parts
    exponent = (high_i[..., :, None] - high_j[..., None, :]) + (low_i[..., :, None] - low_j[..., None, :])
    kept = torch.ones(exponent.shape[-2:], dtype=torch.bool, device=exponent.device).tril(diagonal)
    return exponent.masked_fill(~kept, -torch.inf).exp()


def a_token(log_decay: torch.Tensor, q: torch.Tensor, heads: int) -> torch.Tensor:
    """log_decay [HS] or [B,T,HS] -> [B,T,HS], for q [B,T,…]."""
    return log_decay.expand(*q.shape[:2], heads)
