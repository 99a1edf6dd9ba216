"""Tasks: requests to a worker for profiles, or for compiled kernels, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from suite.problem import Case, Problem, Value
from suite.registry import Registry
from suite.static.stub_driver import target_of
from suite.targets import REPRESENTATIVES, Target


@dataclass(frozen=True)
class Task:
    """One case on one architecture.

    gpu:         the GPU that stands for the architecture; "" for its representative
    all_configs: whether configurations that were not chosen are profiled too
    issued:      whether issued traffic is counted as well
    explained:   whether each launch says why it takes its predicted time
    root:        the checkout whose kernels are profiled; "" for this one
    forced:      configs that tuning tries, by key, in place of those of the tables; None is the family's own
    """

    case: Case
    arch: str
    gpu: str = ""
    all_configs: bool = False
    issued: bool = True
    root: str = ""
    forced: Mapping[str, Mapping[str, int] | None] = field(default_factory=dict)
    explained: bool = False

    @property
    def target(self) -> Target:
        """The device that the worker answers for."""
        return target_of(self.arch, self.gpu)

    @property
    def cache(self) -> str:
        """The Triton cache that the worker fills; "" for the one that its kind of task has."""
        return ""

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
            "explained": self.explained,
            "forced": {key: config and dict(config) for key, config in self.forced.items()},
        }


@dataclass(frozen=True)
class Ahead(Task):
    """The kernels that a run will launch for a case, compiled into the cache that the run will use.

    device: the GPU of the run, as `suite.target()` answers there
    folder: its Triton cache; "" for Triton's own
    calls:  what the run does with the case, one of suite.static.compiling.CALLS
    part:   of the configurations that autotuners try, every `parts`-th from this one, and with 0 all other kernels
    """

    device: Target = REPRESENTATIVES["sm_90"]
    folder: str = ""
    calls: str = "timed"
    part: int = 0
    parts: int = 1

    @property
    def target(self) -> Target:
        return self.device

    @property
    def cache(self) -> str:
        return self.folder

    def to_dict(self) -> dict[str, Any]:
        more = {"device": asdict(self.device), "folder": self.folder, "calls": self.calls}
        more |= {"part": self.part, "parts": self.parts}
        return super().to_dict() | more


def problem_of(values: dict[str, Any]) -> tuple[Problem, dict[str, Value]]:
    """The problem and tunables of a task's dict."""
    axes = tuple((name, value) for name, value in values["axes"])
    return Problem.from_columns(values["columns"], axes), dict(values["tunables"])


def has(registry: Registry, values: dict[str, Any]) -> bool:
    """Whether a registry knows a task's operator and implementation."""
    operator = registry.operators.get(values["operator"])
    return operator is not None and values["implementation"] in operator.implementations
