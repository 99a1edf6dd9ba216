"""What the operators' registrations share: limits, configuration, executed FLOPs and configs worth tuning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels.channel_delta.decode import WARPS, plan_step
from kernels.channel_delta.plan import Shape, candidates, executed, launched, of_problem, plan
from kernels.common.shapes import MAX_DIM
from suite import Problem
from suite.problem import Value


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """The reason why our kernels cannot serve a problem, or None."""
    if max(problem.K, problem.V) > MAX_DIM:
        return f"our kernels take head dims up to {MAX_DIM}"
    return None


def registration(*, dplr: bool) -> dict[str, Any]:
    """The functions of (problem, tunables) that an implementation registers, for `suite.target()`."""

    def shape_of(problem: Problem, tunables: Mapping[str, Value]) -> Shape:
        l2norm = not dplr and bool(problem.axis("l2norm"))
        return of_problem(problem, int(tunables["chunk"]), dplr=dplr, l2norm=l2norm)

    def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        chosen = plan(shape_of(problem, tunables))
        return {kind: chosen.describe(kind) for kind in launched(chosen, problem.pass_)}

    def flops_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
        shape = shape_of(problem, tunables)
        return executed(shape, plan(shape), problem.pass_)

    def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, list[dict[str, int]]]:
        return candidates(shape_of(problem, tunables), problem.pass_)

    return {"supports": supports, "configuration": configuration, "flops_exec": flops_exec, "search": search}


def step_configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """The step's tile and programs a head."""
    width, slices = plan_step(problem.V)
    return {"step": {"slice": width, "slices": slices, "warps": WARPS}}
