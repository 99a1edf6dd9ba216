"""Precision: the dtype in which a plain PyTorch baseline multiplies."""

from __future__ import annotations

import torch


def widen(x: torch.Tensor) -> torch.Tensor:
    """x in float32, or in float64 where it has that already."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
