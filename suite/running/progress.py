"""Progress: a bar with the time left on a terminal, plain lines otherwise."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from suite.problem import Case
from suite.running.budget import Budget
from suite.store.text import harmless, one_line, time_text
from suite.terminal import console

if TYPE_CHECKING:
    from rich.progress import TimeRemainingColumn

PLAIN_EVERY_S = 10.0
Told = Literal["quiet", "usual", "verbose"]


class Progress(Protocol):
    """Who is told how the sweep goes."""

    def begin(self, case: Case, phase: str) -> None: ...

    def record(self, record: dict[str, Any]) -> None: ...

    def finish(self) -> None: ...


# What a case costs beside its FLOPs, in FLOPs: compiling, checking, starting.
BASE_WORK = 2e9


def work_of(record: dict[str, Any]) -> float:
    """How much of a sweep's time a record stands for: nothing when it was refused, else more with its FLOPs."""
    return 0.0 if record["status"] == "unsupported" else BASE_WORK + (record.get("flops_exec") or 0.0)


class PlainProgress:
    """One line for each record that is not ok, and one line now and then for the rest.

    told: how much is said: `verbose` has a line for each record, `quiet` only those of failures
    """

    def __init__(
        self, total: int, work: float, budget: Budget, stream: TextIO | None = None, told: Told = "usual"
    ) -> None:
        self.total, self.count = total, 0
        self._budget = budget
        self._work, self._done = work, 0.0
        self._told: Told = told
        self._stream = stream or sys.stderr
        self._start = self._last = time.monotonic()

    def begin(self, case: Case, phase: str) -> None:
        pass

    def record(self, record: dict[str, Any]) -> None:
        self.count += 1
        self._done += work_of(record)
        now = time.monotonic()
        if is_told(record, self._told):
            self._print(describe(record))
        if now - self._last >= PLAIN_EVERY_S and self._done and self._told != "quiet":
            self._last = now
            left = self._budget.cut((now - self._start) / self._done * max(0.0, self._work - self._done))
            self._print(f"{self.count}/{self.total} records, about {left:.0f} s left")

    def finish(self) -> None:
        if self._told != "quiet":
            self._print(f"{self.count}/{self.total} records in {time.monotonic() - self._start:.0f} s")

    def _print(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


def left_column(budget: Budget) -> TimeRemainingColumn:
    """The time left, never beyond the budget."""
    from rich.progress import Task, TimeRemainingColumn
    from rich.text import Text

    class Left(TimeRemainingColumn):
        def render(self, task: Task) -> Any:
            known = task.time_remaining
            if known is None or budget.left is None or known <= budget.left:
                return super().render(task)
            minutes, seconds = divmod(round(budget.cut(known)), 60)
            return Text(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}", style="progress.remaining")

    return Left()


class BarProgress:
    """A bar of the work done, with the case at hand and the time left."""

    def __init__(self, total: int, work: float, budget: Budget, told: Told = "usual") -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            left_column(budget),
            TextColumn("{task.description}", markup=False),
            console=console(sys.stderr),
            transient=True,
        )
        self._told: Told = told
        self._bar.start()
        self._task = self._bar.add_task(f"{total} cases", total=work)

    def begin(self, case: Case, phase: str) -> None:
        self._bar.update(self._task, description=one_line(f"{case.case_id} {phase}"))

    def record(self, record: dict[str, Any]) -> None:
        if is_told(record, self._told):
            self._bar.console.print(describe(record), markup=False, highlight=False)
        self._bar.advance(self._task, work_of(record))

    def finish(self) -> None:
        self._bar.stop()


def is_told(record: dict[str, Any], told: Told) -> bool:
    """Whether a record has a line of its own: a failure always, another one where all are asked for."""
    return told == "verbose" or record["status"] not in ("ok", "unsupported")


def describe(record: dict[str, Any]) -> str:
    """`incorrect  softmax_attention/…: o: error 2e-02, limit 1e-04`; of one that is ok its time, if it has one."""
    first = record["reason"].splitlines()[0] if record["reason"] else ""
    if not first and record.get("time_ms"):
        first = time_text(record["time_ms"])
    return harmless(f"{record['status']:<13} {record['case_id']}: {first}")


def make_progress(total: int, work: float, budget: Budget, told: Told = "usual") -> Progress:
    """The progress that suits where standard error goes: `total` records, of `work` in all as `work_of` counts it."""
    if sys.stderr.isatty() and told != "quiet":
        return BarProgress(total, work, budget, told)
    return PlainProgress(total, work, budget, told=told)
