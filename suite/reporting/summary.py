"""What a report says in words and tables: the first sentences, counts, reasons, crossings, doubts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.reporting.crossings import crossings
from suite.reporting.frame import TEXT, Row, Run, clean
from suite.reporting.groups import PASS_NAMES, Group, Point, by
from suite.reporting.scales import figure
from suite.roof import IMPLAUSIBLE
from suite.store import STATUSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.crossover import Verdict


@dataclass(frozen=True)
class Reason:
    """Why cases have no time: status and reason, how many cases, whose, and at which T."""

    status: str
    cases: int
    reason: str
    names: str
    lengths: str


def sentences(rows: Sequence[Row], groups: Sequence[Group]) -> list[str]:
    """For each pass: what is fastest at the largest T, and from where on linear beats quadratic."""
    passes = dict.fromkeys(group.setting.pass_ for group in groups if group.points)
    found = [
        text for pass_ in passes for text in _of_pass([g for g in groups if g.setting.pass_ == pass_ and g.points])
    ]
    timed = sum(row["kind"] == "timed" for row in rows)
    return found or [f"None of {timed:,} timed cases has a time; the tables below say why."]


def _of_pass(groups: Sequence[Group]) -> list[str]:
    """The pass's sentences, for its group with the longest T; of several, the one with most implementations."""
    group = max(groups, key=lambda group: (max(p.T for p in group.points), len(group.lines())))
    name = PASS_NAMES.get(group.setting.pass_, group.setting.pass_)
    others = f", one of {len(groups)} settings" if len(groups) > 1 else ""
    where = " · ".join(text for facet, text in group.setting.facets.items() if facet != "pass" and text)
    return [f"{clean(name).capitalize()} ({where}{others}): {_fastest(group)}{_crossing(group)}"]


def _fastest(group: Group) -> str:
    longest = max(point.T for point in group.points)
    ranked = sorted((p for p in group.points if longest == p.T), key=lambda p: p.time_ms)
    best = ranked[0]
    text = f"at T = {longest:,} the fastest is {best.label} with {figure(best.time_ms)} ms"
    rival = _rival(best, ranked[1:])
    if rival is None:
        return f"{text}, the only one with a time."
    kind = (
        "quadratic " if rival.quadratic and not best.quadratic else "linear " if rival.linear and best.quadratic else ""
    )
    ratio = figure(rival.time_ms / best.time_ms)
    return f"{text}; {rival.label}, the fastest {kind}one after it, takes {ratio} times as long."


def _rival(best: Point, others: Sequence[Point]) -> Point | None:
    """The fastest of the other kind, else the next one."""
    kinds = [p for p in others if (best.linear and p.quadratic) or (best.quadratic and p.linear)]
    return next(iter(kinds or others), None)


def _crossing(group: Group) -> str:
    found = crossings(group)
    return f" {found[0].linear} is faster than {found[0].quadratic}: {found[0].time.says}." if found else ""


def counts(rows: Sequence[Row]) -> list[tuple[str, str, int]]:
    """(kind, status, records): timed ones first, ok first."""
    known = {status: i for i, status in enumerate(STATUSES)}
    found = Counter((clean(row["kind"]), clean(row["status"])) for row in rows)
    order = sorted(found, key=lambda key: (key[0] != "timed", key[0], known.get(key[1], len(known)), key[1]))
    return [(*key, found[key]) for key in order]


def reasons(rows: Sequence[Row]) -> list[Reason]:
    """Cases that are not ok, by status and reason: the worst status first, `unsupported` last, then by frequency."""
    rank = {status: -i for i, status in enumerate(STATUSES)}
    failed = by((row for row in rows if row["status"] != "ok"), "status", "reason")
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


CROSSINGS = ("setting", "linear", "quadratic", "faster", "faster, predicted at the roof", "smaller")


def crossing_rows(groups: Sequence[Group], runs: Sequence[Run], most: int = 400) -> list[tuple[str, ...]]:
    """The rows of CROSSINGS: every pair of a linear and a quadratic implementation, at most `most` of them."""
    rows = [
        (group.setting.title, each.linear, each.quadratic, each.time.says, _says(each.predicted), _says(each.memory))
        for group in groups
        for each in crossings(group, runs)
    ]
    return rows[:most]


def _says(verdict: Verdict | None) -> str:
    return verdict.says if verdict else "not known"


def doubts(rows: Sequence[Row], runs: Sequence[Run], most: int = 10) -> list[str]:
    """What a reader must know before believing the report: figures that can not be, and records without a figure."""
    ok = [row for row in rows if row["kind"] == "timed" and row["status"] == "ok"]
    above = [row for row in ok if row["roof_pct"] > 100 * IMPLAUSIBLE]
    found = [
        f"{clean(row['case_id'], 120)} is ok with {figure(row['roof_pct'])} % of the attainable roof: more than "
        f"{IMPLAUSIBLE:.0%} means wrong FLOPs, a wrong shape or wrong timing"
        for row in above[:most]
    ]
    found += [f"and {len(above) - most} more records above the roof"] if len(above) > most else []
    timeless = sum(not row["time_ms"] > 0 for row in ok)
    found += [f"{timeless} timed records are ok but have no time: they are in the table only"] if timeless else []
    commits = sorted({run.commit for run in runs if run.commit.endswith("-dirty")})
    found += [f"commit {commit}: the code measured had uncommitted changes" for commit in commits]
    return found
