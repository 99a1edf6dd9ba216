"""How long a sweep waits for a worker that says nothing, with a clock and a worker that are not there."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from suite.discovery import discover
from suite.measuring.case import Settings
from suite.plan import Group, Selection, make_plan
from suite.presets import load_preset
from suite.running.budget import Budget
from suite.running.progress import PlainProgress
from suite.running.sweep import Options, Sweep
from suite.store import Key

TIMEOUT_S = 300.0


class Clock:
    """Seconds that pass only while somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Silent:
    """A worker that takes a problem and never answers."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.channel = clock, self
        self.asked: list[dict[str, Any]] = []
        self.killed = False

    def send(self, request: dict[str, Any]) -> None:
        self.asked.append(request)

    def receive(self, timeout_s: float) -> None:
        self.clock.now += timeout_s

    def kill(self) -> None:
        self.killed = True

    def tail(self) -> str:
        return ""


def swept(
    budget_s: float | None,
    modes: tuple[str, ...] = ("warm-cpu",),
    done: tuple[str, ...] = (),
    kind: str = "timed",
    fits: Callable[[int], bool] = lambda T: True,
) -> SimpleNamespace:
    """A sweep of two cases whose worker is silent: the seconds that it took, its workers and the records kept.

    done: modes of which each case has its record already
    fits: T -> whether the budget has room for a problem
    """
    registry, clock, records = discover(), Clock(), []
    flags = Selection(
        operators=("linear_attention",), implementations=("naive",), values={"T": (16, 24), "pass": ("fwd",)}
    )
    groups = make_plan(registry, load_preset("smoke"), flags)
    workers: list[Any] = []
    cases = [case for group in groups for case in group.cases]
    kept = {Key(case.case_id, "timed", mode, "CPU", 0) for case in cases for mode in done}

    def start() -> Any:
        workers.append(Silent(clock))
        return workers[-1]

    class Room(Budget):
        def fits(self, group: Group) -> bool:
            return fits(group.problem.T)

    sweep = Sweep(
        registry,
        groups,
        Settings("cpu", "CPU", modes),
        Options(kind, timeout_s=TIMEOUT_S, done=kept),
        start,
        records.append,
        PlainProgress,
        Room(budget_s, clock=clock),
    )
    sweep.run()
    assert all(worker.killed for worker in workers)
    return SimpleNamespace(seconds=clock.now, workers=workers, records=records, left_out=sweep.left_out)


def test_a_problem_that_outlasts_the_budget_is_ended_soon_after_it() -> None:
    """The worker knows what is left and stops by itself; one that does not gets a twentieth of the budget more."""
    found = swept(budget_s=100.0)
    assert found.seconds == pytest.approx(105.0)
    assert [request["left_s"] for worker in found.workers for request in worker.asked] == [100.0]
    # The budget ended, not the case: a later run measures it.
    assert (found.records, found.left_out) == ([], 2)


def test_the_timeout_ends_a_case_long_before_a_budget_that_is_longer() -> None:
    found = swept(budget_s=10_000.0)
    assert found.seconds == pytest.approx(2 * TIMEOUT_S)
    assert [record["status"] for record in found.records] == ["timeout", "timeout"]


def test_without_a_budget_the_timeout_alone_ends_a_case() -> None:
    found = swept(budget_s=None)
    assert found.seconds == pytest.approx(2 * TIMEOUT_S)
    assert [record["reason"].partition(" during")[0] for record in found.records] == ["nothing happened for 300 s"] * 2


def test_a_worker_is_asked_for_the_modes_that_have_no_record() -> None:
    """As after a failed capture, which costs one mode of its case: the others are measured in a fresh process."""
    found = swept(budget_s=None, modes=("cold-events", "warm-graph"), done=("warm-graph",))
    asked = [case["modes"] for worker in found.workers for request in worker.asked for case in request["cases"]]
    assert asked == [["cold-events"]] * 2
    assert [record["mode"] for record in found.records] == ["cold-events"] * 2


@pytest.mark.parametrize(("kind", "asked"), [("check", [24]), ("timed", [])])
def test_a_check_goes_on_with_problems_that_still_fit(kind: str, asked: list[int]) -> None:
    """Times are compared up to some length, so nothing is timed beyond the first problem that is left out."""
    found = swept(budget_s=10_000.0, kind=kind, fits=lambda T: T == 24)
    assert [request["problem"]["T"] for worker in found.workers for request in worker.asked] == asked


def test_a_shorter_problem_is_expected_to_take_less() -> None:
    groups = [SimpleNamespace(operator="a", problem=SimpleNamespace(T=T, pass_="fwd")) for T in (1024, 512, 100)]
    clock = Clock()
    budget = Budget(30.0, clock=clock)
    budget.note(groups[0], 20.0)  # pyright: ignore[reportArgumentType]
    clock.now = 24.0
    assert budget.predict(groups[1]) == pytest.approx(10.0)  # pyright: ignore[reportArgumentType]
    assert [budget.fits(group) for group in groups] == [False, False, True]  # pyright: ignore[reportArgumentType]
