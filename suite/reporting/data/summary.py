"""The text tables of a report: counts, reasons, crossings, and what a reader must know first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.reporting.data.differences import mismatches
from suite.reporting.data.frame import TEXT, Row, Run, by, clean
from suite.reporting.selfcheck import above_the_roof
from suite.store import STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.crossover import Verdict
    from suite.reporting.data.content import Panel
    from suite.reporting.data.crossings import Crossing
    from suite.reporting.data.groups import Group


@dataclass(frozen=True)
class Reason:
    """Why cases have no time: status and reason, how many cases, whose, and at which T."""

    status: str
    cases: int
    reason: str
    names: str
    lengths: str


def counts(rows: Sequence[Row]) -> list[tuple[str, str, int]]:
    """(kind, status, records): timed ones first, ok first."""
    known = {status: i for i, status in enumerate(STATUSES)}
    found = Counter((clean(row["kind"]), clean(row["status"])) for row in rows)
    order = sorted(found, key=lambda key: (key[0] != "timed", key[0], known.get(key[1], len(known)), key[1]))
    return [(*key, found[key]) for key in order]


def reasons(rows: Sequence[Row]) -> list[Reason]:
    """Cases that are not ok, by status and reason: the worst status first, `unsupported` last, then by frequency."""
    rank = {status: -i for i, status in enumerate(STATUSES)}
    # Of a hundred implementations that lack a GPU each says so of itself.
    told = ({**row, "reason": row["reason"].removeprefix(f"{row['implementation']} ")} for row in rows)
    failed = by((row for row in told if row["status"] != "ok"), "status", "reason")
    found = [_reason(status, reason, each) for (status, reason), each in failed.items()]
    return sorted(found, key=lambda each: (rank.get(each.status, 0), -each.cases))


def _reason(status: str, reason: str, rows: Sequence[Row], most: int = 6) -> Reason:
    names = sorted({row["name"] for row in rows})
    more = f" and {len(names) - most} more" if len(names) > most else ""
    shortest, longest = (how(row["T"] for row in rows) for how in (min, max))
    return Reason(
        status=clean(status),
        cases=len(rows),
        reason=clean(reason, TEXT) or "no reason was recorded",
        names=", ".join(clean(name) for name in names[:most]) + more,
        lengths=f"{shortest:,}" if shortest == longest else f"{shortest:,} to {longest:,}",
    )


CROSSINGS = ("setting", "linear", "quadratic", "faster", "faster, predicted", "less memory")


def crossing_rows(panels: Sequence[Panel], most: int = 400) -> list[tuple[str, ...]]:
    """The rows of CROSSINGS: every pair of a linear and a quadratic implementation, at most `most` of them."""
    return [crossing_row(panel.group, each) for panel in panels for each in panel.met][:most]


def crossing_row(group: Group, each: Crossing) -> tuple[str, ...]:
    """A pair's row."""
    predicted = f"{each.predicted.says} ({each.predicted_how})" if each.predicted else _says(None)
    said = (each.time.says, predicted, _says(each.memory))
    return group.setting.title, each.linear, each.quadratic, *said


def _says(verdict: Verdict | None) -> str:
    return verdict.says if verdict else "unknown"


def doubts(rows: Sequence[Row], runs: Sequence[Run], most: int = 10) -> list[str]:
    """What a reader must know before believing the report: figures that cannot be, and records without a figure."""
    ok = [row for row in rows if row["kind"] == "timed" and row["status"] == "ok"]
    above = above_the_roof(rows)
    found = above[:most] + ([f"and {len(above) - most} more records above the roofline"] if len(above) > most else [])
    timeless = sum(not row["time_ms"] > 0 for row in ok)
    found += [f"{timeless} timed records are ok but have no time: only the table shows them"] if timeless else []
    commits = sorted({run.commit for run in runs if run.commit.endswith("-dirty")})
    found += [f"commit {commit}: the code measured had uncommitted changes" for commit in commits]
    return found + _resumed(runs) + mismatches(runs)


def _resumed(runs: Sequence[Run]) -> list[str]:
    """Runs that were gone on with although something was another: their records are not of one kind."""
    lines = []
    for run in runs:
        entries = run.environment.get("resumed")
        for entry in entries if isinstance(entries, list) else []:
            differs = entry.get("differs") if isinstance(entry, Mapping) else None
            pairs = [
                f"{name} {clean(_side(pair[0]))}, then {clean(_side(pair[1]))}"
                for name, pair in (differs.items() if isinstance(differs, Mapping) else ())
                if isinstance(pair, list) and len(pair) == 2
            ]
            if pairs:
                lines.append(f"{clean(run.name)} was resumed with differences: {clean('; '.join(pairs), 300)}")
    return lines


def _side(value: object) -> object:
    return "none" if value in (None, "") else value
