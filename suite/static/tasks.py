"""Tasks: requests for profiles to a worker, as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from suite.problem import Case, Problem, Value
from suite.registry import Registry


@dataclass(frozen=True)
class Task:
    """One case on one architecture.

    gpu:         the GPU that stands for the architecture; "" for its representative
    all_configs: whether configurations that were not chosen are profiled too
    issued:      whether issued traffic is counted as well
    root:        the checkout whose kernels are profiled; "" for this one
    """

    case: Case
    arch: str
    gpu: str = ""
    all_configs: bool = False
    issued: bool = True
    root: str = ""

    def to_dict(self) -> dict[str, Any]:
        case = self.case
        return {
            "operator": case.operator,
            "implementation": case.implementation,
            "columns": case.problem.columns(),
            "axes": [list(pair) for pair in case.problem.axes],
            "tunables": [list(pair) for pair in case.tunables],
            "case_id": case.case_id,
            "arch": self.arch,
            "gpu": self.gpu,
            "all_configs": self.all_configs,
            "issued": self.issued,
        }


def problem_of(values: dict[str, Any]) -> tuple[Problem, dict[str, Value]]:
    """The problem and tunables of a task's dict."""
    axes = tuple((name, value) for name, value in values["axes"])
    return Problem.from_columns(values["columns"], axes), dict(values["tunables"])


def has(registry: Registry, values: dict[str, Any]) -> bool:
    """Whether a registry knows a task's operator and implementation."""
    operator = registry.operators.get(values["operator"])
    return operator is not None and values["implementation"] in operator.implementations
