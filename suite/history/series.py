"""Series: of each case its time over the commits that were measured on one machine.

    found = gather([Path("results")])
    found.machine, [series.case_id for series in found.series]

Runs of one commit make one point: the median of their launches, with the widest interval of them.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from suite.errors import StoreError, UsageError

if TYPE_CHECKING:
    from suite.history.changes import Change, Drift


@dataclass(frozen=True)
class Point:
    """One commit of a series. Times in ms; low and high: the 95 % interval of the median, the widest of its launches"""

    commit: str
    created: str
    ms: float
    low: float
    high: float


@dataclass(frozen=True)
class Series:
    """A case in one timing mode, its points in the order in which their commits were measured first."""

    case_id: str
    mode: str
    points: tuple[Point, ...]

    def is_slower(self, found: Sequence[Change | Drift]) -> bool:
        """Whether its level at the end is above the lowest that it has had, by these changes."""
        from suite.history.changes import SMALLEST

        levels = list(accumulate((each.ratio for each in found), operator.mul, initial=1.0))
        return levels[-1] > min(levels) * (1 + SMALLEST)

    def found(self, alpha: float) -> list[Change | Drift]:
        """Its steps and drifts; alpha as in `found_in`."""
        from suite.history.changes import found_in

        return found_in([point.ms for point in self.points], alpha)


@dataclass(frozen=True)
class History:
    """The series of one machine. passed_over: damaged or unlike runs, each with the reason"""

    machine: str
    runs: int
    commits: tuple[str, ...]
    series: tuple[Series, ...]
    passed_over: tuple[str, ...] = ()


@dataclass
class _Run:
    folder: Path
    commit: str
    created: str
    fingerprint: dict[str, str]
    records: list[dict[str, Any]] = field(default_factory=list)


def gather(paths: Sequence[Path], machine: str = "") -> History:
    """The history in these folders, runs themselves or folders of runs, however deep.

    machine: the device's name, whole or a part; needed where the runs are of several
    Raises UsageError where there is no run, or they are of several machines.
    """
    runs, wrong = list[_Run](), list[str]()
    for folder in _folders(paths):
        try:
            runs.append(_read(folder))
        except StoreError as error:
            wrong.append(str(error))
    if not runs:
        why = f": {wrong[0]}" if wrong else ""
        raise UsageError(f"no run in {', '.join(map(str, paths))}{why}; name folders of runs")
    name, chosen = _of_machine(runs, machine)
    chosen.sort(key=lambda run: (run.created, str(run.folder)))
    commits = tuple(dict.fromkeys(run.commit for run in chosen))
    return History(name, len(chosen), commits, tuple(_series(chosen, commits)), tuple(wrong))


def _folders(paths: Iterable[Path]) -> list[Path]:
    """Folders that hold a run, each once."""
    from suite.store.paths import RECORDS

    found = dict[Path, None]()
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path} does not exist; name a run, or a folder of runs")
        for records in sorted(path.rglob(RECORDS)):
            found[records.parent.resolve()] = None
    return list(found)


def _read(folder: Path) -> _Run:
    from suite.store import read_environment, read_records

    environment = read_environment(folder)
    fingerprint = environment.get("fingerprint") or {}
    timed = [row for row in read_records(folder) if row["kind"] == "timed" and row["status"] == "ok"]
    commit = str(environment.get("commit") or folder.name)
    identity = {name: str(value) for name, value in fingerprint.items() if value is not None}
    return _Run(folder, commit, str(environment.get("created") or ""), identity, timed)


def _of_machine(runs: Sequence[_Run], machine: str) -> tuple[str, list[_Run]]:
    """A machine's name and its runs. Whatever of its fingerprint differs is another one: a newer torch is no commit."""
    differing = sorted({name for run in runs for name in run.fingerprint if _differs(name, runs)} - {"device"})

    def name_of(run: _Run) -> str:
        known = [f"{name} {run.fingerprint[name]}" for name in differing if name in run.fingerprint]
        return ", ".join([run.fingerprint.get("device", "unknown device"), *known])

    exactly = [run for run in runs if machine == name_of(run)]
    chosen = exactly or [run for run in runs if machine.lower() in name_of(run).lower()]
    names = sorted({name_of(run) for run in chosen or runs})
    if not chosen:
        raise UsageError(f"no run of a machine like {machine!r}; the runs are of {'; '.join(names)}")
    if len(names) > 1:
        raise UsageError(f"the runs are of {len(names)} machines; choose one with --machine: {'; '.join(names)}")
    return names[0], chosen


def _differs(name: str, runs: Sequence[_Run]) -> bool:
    return len({run.fingerprint.get(name) for run in runs}) > 1


def _series(runs: Sequence[_Run], commits: Sequence[str]) -> list[Series]:
    rows: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    created: dict[str, str] = {}
    for run in runs:
        created.setdefault(run.commit, run.created)
        for row in run.records:
            rows.setdefault((row["case_id"], row["mode"]), {}).setdefault(run.commit, []).append(row)
    return [
        Series(case_id, mode, tuple(_point(c, created[c], by_commit[c]) for c in commits if c in by_commit))
        for (case_id, mode), by_commit in sorted(rows.items())
    ]


def _point(commit: str, created: str, rows: Sequence[dict[str, Any]]) -> Point:
    times = [row["time_ms"] for row in rows]
    low = min(row.get("ci_low_ms") or row["time_ms"] for row in rows)
    high = max(row.get("ci_high_ms") or row["time_ms"] for row in rows)
    return Point(commit, created, median(times), low, high)
