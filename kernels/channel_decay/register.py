"""What the operators' chunked implementations register beside their functions."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from kernels.channel_decay.plan import Plan, Shape, executed, of_problem, plan
from kernels.channel_decay.plan import search as search_configs
from kernels.common.shapes import MAX_DIM
from suite import Problem
from suite.problem import Value

SWEEPS = {"fwd": ("output",), "bwd": ("dq", "dk_dv"), "fwdbwd": ("output", "dq", "dk_dv")}


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """The reason why our kernels cannot serve a problem, or None."""
    if max(problem.K, problem.V) > MAX_DIM:
        return f"head dims up to {MAX_DIM} are supported"
    return None


def shape_of(problem: Problem, tunables: Mapping[str, Value], **own: bool) -> Shape:
    """The shape by which a problem is planned."""
    return of_problem(problem, int(tunables["chunk"]), **own)


def configuration(problem: Problem, tunables: Mapping[str, Value], **own: bool) -> dict[str, Any]:
    """Regime, slice width, warps and stages of each sweep of the problem's pass, on `suite.target()`."""
    chosen = plan(shape_of(problem, tunables, **own))
    return chosen.describe(*_before(problem, chosen), *SWEEPS[problem.pass_])


def flops_exec(problem: Problem, tunables: Mapping[str, Value], **own: bool) -> float:
    """Executed FLOPs of the problem's pass, on `suite.target()`."""
    shape = shape_of(problem, tunables, **own)
    return executed(shape, plan(shape), problem.pass_)


def search(problem: Problem, tunables: Mapping[str, Value], **own: bool) -> dict[str, list[dict[str, int]]]:
    """Configs to try for the sweeps that the problem's pass runs, by key."""
    shape = shape_of(problem, tunables, **own)
    chosen = plan(shape)
    states = ("state",) if chosen.segmented and problem.pass_ != "bwd" else ()
    return search_configs(shape, (*_before(problem, chosen), *states, *SWEEPS[problem.pass_]))


def _before(problem: Problem, chosen: Plan) -> tuple[str, ...]:
    """What prepares chunks for the sweeps of the problem's pass."""
    return () if problem.pass_ == "bwd" or chosen.alone else ("prepare",)


def registration(**own: bool) -> dict[str, Any]:
    """Keywords of `Operator.implementation`; own: `derived` and `bonus`, as in plan.Shape."""
    return {
        "origin": "ours",
        "devices": {"cuda", "interpret"},
        "tunables": {"chunk": (64, 32, 128, 256)},
        "supports": supports,
        "flops_exec": partial(flops_exec, **own),
        "configuration": partial(configuration, **own),
        "search": partial(search, **own),
    }
