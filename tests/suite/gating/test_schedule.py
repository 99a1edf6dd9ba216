"""The contest, with processes that are not there: who measures when, and what happens when one dies."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from suite.checks.calling import Call
from suite.discovery import discover
from suite.errors import DiscoveryError, IncomparableError, spoiling
from suite.gating import Limits, sides
from suite.gating.calibration import of_pair
from suite.gating.history import Calibration, History
from suite.gating.interpreted import check
from suite.gating.options import Options, Plan
from suite.gating.pairing import Paired
from suite.gating.revision import RevisionGate, verdicts
from suite.gating.rounds import MOST, RoundSettings, blocks, play
from suite.gating.schedule import CasePair, Schedule
from suite.gating.sequential_test import Trial
from suite.gating.sides import OutOfBudget, Side, answer_of, both, start_worker
from suite.gating.stored import told
from suite.gating.worker import OpenCase
from suite.plan import Selection
from suite.problem import Case, Problem
from suite.running.budget import Budget
from suite.running.messages import Disconnected
from suite.running.process import Silent, measuring_worker
from suite.static.revisions import in_base

TERMS = RoundSettings("cpu", "warm-cpu", rep_ms=40.0)


class Clock:
    """Seconds that pass only when something is measured."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Fake:
    """A worker process of one revision: answers at once, and writes down what it was asked.

    ms:      case -> time of a call
    faults:  case -> what happens: a status, or an exception to raise
    at:      the request at which it happens
    """

    def __init__(
        self,
        name: str,
        log: list[tuple[str, str]],
        clock: Clock,
        ms: dict[str, float],
        faults: dict[str, Any] | None = None,
        at: str = "open",
    ) -> None:
        self.name, self.log, self.clock, self.ms, self.faults, self.at = name, log, clock, ms, faults or {}, at
        self.case, self.killed, self.killed_by_kernel = "", False, False

    def ask(self, timeout_s: float = 0.0, **request: Any) -> dict[str, Any]:
        do = request["do"]
        self.log.append((self.name, "recheck" if request.get("recheck") else do))
        self.case = request["case"]["name"] if do == "open" else self.case
        fault = self.faults.get(self.case) if do == self.at else None
        if isinstance(fault, Exception):
            raise fault
        if fault:
            return {"status": fault, "reason": f"{fault} on purpose"}
        ms = self.ms[self.case]
        if do == "block":
            self.clock.now += (request["samples"] + 1) * ms / 1e3
            return {"status": "ok", "reason": "", "samples": [ms] * request["samples"], "mhz": None}
        self.clock.now += 0.1
        figures = {"check": {"o": 1e-6}, "check_limit": 1e-4, "check_T": None, "check_s": 0.05, "memory_mib": 1.0}
        checked = figures if do == "open" and request["settings"]["check"] else {}
        return {"status": "ok", "reason": "", "typical_ms": ms, **checked}

    def how_it_ended(self) -> str:
        return "exit code 7"

    def tail(self) -> str:
        return "the last line"

    def kill(self) -> None:
        self.killed = True


def contest(names: list[str], before: Callable[[], Fake], after: Callable[[], Fake], **more: Any) -> Schedule:
    matches = [CasePair(name, {"name": name}, Trial(Limits())) for name in names]
    return Schedule(matches, (before, after), TERMS, **more)


def fakes(log: list[tuple[str, str]], clock: Clock, a: dict[str, float], b: dict[str, float], **more: Any):
    return (lambda: Fake("A", log, clock, a)), (lambda: Fake("B", log, clock, b, **more))


def verdict_of(match: CasePair) -> str:
    return next(verdicts(match, Options(TERMS))).decision.verdict


def test_blocks_alternate_and_either_revision_may_begin():
    log, clock = [], Clock()
    a, b = fakes(log, clock, {"x": 1.0}, {"x": 1.1})
    begun = set()
    for seed in range(8):
        log.clear()
        found = play((Side(a), Side(b)), {"name": "x"}, TERMS, Random(seed), check=False)
        order = "".join(name for name, do in log if do == "block")
        begun.add(order[0])
        first, second = order[0], "AB".replace(order[0], "")
        turn = first + second + second + first
        assert order == turn * (len(order) // 4)
        assert len(order) >= 8
        assert found.times is not None
        assert (found.times.before_ms, found.times.after_ms) == (1.0, 1.1)
    assert begun == {"A", "B"}


@pytest.mark.parametrize(
    ("typical_ms", "samples", "turns"), [(0.0, 200, MOST), (0.001, 200, MOST), (1.0, 5, 5), (5.0, 1, 3), (900.0, 1, 2)]
)
def test_blocks_are_short_and_fill_the_time_given(typical_ms, samples, turns):
    assert blocks(typical_ms, 60.0) == (samples, turns)


def test_each_pass_has_fresh_processes_and_only_the_first_checks():
    log, clock, started = [], Clock(), []
    a, b = fakes(log, clock, {"x": 1.0, "y": 2.0}, {"x": 1.0, "y": 2.0})
    made = contest(["x", "y"], lambda: started.append("A") or a(), lambda: started.append("B") or b())
    made.run()
    assert sorted(started) == ["A"] * 8 + ["B"] * 8
    for match in made.pairs:
        assert (len(match.trial.rounds), verdict_of(match)) == (8, "same")
        assert [bool(each.get("check")) for each in match.before] == [True] + [False] * 7
    # Each revision checks both cases once more after they were timed, in the first pass only.
    assert [name for name, do in log if do == "recheck"].count("B") == 2
    metrics = [each.metric for each in verdicts(made.pairs[0], Options(TERMS))]
    assert metrics == ["time", "memory", "error"]


def test_a_tree_that_loosens_a_limit_is_held_to_the_bases():
    log, clock = [], Clock()

    class Loose(Fake):
        def ask(self, timeout_s: float = 0.0, **request: Any) -> dict[str, Any]:
            answer = super().ask(timeout_s, **request)
            return answer | {"check": {"o": 2e-3}, "check_limit": 0.1} if answer.get("check") else answer

    a, _ = fakes(log, clock, {"x": 1.0}, {"x": 1.0})
    made = contest(["x"], a, lambda: Loose("B", log, clock, {"x": 1.0}))
    made.run()
    found = {each.metric: each for each in verdicts(made.pairs[0], Options(TERMS))}
    assert (found["time"].decision.verdict, found["error"].decision.verdict) == ("same", "slower")
    assert found["error"].note == "the error limit moved from 1.00e-04 to 1.00e-01; the smaller one counts"
    assert list(told(found.values())) == [f"x: {found['error'].note}"]


def test_a_slower_case_is_measured_again_and_the_others_are_left_in_peace():
    log, clock = [], Clock()
    a, b = fakes(log, clock, {"x": 1.0, "y": 2.0}, {"x": 1.1, "y": 2.0})
    made = contest(["x", "y"], a, b)
    made.run()
    slow, same = made.pairs
    assert (len(slow.trial.rounds), len(slow.trial.confirmation), verdict_of(slow)) == (8, 8, "slower")
    assert (len(same.trial.rounds), len(same.trial.confirmation)) == (8, 0)


def test_the_order_of_cases_is_drawn_anew_in_each_pass():
    log, clock = [], Clock()
    names = list("abcdef")
    ms = dict.fromkeys(names, 1.0)
    made = contest(names, *fakes(log, clock, ms, ms))
    orders: list[list[str]] = []
    made.progress = _noting(orders)
    made.run()
    assert orders[0] == names
    assert len({tuple(each) for each in orders}) >= 7


def _noting(orders: list[list[str]]):
    from contextlib import contextmanager

    @contextmanager
    def progress(work: str, total: int):
        orders.append([])
        yield orders[-1].append

    return progress


@pytest.mark.parametrize(
    ("fault", "at", "status"),
    [
        (Disconnected("gone"), "open", "crashed"),
        (Disconnected("gone"), "block", "crashed"),
        (Silent("no answer"), "block", "timeout"),
        ("incorrect", "open", "incorrect"),
        ("error", "block", "error"),
        ("incorrect", "close", "incorrect"),
    ],
)
def test_a_failure_costs_its_case_and_no_other(fault, at, status):
    log, clock = [], Clock()
    a, b = fakes(log, clock, {"x": 1.0, "y": 1.0}, {"x": 1.0, "y": 1.0}, faults={"x": fault}, at=at)
    made = contest(["x", "y"], a, b)
    made.run()
    broken, other = made.pairs
    assert (verdict_of(broken), broken.after[-1]["status"], len(broken.after)) == ("broken", status, 1)
    assert broken.before[-1]["status"] == "ok"
    assert verdict_of(other) == "same"


@pytest.mark.parametrize("sample", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_sample_that_is_no_time_is_an_error_of_its_revision(sample):
    log, clock = [], Clock()

    class Wrong(Fake):
        def ask(self, timeout_s: float = 0.0, **request: Any) -> dict[str, Any]:
            answer = super().ask(timeout_s, **request)
            return answer | {"samples": [*answer["samples"][1:], sample]} if request["do"] == "block" else answer

    a, _ = fakes(log, clock, {"x": 1.0}, {"x": 1.0})
    made = contest(["x"], a, lambda: Wrong("B", log, clock, {"x": 1.0}))
    made.run()
    decision = next(verdicts(made.pairs[0], Options(TERMS))).decision
    assert decision.verdict == "broken"
    assert f"the timer gave a sample of {sample} ms" in decision.reason


def test_a_dead_process_is_replaced_only_when_it_is_needed():
    log, clock, started = [], Clock(), []
    a, b = fakes(log, clock, {"x": 1.0}, {"x": 1.0}, faults={"x": Disconnected("gone")})
    made = contest(["x"], a, lambda: started.append("B") or b())
    made.run()
    assert started == ["B"]
    assert made.pairs[0].after[0]["reason"] == "the worker ended by exit code 7 during open: the last line"


@pytest.mark.parametrize("phase", ["check", "recheck"])
def test_the_worker_says_which_error_spoiled_its_process(phase: str, monkeypatch: pytest.MonkeyPatch):
    operator = discover().operator("linear_attention")
    problem = operator.complete(Problem(T=8, K=4, dtype="float32", pass_="fwd"))
    case = Case(operator.name, "naive", problem, (), operator.axes)
    served = SimpleNamespace(operator=operator, implementation=operator.implementations["naive"], case=case)
    settings = {
        "device": "cpu",
        "mode": "warm-cpu",
        "warmup_ms": 0,
        "seed": 0,
        "recheck_pick": 0,
        "check": True,
        "time": True,
    }
    opened = OpenCase(served, settings)
    if phase == "recheck":
        assert opened.prepare()["status"] == "ok"

    def run(call):
        raise error

    monkeypatch.setattr(Call, "run", run)
    for error in (spoiling(RuntimeError("CUDA error 719")), RuntimeError("a wrong shape")):
        found = opened.prepare() if phase == "check" else opened.recheck()
        assert (found["status"], found["spoiled"]) == ("error", "719" in str(error))
    opened.release()


def test_blocks_are_sized_by_the_wall_clock_of_a_sample(monkeypatch: pytest.MonkeyPatch):
    """A span may be short where the flush before it, or the host, is slow."""
    operator = discover().operator("linear_attention")
    case = Case(operator.name, "naive", operator.complete(Problem(T=8, K=4, dtype="float32", pass_="fwd")), ())
    served = SimpleNamespace(operator=operator, implementation=operator.implementations["naive"], case=case)
    now = [0.0]

    def samples(timer, run, n, before):
        now[0] += 0.25 * n
        return [0.001] * n

    monkeypatch.setattr("suite.gating.worker.time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr("suite.measuring.timers.CpuTimer.samples", samples)
    settings = {
        "device": "cpu",
        "mode": "warm-cpu",
        "warmup_ms": 0,
        "seed": 0,
        "recheck_pick": 0,
        "check": False,
        "time": True,
    }
    opened = OpenCase(served, settings)
    assert opened.prepare()["typical_ms"] == 250.0
    opened.release()


def test_what_a_case_changes_for_its_process_is_put_back_before_the_other_s_turn() -> None:
    operator = discover().operator("linear_attention")
    right = operator.implementations["naive"]

    def changes(*args: Any, **words: Any) -> Any:
        torch.set_num_threads(1 + before[0])
        torch.autograd.set_detect_anomaly(True)
        return right.fn(*args, **words)

    case = Case(operator.name, "naive", operator.complete(Problem(T=8, K=4, dtype="float32", pass_="fwd")), ())
    served = SimpleNamespace(operator=operator, implementation=replace(right, fn=changes), case=case)
    settings = {"device": "cpu", "mode": "warm-cpu", "warmup_ms": 0, "seed": 0, "recheck_pick": 0}
    opened = OpenCase(served, settings | {"check": True, "time": True})
    before = torch.get_num_threads(), torch.is_anomaly_enabled()
    for step in (opened.prepare, lambda: opened.block(2), opened.recheck):
        assert step()["status"] == "ok"
        assert (torch.get_num_threads(), torch.is_anomaly_enabled()) == before
    opened.release()


@pytest.mark.parametrize("spoiled", [True, False])
def test_an_error_that_spoils_its_process_ends_it(spoiled: bool):
    process = Fake("B", [], Clock(), {"x": 1.0})
    side = Side(lambda: process)
    side.ready()
    process.ask = lambda timeout_s=0.0, **request: {"status": "error", "reason": "CUDA error 719", "spoiled": spoiled}
    assert side.ask(do="block", samples=1) == {"status": "error", "reason": "CUDA error 719"}
    assert process.killed is spoiled


def test_every_process_is_gone_at_the_end_even_when_one_does_not_start():
    made: list[Fake] = []

    def start() -> Fake:
        made.append(Fake("A", [], Clock(), {}))
        return made[-1]

    def fails() -> Fake:
        raise DiscoveryError("no such thing")

    with pytest.raises(DiscoveryError), both((start, fails), 1.0):
        pass
    assert [each.killed for each in made] == [True]


def test_a_budget_takes_in_what_it_can_bring_to_eight_rounds():
    log, clock = [], Clock()
    names = list("abcdef")
    ms = dict.fromkeys(names, 1.0)
    made = contest(names, *fakes(log, clock, ms, ms), budget=Budget(4.0, clock=clock), clock=clock)
    made.run()
    rounds = [len(each.trial.rounds) for each in made.pairs]
    assert set(rounds) == {0, 8}
    assert 0 < rounds.count(8) < 6
    assert rounds == sorted(rounds, reverse=True)
    assert clock.now <= 4.5
    options = Options(TERMS, budget=Budget(4.0))
    (left_out,) = verdicts(made.pairs[-1], options)
    assert (left_out.decision.verdict, left_out.decision.rounds) == ("inconclusive", 0)
    assert left_out.decision.reason == "left out: the budget of 4 s ended"


def test_a_budget_that_ends_before_the_confirmation_leaves_no_slower():
    log, clock = [], Clock()
    made = contest(["x"], *fakes(log, clock, {"x": 1.0}, {"x": 1.1}), budget=Budget(5.0, clock=clock), clock=clock)
    made.run()
    (match,) = made.pairs
    assert match.trial.flagged
    assert 0 < len(match.trial.confirmation) < 8
    decision = next(verdicts(match, Options(TERMS))).decision
    assert decision.verdict == "inconclusive"
    assert "not confirmed" in decision.reason


def test_numerics_that_the_budget_left_out_say_so():
    log, clock = [], Clock()
    pair = Paired("op/x/B1", {"name": "x"}, None, None)
    found = list(check([pair], fakes(log, clock, {"x": 1.0}, {"x": 1.0}), Options(TERMS)))
    assert [(each.metric, each.decision.verdict) for each in found] == [("error", "same")]
    log.clear()
    found = list(check([pair], fakes(log, clock, {"x": 1.0}, {"x": 1.0}), Options(TERMS, budget=Budget(1e-9))))
    assert [(each.mode, each.decision.verdict) for each in found] == [("interpret", "inconclusive")]
    assert log == []


def test_a_case_of_the_same_code_that_was_left_out_stays_unchanged():
    match = CasePair("x", {}, Trial(Limits()), same_code=True)
    (verdict,) = verdicts(match, Options(TERMS, budget=Budget(1.0)))
    assert (verdict.decision.verdict, verdict.same_code) == ("unchanged", True)


def test_only_of_the_base_is_a_failure_to_load_incomparable(monkeypatch, tmp_path):
    def refuse(*_: Any, **__: Any) -> None:
        raise DiscoveryError("module kernels.x raises on import")

    monkeypatch.setattr(sides, "measuring_worker", refuse)
    with pytest.raises(IncomparableError, match="the base does not load"):
        start_worker(tmp_path, "cpu", [], Budget(), base=True)
    with pytest.raises(DiscoveryError):
        start_worker(tmp_path, "cpu", [], Budget(), base=False)


def test_a_budget_ends_a_case_in_the_middle_of_its_round():
    log, clock = [], Clock()
    budget = Budget(3.0, clock=clock)
    a, _ = fakes(log, clock, {"x": 1.0, "y": 1.0}, {})
    waits = list[float]()

    class Slow(Fake):
        """Says nothing when it is asked for a block of y, for as long as it is waited for."""

        def ask(self, timeout_s: float = 0.0, **request: Any) -> dict[str, Any]:
            if request["do"] == "block" and self.case == "y":
                waits.append(timeout_s)
                clock.now += timeout_s
                raise Silent("nothing")
            return super().ask(timeout_s, **request)

    made = contest(["x", "y"], a, lambda: Slow("B", log, clock, {"x": 1.0, "y": 1.0}), budget=budget, clock=clock)
    for match in made.pairs:
        match.trial = Trial(Limits(), looks=(1,))
    made.run()
    assert len(waits) == 1
    assert clock.now == pytest.approx(3.0)
    assert [len(each.before) for each in made.pairs] == [1, 0]
    (left_out,) = verdicts(made.pairs[1], Options(TERMS, budget=budget))
    assert left_out.decision.reason == "left out: the budget of 3 s ended"


def test_a_case_that_is_silent_within_the_budget_timed_out():
    log, clock = [], Clock()
    side = Side(lambda: Fake("A", log, clock, {"x": 1.0}, faults={"x": Silent("nothing")}), 1.0, Budget(9.0, clock))
    assert side.ask(do="open", case={"name": "x"}, settings={"check": False})["status"] == "timeout"


def test_a_budget_ends_the_wait_for_a_worker_and_for_its_answer(monkeypatch, tmp_path):
    clock = Clock()
    budget, waits = Budget(5.0, clock=clock), list[float]()

    def never_ready(*_: Any, start_s: float) -> None:
        waits.append(start_s)
        clock.now += start_s
        raise DiscoveryError("a worker did not start")

    monkeypatch.setattr(sides, "measuring_worker", never_ready)
    with pytest.raises(OutOfBudget):
        start_worker(tmp_path, "cpu", [], budget, base=True)
    assert waits == [5.0]
    process = Fake("A", [], clock, {}, faults={"": Silent("nothing")}, at="survey")
    with pytest.raises(OutOfBudget):
        answer_of(process, budget, do="survey")


def test_numerics_that_the_budget_ends_in_say_so():
    clock = Clock()
    pairs = [Paired(f"op/{name}/B1", {"name": name}, None, None) for name in "xyz"]
    budget = Budget(1.0, clock=clock)
    options = Options(TERMS, budget=budget)

    class Slow(Fake):
        def ask(self, timeout_s: float = 0.0, **request: Any) -> dict[str, Any]:
            if request["case"]["name"] == "y":
                clock.now += timeout_s
                raise Silent("nothing")
            return super().ask(timeout_s, **request)

    ms = dict.fromkeys("xyz", 1.0)
    found = list(check(pairs, (lambda: Slow("A", [], clock, ms), lambda: Slow("B", [], clock, ms)), options))
    assert [(each.case_id[3], each.decision.verdict) for each in found] == [
        ("x", "same"),
        ("y", "inconclusive"),
        ("z", "inconclusive"),
    ]
    assert clock.now == pytest.approx(1.0)


def child_processes() -> set[str]:
    """The process ids of this process's children; a thread that ends meanwhile has none."""
    found: set[str] = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found |= set(path.read_text().split())
    return found


def test_a_worker_that_is_not_ready_in_time_is_gone():
    before = child_processes()
    with pytest.raises(DiscoveryError, match=r"a worker did not start \(not within 0 s\)"):
        measuring_worker("cpu", start_s=0.0)
    assert child_processes() == before


def test_a_revision_that_dies_when_asked_is_incomparable():
    process = Fake("A", [], Clock(), {}, faults={"": Disconnected("gone")}, at="survey")
    with pytest.raises(IncomparableError, match="does not answer 'survey': the last line"):
        answer_of(process, Budget(), do="survey")


def test_a_case_is_judged_by_what_is_known_of_it_on_this_machine(tmp_path):
    past = History((Calibration("2026-01-01", "c0de", 0.03, 0.7, 0.05, 0.0, 64),))
    plan = Plan(discover(), [], "cpu", Selection())
    made = RevisionGate(plan, Options(TERMS), tmp_path, tmp_path)
    made.history = {("x", TERMS.mode): past}
    known, unknown = (made.judged(Paired(name, {}, None, None)).trial for name in "xy")
    assert (known.limits.margin, known.least_rho) == (0.05, 0.7)
    assert (unknown.limits.margin, unknown.least_rho) == (0.02, 0.0)


def test_what_rounds_of_a_case_against_itself_say_is_its_calibration():
    log, clock = [], Clock()
    made = contest(["x", "y"], *fakes(log, clock, {"x": 1.0, "y": 2.0}, {"x": 1.0, "y": 2.0}, faults={"y": "error"}))
    made.run()
    x, y = (of_pair(each, "c0de", "2026-01-01") for each in made.pairs)
    assert x.found == Calibration("2026-01-01", "c0de", 0.0, 0.0, 0.0, 0.0, 8)
    assert (y.found, y.reason) == (None, "error: error on purpose")


def test_a_plugin_of_the_tree_is_the_bases_own(tmp_path):
    root, base = tmp_path / "root", tmp_path / "base"
    for folder, names in ((root, "ab"), (base, "a")):
        folder.mkdir()
        for name in names:
            (folder / f"{name}.py").write_text("")
    outside = tmp_path / "outside.py"
    assert in_base(str(root / "a.py"), root, base) == str(base / "a.py")
    assert in_base(str(root / "b.py"), root, base) is None
    assert in_base(str(outside), root, base) == str(outside)


def test_fakes_are_asked_in_the_protocols_order():
    log, clock = [], Clock()
    a, b = fakes(log, clock, {"x": 20.0}, {"x": 20.0})
    play((Side(a), Side(b)), {"name": "x"}, TERMS, Random(0), check=True)
    assert [do for do, _ in itertools.groupby(do for _, do in log)] == ["open", "block", "recheck"]
