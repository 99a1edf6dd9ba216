"""Records of kind `static`: a profile as a row of a run. See docs/records.md and docs/static.md.

Example::

    for record in records(registry, groups, archs=("sm_90",)):
        writer.append(record)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from suite.static.model import Profile
from suite.static.pool import JOBS, LEFT_OUT, TASK_S, take_profiles
from suite.static.progress import Progress, silent
from suite.static.tasks import Task

if TYPE_CHECKING:
    from suite.plan import Group
    from suite.problem import Case
    from suite.registry import Registry
    from suite.running.budget import Budget

KIND = MODE = "static"
# Whose kernels are compiled; what PyTorch compiles for itself is not looked into.
COMPILED = ("ours", "peer")
ARCHS = ("sm_90",)


def static_cases(registry: Registry, groups: Iterable[Group], origins: Sequence[str] = ("ours",)) -> list[Case]:
    """The cases of a plan that have kernels to compile: implementations of these origins that run on a GPU."""

    def wanted(case: Case) -> bool:
        made = registry.implementation(case.operator, case.implementation)
        return made.origin in origins and "cuda" in made.devices

    return [case for group in groups for case in group.cases if wanted(case)]


def records(
    registry: Registry,
    groups: Iterable[Group],
    archs: Sequence[str] = ARCHS,
    *,
    origins: Sequence[str] = ("ours",),
    load: Sequence[str] = (),
    jobs: int = JOBS,
    commit: str = "",
    issued: bool = True,
    progress: Progress = silent,
    timeout_s: float = TASK_S,
    budget: Budget | None = None,
) -> list[dict[str, Any]]:
    """One record a case and architecture: the static profiles of a plan's Triton kernels, taken in worker processes.

    What the budget leaves no time for has no record.

    archs:     "sm_80", "sm_90", "sm_100"
    origins:   whose implementations; ours by default
    issued:    whether issued traffic is counted as well, in the interpreter
    timeout_s: the longest that one profile may take
    budget:    how long all may take
    progress:  who is told how it goes; suite.static.progress.shown for a terminal
    """
    cases = static_cases(registry, groups, origins)
    tasks = [Task(case, arch, issued=issued) for case in cases for arch in archs]
    if not tasks:
        return []
    profiles = take_profiles(tasks, load=load, jobs=jobs, progress=progress, timeout_s=timeout_s, budget=budget)
    taken = [(task, p) for task, p in zip(tasks, profiles, strict=True) if p and p.status != LEFT_OUT]
    return [record_of(registry, task, p, commit) for task, p in taken]


def timed_cases(registry: Registry, rows: Iterable[Mapping[str, Any]]) -> tuple[list[Case], list[str]]:
    """The cases that records of kind `timed` are of, each once, and the names of those that are not registered here."""
    from suite.gating.capabilities import served

    cases: dict[str, Case] = {}
    unknown: dict[str, None] = {}
    for row in rows:
        if row["kind"] != "timed" or row["case_id"] in cases:
            continue
        found = served(
            registry,
            {
                "operator": row["operator"],
                "implementation": row["implementation"],
                "problem": row,
                "axes": _part(row, "axis."),
                "tunables": _part(row, "tunable."),
            },
        )
        if found is None:
            unknown[f"{row['operator']}/{row['implementation']}"] = None
        else:
            cases[row["case_id"]] = found.case
    return list(cases.values()), list(unknown)


def _part(row: Mapping[str, Any], group: str) -> dict[str, Any]:
    return {name[len(group) :]: value for name, value in row.items() if name.startswith(group)}


def record_of(registry: Registry, task: Task, profile: Profile, commit: str = "") -> dict[str, Any]:
    """The record of one profile. Only status `ok` carries figures, except that over a limit they say by how much."""
    from suite.measuring.records import base_record, with_status

    case = task.case
    operator = registry.operator(case.operator)
    made = registry.implementation(case.operator, case.implementation)
    row = base_record(operator, made, case, kind=KIND, mode=MODE, device=task.arch, commit=commit)
    return with_status(row, profile.status, profile.reason) | profile.columns()
