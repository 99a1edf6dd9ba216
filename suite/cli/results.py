"""The results of a run on standard output: of each problem the fastest implementation, and how far off the others are.

linear_attention · forward · fp32 · K 64 · B 1, H 1
    T  fastest         time  of roof  others
1,024  torch_chunk  1.21 ms     14 %  naive 41x
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from suite.store.text import time_text

if TYPE_CHECKING:
    from rich.table import Table

    from suite.reporting.data.frame import Run
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Point

# Problems and reasons that are shown unless all are asked for; columns of a line that goes to a pipe.
PROBLEMS, REASONS, WIDTH = 40, 6, 120


def print_results(run: Run, *, everything: bool = False) -> None:
    """Print the table of a run's timed cases, and why others have no time, each reason once.

    everything: all problems and reasons, however many
    """
    from suite.reporting.data.frame import normalise
    from suite.reporting.data.groups import gather

    rows = [row for row in normalise([run]) if row["kind"] == "timed"]
    room = sys.maxsize if everything else PROBLEMS
    left = 0
    for group in gather(rows):
        for operator, points in _by_operator(group):
            lengths = sorted({point.T for point in points})
            if room < len(lengths):
                left += len(lengths)
                continue
            room -= len(lengths)
            _print(f"{operator} · {group.setting.title}", _table(points, lengths))
    if left:
        print(f"{left} more problems: the report has them, and --verbose prints them\n")
    print_reasons(rows, everything=everything)


def print_reasons(records: Iterable[Mapping[str, Any]], *, everything: bool = False) -> None:
    """Why cases have no result, each reason in one line, with their number and whose they are."""
    from suite.reporting.data.summary import reasons

    found = reasons([{**each, "name": f"{each['operator']}/{each['implementation']}"} for each in records])
    shown = found if everything else found[:REASONS]
    for each in shown:
        print(f"{each.cases} {each.status}: {each.reason} ({each.names})")
    if len(found) > len(shown):
        print(f"and {len(found) - len(shown)} other reasons; --verbose prints them")


def ratio_text(ratio: float) -> str:
    """How many times as long: "1.03x", "2.4x", "41x"."""
    return f"{ratio:.2f}x" if ratio < 1.095 else f"{ratio:.1f}x" if ratio < 9.95 else f"{ratio:,.0f}x"


def _by_operator(group: Group) -> Iterator[tuple[str, list[Point]]]:
    for operator in dict.fromkeys(point.operator for point in group.points):
        yield operator, [point for point in group.points if point.operator == operator]


def _table(points: Sequence[Point], lengths: Iterable[int]) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(
        Column("T", justify="right", no_wrap=True),
        Column("fastest", no_wrap=True, style="bold"),
        Column("time", justify="right", no_wrap=True),
        Column("of roof", justify="right", no_wrap=True),
        Column("others, times as long", overflow="fold"),
        box=None,
        pad_edge=False,
        padding=(0, 1),
        header_style="dim",
    )
    for T in lengths:
        first, *others = sorted((point for point in points if point.T == T), key=lambda point: point.time_ms)
        slower = ", ".join(f"{_name(each)} {ratio_text(each.time_ms / first.time_ms)}" for each in others)
        roof = f"{first.roof_pct:.0f} %" if first.roof_pct == first.roof_pct else "-"
        # Text has no markup: brackets in a name stay brackets.
        table.add_row(*map(Text, (f"{T:,}", _name(first), time_text(first.time_ms), roof, slower or "-")))
    return table


def _name(point: Point) -> str:
    own = ", ".join(part for part in (point.tunables, point.axes) if part)
    name = point.name.partition("/")[2]
    return f"{name} ({own})" if own else name


def _print(title: str, table: Table) -> None:
    from rich.text import Text

    from suite.terminal import console

    drawn = console(sys.stdout)
    if drawn.is_terminal:
        drawn.print(Text(title, style="bold"))
        drawn.print(table)
        drawn.print()
        return
    drawn.width = WIDTH
    with drawn.capture() as captured:
        drawn.print(table)
    # What goes to a pipe or a file is aligned too, without spaces at the ends of its lines.
    for line in (title, *captured.get().splitlines(), ""):
        print(line.rstrip())
