"""Entries: the cases of stored runs for the analysis, each with one time, its static profile and its counters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

Record = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One case in one mode.

    problem:  the operator and its problem, as case ids write it, without implementation and tunables
    time_ms:  the median over replicates; NaN where the status is not ok
    row:      the record of the last replicate
    static:   the record of its static profile, empty where there is none
    """

    operator: str
    implementation: str
    origin: str
    problem: str
    pass_: str
    status: str
    reason: str
    time_ms: float
    row: Record = field(repr=False)
    static: Record = field(repr=False)

    @property
    def name(self) -> str:
        """OPERATOR/IMPLEMENTATION."""
        return f"{self.operator}/{self.implementation}"

    def figure(self, name: str) -> float:
        """A number of the record or of its profile; NaN where it is not known."""
        value = self.row.get(name, self.static.get(name))
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan


def entries(records: Sequence[Record], mode: str = "") -> list[Entry]:
    """Entries of the timed records of one mode, by default the one that most records have."""
    timed = [row for row in records if row["kind"] == "timed"]
    modes = [row["mode"] for row in timed]
    mode = mode or max(dict.fromkeys(modes), key=modes.count, default="")
    static = {
        row["case_id"]: row for row in records if row["kind"] == "static" and row["status"] in ("ok", "over_limit")
    }
    cases: dict[str, list[Record]] = {}
    for row in timed:
        if row["mode"] == mode:
            cases.setdefault(row["case_id"], []).append(row)
    return [_entry(rows, static.get(case_id, {})) for case_id, rows in cases.items()]


def _entry(rows: Sequence[Record], static: Record) -> Entry:
    row = next((each for each in rows if each["status"] != "ok"), rows[-1])
    ok = row["status"] == "ok"
    return Entry(
        row["operator"],
        row["implementation"],
        row["origin"],
        row["problem_id"],
        row["pass"],
        row["status"],
        str(row["reason"]),
        median(each["time_ms"] for each in rows) if ok else math.nan,
        row,
        static,
    )


def best(found: Iterable[Entry]) -> Entry | None:
    """The fastest of the entries that have a time."""
    return min((each for each in found if each.status == "ok"), key=lambda each: each.time_ms, default=None)


def by_problem(found: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Entries of each problem, in their order."""
    problems: dict[str, list[Entry]] = {}
    for each in found:
        problems.setdefault(each.problem, []).append(each)
    return problems
