"""What the operators on these kernels register beside their functions: limits, configuration, executed FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kernels.common.shapes import MAX_DIM
from kernels.scalar_decay.decode import plan_step
from kernels.scalar_decay.plan import describe, executed, plan, searched
from kernels.scalar_decay.shape import Shape
from suite import Problem
from suite.problem import Value
from suite.tuning import Config

ShapeOf = Callable[[Problem, Mapping[str, Value]], Shape]


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """The reason why our kernels cannot serve a problem, or None."""
    if max(problem.K, problem.V) > MAX_DIM:
        return f"the kernels take head dims up to {MAX_DIM}"
    return None


def of_chunk(shape_of: ShapeOf) -> dict[str, Any]:
    """Keywords that `Operator.implementation` takes for a chunked function whose problems have these shapes."""

    def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        return describe(plan(shape_of(problem, tunables)), problem.pass_)

    def flops_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
        shape = shape_of(problem, tunables)
        return executed(shape, plan(shape), problem.pass_)

    def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, list[Config]]:
        return searched(shape_of(problem, tunables), problem.pass_)

    return {
        "origin": "ours",
        "devices": {"cuda", "interpret"},
        "search": search,
        "tunables": {"chunk": (64, 32, 128, 256)},
        "supports": supports,
        "flops_exec": flops_exec,
        "configuration": configuration,
    }


def of_step(normalised: Callable[[Problem], bool] = lambda problem: False) -> dict[str, Any]:
    """The same for a decode step; normalised: whether a problem's state has a normaliser."""

    def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        width, slices, tiles, warps = plan_step(problem.K, problem.V, normalised(problem))
        return {"step": {"slice": width, "slices": slices, "tiles": tiles, "warps": warps}}

    return {
        "origin": "ours",
        "devices": {"cuda", "interpret"},
        "passes": {"decode"},
        "supports": supports,
        "configuration": configuration,
    }
