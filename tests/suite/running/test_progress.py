"""Progress: the time that is left, never beyond the budget."""

import io
from typing import Any

import pytest

from suite.running import progress
from suite.running.budget import Budget
from suite.running.progress import BASE_WORK, PLAIN_EVERY_S, PlainProgress

RECORD: dict[str, Any] = {"status": "ok", "case_id": "a/b/c", "reason": "", "flops_exec": 0.0}


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("budget_s", "said"),
    [
        (None, "1/100 records, about 1980 s left"),
        (60.0, "1/100 records, about 40 s left"),
        (5000.0, "1/100 records, about 1980 s left"),
        (15.0, "1/100 records, about 0 s left"),
    ],
)
def test_no_more_is_left_than_the_budget(budget_s: float | None, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    shown = PlainProgress(100, 100 * BASE_WORK, Budget(budget_s, clock=clock), stream)
    clock.now = 2 * PLAIN_EVERY_S
    shown.record(RECORD)
    assert stream.getvalue().splitlines() == [said]


def test_the_bar_is_cut_too() -> None:
    from rich.progress import Progress

    clock = Clock()
    column = progress.left_column(Budget(90.0, clock=clock))
    with Progress(column, console=None, auto_refresh=False, disable=True, get_time=clock) as bar:
        bar.add_task("", total=1000)
        (task,) = bar.tasks
        for clock.now in (10.0, 20.0):
            bar.advance(task.id, 1)
        assert task.time_remaining is not None
        assert task.time_remaining > 90
        assert str(column.render(task)) == "0:01:10"
