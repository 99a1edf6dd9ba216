"""Differences between runs in one report: each later run against the first one, case by case.

The rule is that of `compare`: a change in time counts beyond 5 % where both 95 % intervals are disjoint.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from suite.compare import Time, judge
from suite.reporting.charts.model import Ceiling, Chart, Series
from suite.reporting.charts.scales import figure, length_axis, log_axis
from suite.reporting.charts.series import Styles, alt_text, by_last, hover, length_label, line
from suite.reporting.data.frame import Row, Run, by, clean
from suite.reporting.renderers.tables import Table, table

if TYPE_CHECKING:
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Point

THRESHOLD = 0.05
COLUMNS = {
    "change": "change",
    "against": "run",
    "case_id": "case",
    "mode": "timing",
    "before": "ms before",
    "after": "ms after",
    "ratio": "time, ratio",
    "memory": "memory, ratio",
    "error": "error, ratio",
    "reason": "reason",
}
MOST_ROWS = 2000
# How a change is ordered where it has no ratio: what was lost first.
LOST, FOUND = "lost", "new time"


@dataclass(frozen=True)
class Difference:
    """One case of a later run against the first: `row` has the columns of COLUMNS, `size` sorts rows."""

    change: str
    run: int
    row: Row
    size: float


def differences(rows: Sequence[Row], runs: Sequence[Run]) -> list[Difference]:
    """Every timed case that both the first run and a later one have, the largest change first."""
    timed = by((row for row in rows if row["kind"] == "timed"), "case_id", "mode", "run")
    found = []
    for (case_id, mode, run), after in timed.items():
        before = timed.get((case_id, mode, 0))
        if run and before:
            found.append(_difference(before, after, clean(runs[run].name)))
    return sorted((each for each in found if each), key=lambda each: -each.size)


def _difference(before: Sequence[Row], after: Sequence[Row], name: str) -> Difference | None:
    one, other = ([row for row in side if row["status"] == "ok" and row["time_ms"] > 0] for side in (before, after))
    row: Row = {"against": name, "case_id": after[0]["case_id"], "mode": after[0]["mode"]}
    if not (one and other):
        if not (one or other):
            return None
        failed = (before if other else after)[0]
        row |= {"change": FOUND if other else LOST, "reason": f"{failed['status']}: {failed['reason']}"}
        return Difference(row["change"], after[0]["run"], row, 1e6 if other else math.inf)
    x, y = _time(one), _time(other)
    verdict = judge(x, y, THRESHOLD)
    row |= {
        "change": verdict.verdict,
        "before": x.median,
        "after": y.median,
        "ratio": y.median / x.median,
        "memory": _ratio(one, other, "memory_mib"),
        "error": _ratio(one, other, "error"),
        "reason": verdict.reason,
    }
    return Difference(verdict.verdict, after[0]["run"], row, abs(math.log(row["ratio"])))


def _time(rows: Sequence[Row]) -> Time:
    times = [row["time_ms"] for row in rows]
    bounds = [bound for row in rows for bound in (row["ci_low_ms"], row["ci_high_ms"]) if bound > 0] + times
    return Time(median(times), min(bounds), max(bounds))


def _ratio(one: Sequence[Row], other: Sequence[Row], name: str) -> float:
    x, y = one[0][name], other[0][name]
    return y / x if x > 0 and y > 0 else math.nan


def said(found: Sequence[Difference], runs: Sequence[Run]) -> list[str]:
    """A sentence a later run: how many cases changed, which way, and whether the environments match."""
    lines = []
    for i, run in enumerate(runs[1:], 1):
        counts = Counter(each.change for each in found if each.run == i)
        if not counts:
            lines.append(f"{clean(run.name)} shares no timed case with {clean(runs[0].name)}.")
            continue
        changes = ", ".join(f"{count} {change}" for change, count in counts.most_common())
        lines.append(
            f"{clean(run.name)} against {clean(runs[0].name)}: {changes}, of {counts.total()} cases that both have "
            f"(a change must exceed {THRESHOLD:.0%} and the intervals must be disjoint)."
        )
    return lines


def mismatches(runs: Sequence[Run]) -> list[str]:
    """What the environments of later runs differ in, one line per run: their differences are not the code's alone."""
    lines = []
    for run in runs[1:]:
        one, other = runs[0].part("fingerprint"), run.part("fingerprint")
        differing = [name for name in sorted({*one, *other}) if one.get(name) != other.get(name)]
        if differing:
            pairs = ", ".join(f"{name} ({clean(one.get(name))} and {clean(other.get(name))})" for name in differing)
            lines.append(
                f"{clean(runs[0].name)} and {clean(run.name)} differ in {clean(pairs, 300)}: not only the code changed"
            )
    return lines


def difference_table(found: Sequence[Difference]) -> Table:
    """The changes as a table, the largest first, at most MOST_ROWS."""
    return table([each.row for each in found[:MOST_ROWS]], COLUMNS, keep=("change", "case_id"))


def changes(group: Group, runs: Sequence[Run], styles: Styles) -> list[Chart]:
    """For each later run the time there over the time in the first one, against T."""
    found = [_chart(group, run, runs, styles) for run in range(1, len(runs))]
    return [chart for chart in found if chart]


def _chart(group: Group, run: int, runs: Sequence[Run], styles: Styles) -> Chart | None:
    base = {(point.name, point.axes, point.T): point for point in group.points if point.run == 0}
    pairs = [
        [(point, base[key]) for point in points if (key := (point.name, point.axes, point.T)) in base]
        for points in group.lines.values()
        if points[0].run == run
    ]
    series = by_last(_line(group, each, styles) for each in pairs if each)
    if not series:
        return None
    one, other = clean(runs[0].name), clean(runs[run].name)
    x = length_axis(length_label(group), (T for each in series for T in each.x))
    return Chart(
        kind="change",
        slug=f"change_{run}_{group.setting.slug}",
        title=f"Time in {other} over time in {one}",
        subtitle=group.setting.title,
        x=x,
        y=log_axis("time, ratio", [1.0, *(y for each in series for y in (*each.y, *each.low, *each.high))]),
        series=series,
        ceilings=(Ceiling(f"same as {one}", (x.low, x.high), (1.0, 1.0), "reference"),),
        caption=f"Below 1, {other} is faster. The band follows from the 95 % intervals of both.",
        alt=alt_text(f"Time in {other} over time in {one}", "times", series),
    )


def _line(group: Group, pairs: Sequence[tuple[Point, Point]], styles: Styles) -> Series:
    before = {after.T: one for after, one in pairs}
    points = [after for after, _ in pairs]
    return line(
        group,
        points,
        styles,
        lambda p: p.T,
        lambda p: p.time_ms / before[p.T].time_ms,
        lambda p: hover(p, f"{figure(before[p.T].time_ms)} ms before, ratio {figure(p.time_ms / before[p.T].time_ms)}"),
        low=tuple(p.low_ms / before[p.T].high_ms for p in points),
        high=tuple(p.high_ms / before[p.T].low_ms for p in points),
    )
