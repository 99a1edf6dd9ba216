"""Shapes: what the implementations of softmax attention have in common about dimensions and caches."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from suite import Problem
from suite.problem import Value

Cache = tuple[torch.Tensor, torch.Tensor]


def same_dims(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why K and V may not differ in a kernel that has one head dimension, or None when they do not."""
    if problem.K != problem.V:
        return f"takes one head dimension for k and v, not K{problem.K} V{problem.V}"
    return None


def append(state: Cache, k: torch.Tensor, v: torch.Tensor) -> Cache:
    """Write one token's k [B,1,HK,K] and v [B,1,HV,V] into the cache's last row; returns (k_cache, v_cache)."""
    k_cache, v_cache = state
    k_cache[:, -1:] = k
    v_cache[:, -1:] = v
    return k_cache, v_cache
