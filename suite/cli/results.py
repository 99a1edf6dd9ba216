"""The results of a run on standard output: of each problem the fastest implementation, and how far off the others are.

linear_attention · fwd · fp32 · K 64 · B 1, H 1
    T  fastest         time  of roof  others, times as long
1,024  torch_chunk  1.21 ms     14 %  naive 41x
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from suite.reporting.data.frame import Run
    from suite.reporting.data.results import Result

# Problems and reasons that are shown unless all are asked for; columns of a line that goes to a pipe.
PROBLEMS, REASONS, WIDTH = 40, 6, 120
_JUSTIFIED: tuple[Literal["left", "right"], ...] = ("right", "left", "right", "right")


def print_results(run: Run, *, everything: bool = False) -> None:
    """Print the table of a run's timed cases, and why others have no time, each reason once.

    everything: all problems and reasons, however many
    """
    from suite.reporting.data.frame import normalise
    from suite.reporting.data.results import results
    from suite.terminal import console

    rows = [row for row in normalise([run]) if row["kind"] == "timed"]
    found = results(rows)
    shown = found if everything else found[:PROBLEMS]
    _print(shown, console(sys.stdout))
    if left := len(found) - len(shown):
        print(f"{left} more problem{'s' * (left > 1)}: the report has them, and --verbose prints them\n")
    _print_disturbed(rows)
    print_reasons(rows, everything=everything)


def _print_disturbed(rows: Sequence[Mapping[str, Any]]) -> None:
    """What telemetry says against times: of disturbed ones none is the fastest."""
    from suite.gating.conditions import mark_of

    timed = [row for row in rows if row["status"] == "ok"]
    marks = Counter(mark for row in timed if (mark := mark_of(row["record"])))
    if marks:
        told = ", ".join(f"{mark} in {count} of {len(timed)} cases" for mark, count in marks.items())
        print(f"disturbed: {told}; measure again on a quiet machine\n")


def print_reasons(records: Iterable[Mapping[str, Any]], *, everything: bool = False) -> None:
    """Why cases have no result, each reason in one line, with their number and whose they are."""
    from suite.reporting.data.summary import reasons

    found = reasons([{**each, "name": f"{each['operator']}/{each['implementation']}"} for each in records])
    shown = found if everything or len(found) == REASONS + 1 else found[:REASONS]
    for each in shown:
        print(f"{each.cases} {each.status}: {each.reason} ({each.names})")
    if len(found) > len(shown):
        print(f"and {len(found) - len(shown)} other reasons; --verbose prints them")


def _print(found: Iterable[Result], console: Console) -> None:
    for (operator, setting), each in groupby(found, lambda result: (result.operator, result.setting)):
        title, table = f"{operator} · {setting}", _table(list(each))
        if console.is_terminal:
            from rich.text import Text

            console.print(Text(title, style="bold"))
            console.print(table)
            console.print()
            continue
        console.width = WIDTH
        with console.capture() as captured:
            console.print(table)
        # What goes to a pipe or a file is aligned too, without spaces at the ends of its lines.
        for line in (title, *captured.get().splitlines(), ""):
            print(line.rstrip())


def _table(found: Sequence[Result]) -> Table:
    from rich.table import Column, Table
    from rich.text import Text

    from suite.reporting.data.results import FASTEST, SUMMARY, summary

    table = Table(
        *(
            Column(name, justify=justify, no_wrap=name != FASTEST, overflow="fold", style=style)
            for name, justify, style in zip(SUMMARY[2:-1], _JUSTIFIED, ("", "bold", "", ""), strict=True)
        ),
        Column(SUMMARY[-1], overflow="fold", min_width=12),
        box=None,
        pad_edge=False,
        padding=(0, 1),
        header_style="dim",
    )
    for row in summary(found).itertuples(index=False):
        # Text has no markup: brackets in a name stay brackets.
        table.add_row(*map(Text, row[2:]))
    return table
