"""What the operators' registrations share: limits, configuration, search and executed FLOPs of a problem."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels.common.shapes import MAX_DIM
from kernels.delta.decode import step_configuration, step_search
from kernels.delta.plan import Plan, Shape, executed, of_problem, plan, search
from suite import Problem
from suite.problem import Value
from suite.tuning import Config

CHUNKS = (64, 32)


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """The reason why our kernels cannot serve a problem, or None."""
    if max(problem.K, problem.V) > MAX_DIM:
        return f"our kernels take head dims up to {MAX_DIM}"
    return None


def shape_of(problem: Problem, tunables: Mapping[str, Value], gated: bool) -> Shape:
    """The shape by which a problem is planned."""
    steps = int(dict(problem.axes).get("steps", 1))
    return of_problem(problem, int(tunables["chunk"]), gated=gated, steps=steps)


def registration(gated: bool) -> dict[str, Any]:
    """The keywords with which triton_chunk is registered; gated: whether the operator has a log decay."""

    def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        """Regime, tile, warps and stages of each kernel of the problem's pass, on `suite.target()`."""
        chosen = plan(shape_of(problem, tunables, gated))
        return {kind: chosen.describe(kind) for kind in _kinds(chosen, problem.pass_)}

    def flops_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
        """Executed FLOPs of the problem's pass, on `suite.target()`."""
        shape = shape_of(problem, tunables, gated)
        return executed(shape, plan(shape), problem.pass_)

    def candidates(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, list[Config]]:
        """Configs worth measuring for each kernel of the problem's pass."""
        shape = shape_of(problem, tunables, gated)
        return search(shape, _kinds(plan(shape), problem.pass_))

    return {
        "origin": "ours",
        "devices": {"cuda", "interpret"},
        "tunables": {"chunk": CHUNKS},
        "supports": supports,
        "flops_exec": flops_exec,
        "configuration": configuration,
        "search": candidates,
    }


def _kinds(chosen: Plan, pass_: str) -> list[str]:
    forward = ["prepare", "map", "output"] if chosen.output.segmented else ["prepare", "output"]
    backward = ["state", "dq", "dk"]
    return {"fwd": forward, "bwd": backward, "fwdbwd": forward + backward}[pass_]


# The keywords with which triton_step is registered.
STEP: dict[str, Any] = {
    "origin": "ours",
    "devices": {"cuda", "interpret"},
    "passes": {"decode"},
    "supports": supports,
    "configuration": step_configuration,
    "search": step_search,
}
