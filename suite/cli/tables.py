"""Tables on standard output: drawn by rich on a terminal, tab-separated lines otherwise."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from suite.store.text import one_line


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under their columns, each cell on one line. What goes to a pipe can be cut with `cut -f`."""
    lines = [[one_line(cell) for cell in line] for line in (columns, *rows)]
    if not sys.stdout.isatty():
        for line in lines:
            print("\t".join(line))
        return
    from rich.table import Column, Table
    from rich.text import Text

    from suite.terminal import console

    # Text has no markup: brackets in a name stay brackets.
    # A name that is cut names nothing.
    header = [Column(header=Text(cell), overflow="fold") for cell in lines[0]]
    table = Table(*header, box=None, pad_edge=False, header_style="bold")
    for line in lines[1:]:
        table.add_row(*map(Text, line))
    console(sys.stdout).print(table)
