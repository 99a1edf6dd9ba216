"""How long a sweep will take, told before it starts: from the last run of this machine, else from its settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suite.errors import PluginError
from suite.measuring.case import Settings
from suite.measuring.records import base_record
from suite.plan import Group
from suite.problem import Case
from suite.registry import Registry
from suite.running.progress import work_of

# Without a run to learn from: seconds that the oracle takes for one token, three times that with gradients, and that a
# case takes to be compiled and to be checked beside it.
ORACLE_TOKEN_S = 2e-4
CASE_S = 0.3


@dataclass(frozen=True)
class Estimate:
    """Seconds, and where they come from in words."""

    seconds: float
    source: str


def estimate(registry: Registry, groups: Sequence[Group], settings: Settings, launches: int,
             fingerprint: Mapping[str, Any], runs: Path) -> Estimate:  # fmt: skip
    """Seconds of a sweep of these groups. runs: the folder in which earlier runs of this machine may lie."""
    runnable = [case for group in groups for case in group.cases if _runs(registry, case, settings.device)]
    work = sum(_work(registry, case, settings) for case in runnable) * launches * len(settings.modes)
    for run in _newest_first(runs):
        rate = _seconds_per_work(run, fingerprint)
        if rate:
            return Estimate(work * rate, f"at the pace of {run}")
    return Estimate(_without_history(groups, runnable, settings) * launches, "without an earlier run of this machine")


def _runs(registry: Registry, case: Case, device: str) -> bool:
    operator = registry.operator(case.operator)
    made = operator.implementations[case.implementation]
    try:
        return device in made.devices and not made.unsupported(case.problem, dict(case.tunables), operator.axes)
    except PluginError:
        # Its record is an error, made in no time.
        return False


def _work(registry: Registry, case: Case, settings: Settings) -> float:
    operator = registry.operator(case.operator)
    made = operator.implementations[case.implementation]
    record = base_record(operator, made, case, kind="timed", mode="", device=settings.device_name)
    return work_of(record)


def _without_history(groups: Sequence[Group], runnable: Sequence[Case], settings: Settings) -> float:
    timing = len(runnable) * (CASE_S + len(settings.modes) * (settings.warmup_ms + settings.rep_ms) / 1e3)
    tokens = sum(g.problem.T * (3 if g.problem.differentiates else 1) for g in groups if g.problem.pass_ != "decode")
    return timing + tokens * ORACLE_TOKEN_S


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
