"""Drawing inputs: random tensors on a generator's device, in a problem's dtype."""

from __future__ import annotations

import torch

from suite import dtypes
from suite.problem import Problem


def normal(generator: torch.Generator, *shape: int, dtype: str) -> torch.Tensor:
    """Standard normal values, drawn in float32 and rounded to `dtype`."""
    drawn = torch.randn(shape, generator=generator, device=generator.device)
    return drawn.to(dtypes.torch_dtype(dtype))


def uniform(generator: torch.Generator, *shape: int, dtype: str, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
    """Uniform values in [low, high), drawn in float32 and rounded to `dtype`."""
    drawn = torch.rand(shape, generator=generator, device=generator.device)
    return (drawn * (high - low) + low).to(dtypes.torch_dtype(dtype))


def qkv(problem: Problem, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Standard normal q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V]; one token of each in decode."""
    p = problem
    length = 1 if p.pass_ == "decode" else p.T
    heads = {"q": (p.H, p.K), "k": (p.HK, p.K), "v": (p.HV, p.V)}
    return {name: normal(generator, p.B, length, h, d, dtype=p.dtype) for name, (h, d) in heads.items()}
