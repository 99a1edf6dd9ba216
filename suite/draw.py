"""Drawing inputs: random tensors on a generator's device, in a problem's dtype."""

from __future__ import annotations

import torch

from suite import dtypes


def normal(generator: torch.Generator, *shape: int, dtype: str) -> torch.Tensor:
    """Standard normal values, drawn in float32 and rounded to `dtype`."""
    drawn = torch.randn(shape, generator=generator, device=generator.device)
    return drawn.to(dtypes.torch_dtype(dtype))


def uniform(generator: torch.Generator, *shape: int, dtype: str, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Uniform values in [low, high), drawn in float32 and rounded to `dtype`."""
    drawn = torch.rand(shape, generator=generator, device=generator.device)
    return (drawn * (high - low) + low).to(dtypes.torch_dtype(dtype))
