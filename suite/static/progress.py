"""Progress of a pool: a bar on a terminal, occasional lines otherwise, both on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from suite.store.text import one_line
from suite.terminal import console

PLAIN_EVERY_S = 10.0


# Called when one more item is done, with what it was.
Step = Callable[[str], None]
# Given the kind of work and the number of items, a context in which they are done.
Progress = Callable[[str, int], AbstractContextManager[Step]]


@contextmanager
def silent(work: str, total: int) -> Iterator[Step]:
    """No progress at all."""
    yield lambda what: None


@contextmanager
def shown(work: str, total: int) -> Iterator[Step]:
    """A bar where standard error is a terminal, else lines."""
    with (_bar if sys.stderr.isatty() else _lines)(work, total) as step:
        yield step


@contextmanager
def _bar(work: str, total: int) -> Iterator[Step]:
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    described = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn(), described)
    with Bar(*columns, console=console(sys.stderr), transient=True) as bar:
        task = bar.add_task(work, total=total)
        yield lambda what: bar.update(task, advance=1, description=one_line(f"{work} {what}"))


@contextmanager
def _lines(work: str, total: int) -> Iterator[Step]:
    start = last = time.monotonic()
    count = 0

    def step(what: str) -> None:
        nonlocal count, last
        count += 1
        if time.monotonic() - last >= PLAIN_EVERY_S:
            last = time.monotonic()
            print(f"{work}: {count}/{total}", file=sys.stderr, flush=True)

    yield step
    print(f"{work}: {count}/{total} in {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
