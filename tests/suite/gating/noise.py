"""Noise to simulate with."""

from __future__ import annotations

import math

import numpy as np

KINDS = ("normal", "heavy-tailed", "bimodal")


def noise(kind: str, draw: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of standard deviation 1."""
    if kind == "normal":
        return draw.standard_normal(shape)
    if kind == "heavy-tailed":
        return draw.standard_t(3, shape) / math.sqrt(3)
    spread = 0.95
    return np.where(draw.random(shape) < 0.5, -spread, spread) + draw.normal(0, math.sqrt(1 - spread**2), shape)
