"""The crossover as a chart: for each linear implementation, the T from which it beats the fastest quadratic one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from suite.reporting.charts.model import Annotation, Chart, Series
from suite.reporting.charts.scales import figure, length_axis, rows_axis
from suite.reporting.charts.series import Styles, length_label, listed, owner
from suite.reporting.data.sentences import without_range

if TYPE_CHECKING:
    from suite.crossover import Verdict
    from suite.reporting.data.crossings import Crossing
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Point

# A row's three findings, a little apart: which, its place, its look.
PARTS = (("faster, measured", 0.0), ("faster, predicted", 0.22), ("less memory, measured", -0.22))


def crossover(group: Group, met: Sequence[Crossing], styles: Styles) -> Chart | None:
    """Each linear implementation against the quadratic one that is fastest at the longest T; None without a pair,
    and where nothing meets in the range measured: the table of crossings says that.

    met: the group's crossings, fastest pair first
    """
    pairs = list({each.linear: each for each in reversed(met)}.values())[::-1]
    if not pairs:
        return None
    series, notes = [], []
    for row, each in enumerate(pairs):
        point = group.lines[each.linear][0]
        for (words, shift), verdict in zip(PARTS, (each.time, each.predicted, each.memory), strict=True):
            series += _dots(group, point, words, row + shift, verdict, styles)
        notes += _notes(each, row)
    if not series:
        return None
    return Chart(
        kind="crossover",
        slug=f"crossover_{group.setting.slug}",
        title="Crossover: from which T linear is faster",
        subtitle=group.setting.title,
        x=length_axis(length_label(group), [point.T for each in pairs for point in each.shared]),
        y=rows_axis("", [f"{each.linear}\nover {each.quadratic}" for each in pairs]),
        series=tuple(series),
        annotations=tuple(notes),
        rows=tuple(owner(group, group.lines[each.linear][0]) for each in pairs),
        caption="Filled: the T at which the measured times are equal, with the 95 % interval. Hollow circle: the T at "
        "which predicted times are equal. Hollow square: the T at which peak memories are equal. Without a mark, "
        "there is no such T in the measured range.",
        alt="From which T linear is faster. "
        + listed([f"{each.linear} over {each.quadratic}: {each.time.says}" for each in pairs]),
    )


def _dots(
    group: Group, point: Point, words: str, place: float, verdict: Verdict | None, styles: Styles
) -> list[Series]:
    meetings = verdict.meetings if verdict else ()
    if not meetings:
        return []
    marker = "square" if words == PARTS[2][0] else "circle"
    style = replace(styles[point.name, point.variant], marker=marker)
    measured = words == PARTS[0][0]
    return [
        Series(
            name=f"{point.label}: {words}",
            x=tuple(each.T for each in meetings),
            y=(place,) * len(meetings),
            style=style,
            text=tuple(
                f"{point.label}\n{words} {'from' if each.one_after else 'up to'} T = {figure(each.T)}"
                + (f"\n95 % interval {figure(each.low)} to {figure(each.high)}" if measured else "")
                for each in meetings
            ),
            owner=owner(group, point),
            left=tuple(each.low for each in meetings) if measured else (),
            right=tuple(each.high for each in meetings) if measured else (),
            line=False,
            hollow=not measured,
            listed=False,
        )
    ]


def _notes(each: Crossing, row: int) -> list[Annotation]:
    """What a row says: at each meeting which way it goes, else why there is none."""
    of = (each.linear,)
    if not each.time.meetings:
        return [Annotation(each.shared[0].T, row, without_range(each.time.says), of=of)]
    found = [
        Annotation(met.T, row, f"{'from' if met.one_after else 'up to'} {figure(met.T)}", "above", of=of)
        for met in each.time.meetings
    ]
    # Two beside each other point away from each other; of more, the last one tells.
    return [replace(found[0], anchor="left"), replace(found[1], anchor="right")] if len(found) == 2 else found[-1:]
