"""The estimated duration of a sweep, from the last run of this machine, else from its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import PluginError
from suite.measuring.case import Settings
from suite.measuring.records import base_record
from suite.plan import Group
from suite.problem import Case, Problem
from suite.registry import Registry
from suite.running.progress import work_of
from suite.running.sweep import is_done
from suite.store import Key

# Without a run to learn from: seconds that the oracle takes for one token in a forward call, how many such calls a
# problem's two checks are worth, and the seconds that a case takes to be compiled and to be checked beside the oracle.
ORACLE_TOKEN_S = 2e-4
FORWARD_CALLS = 2
# A backward pass is worth two more; beyond BACKWARD_T, the second check makes three forward calls instead.
GRADIENT_CALLS = 6
LONG_CALLS = 3
CASE_S = 0.4


@dataclass(frozen=True)
class Estimate:
    """How long a sweep will take.

    groups:   (cases that are missing, seconds) of each problem and replicate, in the order in which they are measured
    runnable: how many of the missing ones can run here
    source:   where the seconds come from, in words
    reasons:  why missing cases cannot run here, each once
    before_s: seconds before the first case, in which kernels are compiled
    """

    groups: Sequence[tuple[int, float]]
    runnable: int
    source: str
    reasons: Sequence[str]
    before_s: float = 0.0

    @property
    def seconds(self) -> float:
        return self.before_s + sum(seconds for _, seconds in self.groups)

    @property
    def missing(self) -> int:
        return sum(cases for cases, _ in self.groups)

    def within(self, budget_s: float) -> int:
        """Cases of the problems that a budget has room for: a sweep stops before the first that does not fit."""
        spent, fitting = self.before_s, 0
        for cases, seconds in self.groups:
            spent += seconds
            if spent > budget_s:
                break
            fitting += cases
        return fitting

    def told(self, budget_s: float | None) -> str:
        """`about 12 min, at the pace of …`; under a budget that is shorter, how many cases it has room for."""
        if budget_s is None or self.seconds <= budget_s:
            return f"about {duration(self.seconds)}, {self.source}"
        fitting = self.within(budget_s)
        return f"about {duration(budget_s)}, the budget: room for {fitting} of {self.missing} cases, {self.source}"


def duration(seconds: float) -> str:
    """`40 s`, `3 min`, `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(
    registry: Registry,
    groups: Sequence[Group],
    settings: Settings,
    replicates: int,
    fingerprint: Mapping[str, Any],
    runs: Path,
    done: Set[Key] = frozenset(),
    before_s: float = 0.0,
) -> Estimate:
    """What a sweep of these groups will take.

    runs: the folder in which earlier runs of this machine may lie; done: keys that a continued run has already
    before_s: seconds that compiling before the first case takes, where no earlier run tells
    """
    parts = [
        (group, [case for case in group.cases if not is_done(case, settings, "timed", replicate, done)])
        for replicate in range(replicates)
        for group in groups
    ]
    refused = {case: _refusal(registry, case, settings.device) for _, missing in parts for case in missing}
    reasons = list(dict.fromkeys(reason for reason in refused.values() if reason))
    able = [(group, missing, [case for case in missing if not refused[case]]) for group, missing in parts]
    rate, source = _pace(runs, fingerprint)
    found = []
    for group, missing, runnable in able:
        if rate is None:
            seconds = _without_history(group, runnable, settings)
        else:
            seconds = rate * sum(_work(registry, case, settings) for case in runnable) * len(settings.modes)
        found.append((len(missing), seconds))
    # The pace of an earlier run has its compiling in it.
    return Estimate(found, sum(len(each) for _, _, each in able), source, reasons, before_s if rate is None else 0.0)


def _pace(runs: Path, fingerprint: Mapping[str, Any]) -> tuple[float | None, str]:
    """Seconds a unit of work, and the run that tells it; None where no run of this machine does."""
    for run in _newest_first(runs):
        if rate := _seconds_per_work(run, fingerprint):
            return rate, f"at the pace of {run}"
    return None, "without an earlier run of this machine"


def _refusal(registry: Registry, case: Case, device: str) -> str | None:
    from suite.checks.checker import refusal

    operator = registry.operator(case.operator)
    made = operator.implementations[case.implementation]
    try:
        return refusal(operator, made, case.problem, dict(case.tunables), device)
    except PluginError as error:
        # Its record is an error, made in no time.
        return str(error)


def _work(registry: Registry, case: Case, settings: Settings) -> float:
    operator = registry.operator(case.operator)
    made = operator.implementations[case.implementation]
    record = base_record(operator, made, case, kind="timed", mode="", device=settings.device_name)
    return work_of(record)


def _without_history(group: Group, runnable: Sequence[Case], settings: Settings) -> float:
    if not runnable:
        return 0.0
    timing = len(runnable) * (CASE_S + len(settings.modes) * (settings.warmup_ms + settings.rep_ms) / 1e3)
    return timing + _oracle_tokens(group.problem) * ORACLE_TOKEN_S


def _oracle_tokens(problem: Problem) -> int:
    """Tokens that the oracle takes in forward calls, and in what its gradients are worth."""
    from suite.checks.checker import BACKWARD_T

    if problem.pass_ == "decode":
        return 0
    if not problem.differentiates:
        return FORWARD_CALLS * problem.T
    if problem.T > BACKWARD_T:
        return GRADIENT_CALLS // 2 * BACKWARD_T + LONG_CALLS * problem.T
    return GRADIENT_CALLS * problem.T


def _newest_first(runs: Path) -> Iterable[Path]:
    found = [path.parent for path in runs.glob("*/environment.json")] if runs.is_dir() else []
    return sorted(found, key=lambda run: (run / "environment.json").stat().st_mtime, reverse=True)


def _seconds_per_work(run: Path, fingerprint: Mapping[str, Any]) -> float | None:
    """Seconds a unit of work in a run of the same environment; None for another one, or one that is damaged."""
    from suite.errors import StoreError
    from suite.store import read_environment, read_records

    try:
        environment = read_environment(run)
        if environment["fingerprint"] != dict(fingerprint):
            return None
        seconds = sum(((environment.get("plan") or {}).get("seconds") or {}).values())
        timed = [record for record in read_records(run) if record["kind"] == "timed"]
        work = sum(work_of(record) for record in timed if record.get("flops_exec") is not None)
    except StoreError:
        return None
    return seconds / work if work else None
