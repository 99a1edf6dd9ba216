"""What the operators on these kernels register beside their functions: limits, configuration, executed FLOPs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kernels.attention.plan import describe, executed, searched
from kernels.attention.shape import WAYS, Shape, refuse_descriptors
from kernels.common.heads import unpaired
from kernels.common.shapes import MAX_DIM
from suite import Problem
from suite.problem import Value
from suite.tuning import Config

ShapeOf = Callable[[Problem, Mapping[str, Value]], Shape]


def of_flash(shape_of: ShapeOf) -> dict[str, Any]:
    """Keywords that `Operator.implementation` takes for a function whose problems have these shapes."""

    def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
        if max(problem.K, problem.V) > MAX_DIM:
            return f"the kernels take head dims up to {MAX_DIM}"
        if reason := unpaired(problem):
            return reason
        return refuse_descriptors(shape_of(problem, tunables)) if tunables["loads"] == "descriptors" else None

    def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        return describe(shape_of(problem, tunables), problem.pass_)

    def flops_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
        return executed(shape_of(problem, tunables), problem.lengths, problem.pass_)

    def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, list[Config]]:
        return searched(shape_of(problem, tunables), problem.pass_)

    return {
        "origin": "ours",
        "devices": {"cuda", "interpret"},
        "tunables": {"loads": WAYS},
        "supports": supports,
        "configuration": configuration,
        "flops_exec": flops_exec,
        "search": search,
    }
