"""The sweep: drives workers through a plan and stores one record per case, mode and replicate, whatever happens.

When an implementation kills its worker, or says nothing for longer than the timeout, its case gets the record that says
so and the rest of its problem is measured again without it, in a fresh worker. Each replicate is a fresh process.

Checks may run in several workers at once, which share the device: `Options.jobs`. Timing never does.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from suite.errors import UsageError
from suite.measuring.case import Settings
from suite.measuring.records import base_record, with_status
from suite.plan import Group
from suite.problem import Case
from suite.registry import Registry
from suite.running.budget import Budget
from suite.running.messages import Disconnected
from suite.running.process import WorkerProcess
from suite.running.progress import Progress, work_of
from suite.store import Key, record_key

# Beyond its budget a problem that does not stop by itself is ended: this part of the whole budget is the grace.
GRACE = 0.05
STDERR_LENGTH = 1500
# Of the last line that a worker wrote before it ended, in its reason.
LAST_WORDS = 200
# Lines that say why nothing ran.
MOST_REASONS = 8
# The phase that is none of a case's: planning, storing, talking to workers.
HARNESS = "harness"
COOLING = "cooling"
# What a neighbour on the same device may cause: such a case is checked again alone before it has a record.
SHARED = ("oom", "timeout")


@dataclass
class Options:
    """How a sweep runs.

    kind:       `timed` or `check`
    replicates: fresh processes that each measure the whole plan
    timeout_s:  silence after which a worker is ended
    done:       keys that a resumed run has already
    cool_s:     pause before each problem but the first, in which the device cools down
    jobs:       workers that check at the same time; of kind `timed` there is one
    """

    kind: str = "timed"
    replicates: int = 1
    timeout_s: float = 300.0
    done: set[Key] = field(default_factory=set)
    cool_s: float = 0.0
    jobs: int = 1

    def __post_init__(self) -> None:
        if self.jobs > 1 and self.kind == "timed":
            raise ValueError("cases are timed one after another; jobs must be 1")


def modes_of(settings: Settings, kind: str) -> tuple[str, ...]:
    """The modes of which each case gets a record."""
    return settings.modes if kind == "timed" else (settings.device,)


def is_done(case: Case, settings: Settings, kind: str, replicate: int, done: Set[Key]) -> bool:
    """Whether a case has all its records of a replicate."""
    modes = modes_of(settings, kind)
    return all(Key(case.case_id, kind, mode, settings.device_name, replicate) in done for mode in modes)


class PhaseClock:
    """Where a sweep's seconds go: starting workers, drawing inputs, checking, warming up, timing, and the harness."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._phase, self._since = HARNESS, time.monotonic()

    def enter(self, phase: str) -> None:
        """Book the time since the last call to the phase that it began."""
        now = time.monotonic()
        self.seconds[self._phase] = self.seconds.get(self._phase, 0.0) + now - self._since
        self._phase, self._since = phase, now


class BudgetSpent(Exception):
    """The budget ended inside a problem."""


class Sweep:
    """One run of a plan.

    start(): makes a fresh worker; store(record): keeps a record; both are given so that a sweep can be tested alone
    """

    def __init__(
        self,
        registry: Registry,
        groups: Sequence[Group],
        settings: Settings,
        options: Options,
        start: Callable[[], WorkerProcess],
        store: Callable[[dict[str, Any]], None],
        make_progress: Callable[[int, float, Budget], Progress],
        budget: Budget,
    ) -> None:
        self.registry, self.groups, self.settings, self.options = registry, groups, settings, options
        self.start, self.store, self.budget = start, store, budget
        self.statuses: dict[str, int] = {}
        self._refused: dict[str, int] = {}
        self.clock = PhaseClock()
        self.stopped = False
        # Keys of cases that are to be checked again alone.
        self.held: set[Key] = set()
        self._lock = threading.Lock()
        missing = self.missing()
        self.progress = make_progress(
            len(missing) * len(self.modes()), sum(self._work(case) for case in missing), budget
        )

    def run(self) -> None:
        """Measure everything that is not done yet. KeyboardInterrupt passes through, with the workers gone."""
        try:
            for replicate in range(self.options.replicates):
                if self.options.jobs > 1:
                    self._at_once(replicate)
                self._in_turn(replicate)
        finally:
            self.clock.enter(HARNESS)
            self.progress.finish()

    def _in_turn(self, replicate: int) -> None:
        """Measure one problem after another in one worker."""
        slot = _Slot(self, replicate, self.clock)
        try:
            for group in self.groups:
                if not slot.measure(group):
                    return
        finally:
            slot.end_worker()

    def _at_once(self, replicate: int) -> None:
        """Check problems in several workers. A case that its neighbours may have harmed has no record afterwards."""
        queue = _Queue(self.groups, self.options.jobs)
        slots = [_Slot(self, replicate, PhaseClock(), shared=True) for _ in range(self.options.jobs)]
        with ThreadPoolExecutor(len(slots)) as threads:
            running = [threads.submit(_work, slot, queue) for slot in slots]
            try:
                for each in running:
                    each.result()
            except BaseException:
                # Ctrl-C comes to this thread alone, and a fault in one slot ends them all.
                self.stopped = True
                for slot in slots:
                    slot.interrupt()
                raise
        self.held.clear()

    def missing(self) -> list[Case]:
        """Cases that have no record yet, once for each replicate."""
        cases = [case for group in self.groups for case in group.cases]
        return [
            case for replicate in range(self.options.replicates) for case in cases if not self.is_done(case, replicate)
        ]

    @property
    def left_out(self) -> int:
        """Cases of all replicates that have no record, because a budget or Ctrl-C ended the sweep."""
        return len(self.missing())

    def nothing_ran(self) -> list[str]:
        """Where every case was unsupported: each reason in a line, with the number of cases that it is of."""
        if set(self.statuses) != {"unsupported"}:
            return []
        lines = [f"{count} unsupported: {reason}" for reason, count in self._refused.items()]
        return [
            *lines[:MOST_REASONS],
            *([f"and {len(lines) - MOST_REASONS} other reasons"] if lines[MOST_REASONS:] else []),
        ]

    def _work(self, case: Case) -> float:
        implementation = self.registry.operator(case.operator).implementations[case.implementation]
        if self.settings.device not in implementation.devices:
            return 0.0
        record = base_record(
            self.registry.operator(case.operator),
            implementation,
            case,
            kind=self.options.kind,
            mode="",
            device=self.settings.device_name,
        )
        return work_of(record) * len(self.modes())

    def keep(self, record: dict[str, Any], shared: bool = False) -> None:
        """Store a record; one that neighbours may have caused waits until its case was checked alone."""
        with self._lock:
            if shared and record["status"] in SHARED:
                self.held.add(record_key(record))
                return
            self._keep(record)

    def _keep(self, record: dict[str, Any]) -> None:
        self.store(record)
        self.options.done.add(record_key(record))
        self.statuses[record["status"]] = self.statuses.get(record["status"], 0) + 1
        if record["status"] == "unsupported":
            self._refused[record["reason"]] = self._refused.get(record["reason"], 0) + 1
        self.progress.record(record)

    def modes(self) -> tuple[str, ...]:
        return modes_of(self.settings, self.options.kind)

    def missing_modes(self, case: Case, replicate: int) -> list[str]:
        """The modes of which a case has no record."""
        key = Key(case.case_id, self.options.kind, "", self.settings.device_name, replicate)
        return [mode for mode in self.modes() if key._replace(mode=mode) not in self.options.done]

    def is_done(self, case: Case, replicate: int) -> bool:
        return is_done(case, self.settings, self.options.kind, replicate, self.options.done)


class _Slot:
    """One worker, the problem it is at, and what becomes of it.

    shared: whether other workers use the device at the same time
    """

    def __init__(self, sweep: Sweep, replicate: int, clock: PhaseClock, shared: bool = False) -> None:
        self.sweep, self.replicate, self.clock, self.shared = sweep, replicate, clock, shared
        self.options, self.budget = sweep.options, sweep.budget
        self._worker: WorkerProcess | None = None

    def measure(self, group: Group) -> bool:
        """Measure what a problem lacks; False where the budget has no room for it, nor for those that follow.

        Times are taken up to some length for all operators. Checks stand alone: a shorter one may still fit.
        """
        cases = self._missing(group.cases)
        if not cases:
            return True
        if not self.budget.fits(group):
            return self.options.kind != "timed"
        if self.sweep.statuses and self.options.cool_s:
            self.clock.enter(COOLING)
            time.sleep(self.options.cool_s)
        began = time.monotonic()
        try:
            while cases and self._attempt(group, cases) is not None:
                cases = self._missing(cases)
        except BudgetSpent:
            return False
        finally:
            self.budget.note(group, time.monotonic() - began)
        return True

    def end_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None

    def interrupt(self) -> None:
        """End the worker from another thread: the slot's own finds it gone, and stops."""
        if (worker := self._worker) is not None:
            worker.end()

    def _missing(self, cases: Sequence[Case]) -> list[Case]:
        return [case for case in cases if not self.sweep.is_done(case, self.replicate) and not self._is_held(case)]

    def _is_held(self, case: Case) -> bool:
        mode, device = self.sweep.modes()[0], self.sweep.settings.device_name
        return Key(case.case_id, self.options.kind, mode, device, self.replicate) in self.sweep.held

    def _attempt(self, group: Group, cases: list[Case]) -> Case | None:
        """Measure cases in the worker; the case that ended it, or None when all went through."""
        self.clock.enter("start" if self._worker is None else HARNESS)
        worker = self._worker or self.sweep.start()
        self._worker = worker
        if self.sweep.stopped:
            raise KeyboardInterrupt
        self.clock.enter(HARNESS)
        at, phase = cases[0], "start"
        try:
            worker.channel.send(self._request(group, cases))
            while True:
                message = worker.channel.receive(self._patience())
                if self.sweep.stopped:
                    raise KeyboardInterrupt
                if message is None:
                    return self._silent(at, phase)
                if message["event"] == "begin":
                    at, phase = cases[message["case"]], message["phase"]
                    self.clock.enter(phase)
                    self.sweep.progress.begin(at, phase)
                elif message["event"] == "ceilings":
                    self.sweep.settings = replace(self.sweep.settings, ceilings=message["ceilings"])
                elif message["event"] == "record":
                    self.sweep.keep(message["record"], self.shared)
                elif message["event"] == "spoiled":
                    # The case has its record; the others go on in a fresh process.
                    self.end_worker()
                    return at
                elif message["event"] == "failed":
                    raise UsageError(message["error"])
                elif message["event"] == "done":
                    self.clock.enter(HARNESS)
                    return None
        except Disconnected:
            return self._died(at, phase)

    def _request(self, group: Group, cases: list[Case]) -> dict[str, Any]:
        settings = asdict(self.sweep.settings) | {"replicate": self.replicate}
        settings.pop("deadline")
        return {
            "do": "measure" if self.options.kind == "timed" else "check",
            "operator": group.operator,
            "problem": group.problem.columns(),
            "axes": dict(group.problem.axes),
            "cases": [
                {
                    "implementation": case.implementation,
                    "tunables": dict(case.tunables),
                    "modes": self.sweep.missing_modes(case, self.replicate),
                }
                for case in cases
            ],
            "settings": settings,
            "left_s": self.budget.left,
        }

    def _patience(self) -> float:
        left = self.budget.left
        if left is None or self.budget.seconds is None:
            return self.options.timeout_s
        return min(self.options.timeout_s, max(0.0, left + GRACE * self.budget.seconds))

    def _silent(self, at: Case, phase: str) -> Case:
        assert self._worker is not None
        worker, self._worker = self._worker, None
        worker.kill()
        left = self.budget.left
        if left is not None and left <= 0:
            raise BudgetSpent
        reason = (
            f"nothing happened for {self.options.timeout_s:.0f} s during {phase}; raise --timeout if that is too short"
        )
        self._fail(at, "timeout", reason, worker.tail())
        return at

    def _died(self, at: Case, phase: str) -> Case:
        assert self._worker is not None
        worker, self._worker = self._worker, None
        if self.sweep.stopped:
            worker.kill()
            raise KeyboardInterrupt
        how = worker.how_it_ended()
        status = "oom" if worker.killed_by_kernel else "crashed"
        tail = worker.tail()
        worker.kill()
        why = ", as the kernel does when memory is gone" if status == "oom" else ""
        last = f": {tail.splitlines()[-1][-LAST_WORDS:]}" if tail else ""
        self._fail(at, status, f"the worker ended by {how} during {phase}{why}{last}", tail)
        return at

    def _fail(self, case: Case, status: str, reason: str, tail: str) -> None:
        operator = self.sweep.registry.operator(case.operator)
        implementation = operator.implementations[case.implementation]
        for mode in self.sweep.modes():
            record = base_record(
                operator,
                implementation,
                case,
                kind=self.options.kind,
                mode=mode,
                device=self.sweep.settings.device_name,
                replicate=self.replicate,
                seed=self.sweep.settings.seed,
                commit=self.sweep.settings.commit,
            )
            if record_key(record) not in self.options.done:
                self.sweep.keep(with_status(record, status, reason) | {"stderr": tail[-STDERR_LENGTH:]}, self.shared)


class _Queue:
    """Problems for several slots, in the order of the plan as far as that leaves each operator to one of them.

    Two processes that meet an operator's kernels at once would both compile and tune them.
    """

    def __init__(self, groups: Sequence[Group], jobs: int) -> None:
        self._left = list(groups)
        # How far ahead of the plan's order a slot may reach.
        self._window = 2 * jobs
        self._served: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, last: Group | None) -> Group | None:
        """The next problem for a slot whose last one is done; None when there are none left."""
        with self._lock:
            if last:
                self._served[last.operator] -= 1
            near = self._left[: self._window]
            if not near:
                return None

            def cost(index: int) -> tuple[bool, bool]:
                operator = near[index].operator
                return last is None or operator != last.operator, self._served[operator] > 0

            taken = self._left.pop(min(range(len(near)), key=cost))
            self._served[taken.operator] += 1
            return taken

    def empty(self) -> None:
        with self._lock:
            self._left.clear()


def _work(slot: _Slot, queue: _Queue) -> None:
    """Measure problems until none is left, or the budget is spent."""
    group: Group | None = None
    try:
        while not slot.sweep.stopped and (group := queue.take(group)) is not None:
            if not slot.measure(group):
                queue.empty()
    except BaseException:
        queue.empty()
        raise
    finally:
        slot.end_worker()
