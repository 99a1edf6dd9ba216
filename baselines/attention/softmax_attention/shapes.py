"""Shapes: what the implementations of softmax attention have in common about dimensions."""

from __future__ import annotations

from collections.abc import Mapping

from suite import Problem
from suite.problem import Value


def same_dims(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why K and V may not differ in a kernel that has one head dimension, or None when they do not."""
    if problem.K != problem.V:
        return f"takes one head dimension for k and v, not K{problem.K} V{problem.V}"
    return None
