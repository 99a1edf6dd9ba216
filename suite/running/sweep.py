"""The sweep: drives workers through a plan and stores one record per case, mode and replicate, whatever happens.

When an implementation kills its worker, or says nothing for longer than the timeout, its case gets the record that says
so and the rest of its problem is measured again without it, in a fresh worker. Each replicate is a fresh process.

A worker may die of what another case left in it, such as a thread. So nobody is blamed for a death in a worker that had
run the code of several cases: those that may have caused it are measured again, each alone in a fresh worker, the one
at hand first. Who dies alone is blamed.

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
from suite.faults import REASON_LENGTH
from suite.measuring.case import Settings
from suite.measuring.records import base_record, with_status
from suite.plan import Group
from suite.problem import Case
from suite.registry import Registry
from suite.running.answers import TIMED, Answers
from suite.running.budget import Budget
from suite.running.judging import judged
from suite.running.lastwords import last_words
from suite.running.messages import Disconnected, Refused
from suite.running.process import WorkerProcess
from suite.running.progress import Progress, work_of
from suite.store import STATUSES, Key, record_key
from suite.store.environments import ceilings_fault

# Beyond its budget a problem that does not stop by itself is ended: this part of the whole budget is the grace.
GRACE = 0.05
STDERR_LENGTH = 1500
# A case is suspected of a death that comes so long after it began, and no more than so many cases are.
SUSPECT_S, SUSPECTS = 30.0, 8
# How long a suspect's worker is watched after its case began: this many times what it had before the death, and more.
WATCHED, WATCHED_S = 2.0, 1.0
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
    review(record): judges a record once more before it is kept
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
        review: Callable[[dict[str, Any]], dict[str, Any]] = lambda record: record,
    ) -> None:
        self.review = review
        self.registry, self.groups, self.settings, self.options = registry, groups, settings, options
        self.start, self.store, self.budget = start, store, budget
        self.statuses: dict[str, int] = {}
        self._status_of: dict[Key, str] = {}
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
        record = self.review(record)
        self.store(record)
        key = record_key(record)
        if before := self._status_of.get(key):
            # A case that was measured, and then found to have ended its worker.
            self.statuses[before] -= 1
            self.statuses = {status: count for status, count in self.statuses.items() if count}
        self.options.done.add(key)
        self._status_of[key] = record["status"]
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


# A problem and one of its cases.
_At = tuple[Group, Case]


@dataclass
class _Death:
    """How a worker ended that was not to end.

    at:    the case in flight, and its problem
    after: time.monotonic() of the death
    """

    at: _At
    status: str
    reason: str
    tail: str
    after: float


class _Slot:
    """One worker, the problem it is at, and what becomes of it.

    shared: whether other workers use the device at the same time
    """

    def __init__(self, sweep: Sweep, replicate: int, clock: PhaseClock, shared: bool = False) -> None:
        self.sweep, self.replicate, self.clock, self.shared = sweep, replicate, clock, shared
        self.options, self.budget = sweep.options, sweep.budget
        self._worker: WorkerProcess | None = None
        # Cases whose code ran in this worker by their ids, with the time at which it began to.
        self._ran: dict[str, tuple[_At, float]] = {}

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
            while cases:
                self._go_on(group, cases)
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
        self._ran.clear()

    def interrupt(self) -> None:
        """End the worker from another thread: the slot's own finds it gone, and stops."""
        if (worker := self._worker) is not None:
            worker.end()

    def _missing(self, cases: Sequence[Case]) -> list[Case]:
        return [case for case in cases if not self.sweep.is_done(case, self.replicate) and not self._is_held(case)]

    def _is_held(self, case: Case) -> bool:
        mode, device = self.sweep.modes()[0], self.sweep.settings.device_name
        return Key(case.case_id, self.options.kind, mode, device, self.replicate) in self.sweep.held

    def _go_on(self, group: Group, cases: list[Case]) -> None:
        """Measure cases, until all have their records or one has ended the worker: at least one case gets its own."""
        wanted = [self.sweep.missing_modes(case, self.replicate) for case in cases]
        answers = Answers(cases, wanted, self.options.kind)
        death = self._attempt(group, answers, self._keep)
        if death is None:
            return
        ran = sorted(self._ran.values(), key=lambda each: each[1], reverse=True)
        began = {at[1].case_id: since for at, since in ran}
        self._ran.clear()
        here = death.at[1].case_id
        if set(began) <= {here} or death.status == "timeout":
            self._blame(death)
            return
        recent = [at for at, since in ran if at[1].case_id != here and death.after - since <= SUSPECT_S]
        guilty = ""
        for suspect in [death.at, *recent][:SUSPECTS]:
            # Once somebody is to blame, the others are not suspected any more, but for the same code in other cases.
            if guilty and suspect[1].implementation != guilty:
                continue
            had_s = death.after - began.get(suspect[1].case_id, death.after)
            if (alone := self._alone(suspect, had_s)) is not None:
                self._blame(alone)
                guilty = suspect[1].implementation

    def _alone(self, suspect: _At, had_s: float) -> _Death | None:
        """Measure a case alone in a fresh worker, and keep its records if it lacks them; how it died, where it did.

        had_s: what passed between its beginning and the death that it is suspected of
        """
        group, case = suspect
        lacking = self.sweep.missing_modes(case, self.replicate)
        records: list[dict[str, Any]] = []
        answers = Answers([case], [list(self.sweep.modes())], self.options.kind)
        try:
            death = self._attempt(group, answers, records.append)
            if death is None and self._worker is not None:
                passed = time.monotonic() - answers.began.get(0, time.monotonic())
                death = self._watched(suspect, WATCHED * had_s + WATCHED_S - passed)
        finally:
            self.end_worker()
        if death is None:
            for record in records:
                if record["mode"] in lacking:
                    self._keep(record)
        return death

    def _watched(self, suspect: _At, seconds: float) -> _Death | None:
        """Wait for a worker that has nothing left to do; how it died, where it did."""
        assert self._worker is not None
        try:
            if seconds <= 0 or self._worker.channel.receive(seconds) is None:
                return None
            raise Refused("a message came after its last")
        except Disconnected as error:
            return self._died(suspect, "the time after its last call", error)

    def _attempt(self, group: Group, answers: Answers, keep: Callable[[dict[str, Any]], None]) -> _Death | None:
        """Measure cases in the worker; how it died, or None when it is alive or its end is told already."""
        self.clock.enter("start" if self._worker is None else HARNESS)
        worker = self._worker or self.sweep.start()
        self._worker = worker
        if self.sweep.stopped:
            raise KeyboardInterrupt
        self.clock.enter(HARNESS)
        progress, heard = self.sweep.progress, 0
        try:
            worker.channel.send(self._request(group, answers))
            while True:
                message = worker.channel.receive(self._patience())
                answers.heard()
                if self.sweep.stopped:
                    raise KeyboardInterrupt
                if message is None:
                    return self._silent((group, answers.case), answers.phase)
                event = message.get("event")
                if event == "begin":
                    answers.begin(message)
                    if (since := answers.began.get(answers.at)) is not None:
                        self._ran.setdefault(answers.case.case_id, ((group, answers.case), since))
                    self.clock.enter(answers.phase)
                    progress.begin(answers.case, answers.phase)
                    if answers.phase == TIMED:
                        answers.start_turn()
                        worker.channel.send({"do": "go"})
                elif event == "ceilings":
                    self._raise_ceilings(message.get("ceilings"))
                elif event == "record":
                    keep(self._judged(answers, answers.record(message)))
                    heard += 1
                elif event in ("spoiled", "raised"):
                    self.end_worker()
                    if event == "raised" or not heard:
                        # A case that spoiled its worker has its record; the others go on in a fresh process.
                        self._tell(answers, message, keep)
                    return None
                elif event == "failed":
                    raise UsageError(str(message.get("error")))
                elif event == "done":
                    answers.done()
                    self.clock.enter(HARNESS)
                    return None
                else:
                    raise Refused(f"it says {str(event)[:40]!r}")
        except Disconnected as error:
            return self._died((group, answers.case), answers.phase, error)

    def _request(self, group: Group, answers: Answers) -> dict[str, Any]:
        settings = asdict(self.sweep.settings) | {"replicate": self.replicate}
        settings.pop("deadline")
        return {
            "do": "measure" if self.options.kind == "timed" else "check",
            "operator": group.operator,
            "problem": group.problem.columns(),
            "axes": dict(group.problem.axes),
            "cases": [
                {"implementation": case.implementation, "tunables": dict(case.tunables), "modes": list(modes)}
                for case, modes in zip(answers.cases, answers.wanted, strict=True)
            ],
            "settings": settings,
            "left_s": self.budget.left,
        }

    def _judged(self, answers: Answers, told: dict[str, Any]) -> dict[str, Any]:
        case, base = answers.case, self._base(answers.case, told["mode"])
        operator = self.sweep.registry.operator(case.operator)
        return judged(told, base, operator, case.problem, self.sweep.settings, answers.turns[answers.at])

    def _raise_ceilings(self, ceilings: object) -> None:
        if type(ceilings) is not dict or not ceilings.keys() >= self.sweep.settings.ceilings.keys():
            raise Refused("it tells no ceilings")
        if wrong := ceilings_fault(ceilings):
            raise Refused(f"it tells ceilings{wrong}")
        self.sweep.settings = replace(self.sweep.settings, ceilings=ceilings)

    def _tell(self, answers: Answers, message: dict[str, Any], keep: Callable[[dict[str, Any]], None]) -> None:
        """Records of the case at hand, of all that is wanted of it, with what its worker says of it."""
        for mode in answers.wanted[answers.at]:
            status, reason = str(message.get("status")), str(message.get("reason"))
            base = self._base(answers.case, mode)
            known = status in STATUSES and status != "ok"
            keep(with_status(base, status if known else "error", reason[:REASON_LENGTH]))

    def _patience(self) -> float:
        left = self.budget.left
        if left is None or self.budget.seconds is None:
            return self.options.timeout_s
        return min(self.options.timeout_s, max(0.0, left + GRACE * self.budget.seconds))

    def _silent(self, at: _At, phase: str) -> _Death:
        assert self._worker is not None
        worker, self._worker = self._worker, None
        worker.kill()
        left = self.budget.left
        if left is not None and left <= 0:
            raise BudgetSpent
        reason = (
            f"nothing happened for {self.options.timeout_s:.0f} s during {phase}; raise --timeout if that is too short"
        )
        return _Death(at, "timeout", reason, worker.tail(), time.monotonic())

    def _died(self, at: _At, phase: str, error: Disconnected) -> _Death:
        assert self._worker is not None
        after = time.monotonic()
        worker, self._worker = self._worker, None
        if self.sweep.stopped:
            worker.kill()
            raise KeyboardInterrupt
        if isinstance(error, Refused):
            worker.kill()
            return _Death(at, "crashed", f"its worker was ended during {phase}: {error}", worker.tail(), after)
        how = worker.how_it_ended()
        status = "oom" if worker.killed_by_kernel else "crashed"
        tail = worker.tail()
        worker.kill()
        why = ", as the kernel does when memory is gone" if status == "oom" else ""
        last = f": {words}" if (words := last_words(tail)) else ""
        return _Death(at, status, f"the worker ended by {how} during {phase}{why}{last}", tail, after)

    def _blame(self, death: _Death) -> None:
        """The records of the case that ended its worker; one that had them all dies later than it was measured."""
        case = death.at[1]
        for mode in self.sweep.missing_modes(case, self.replicate) or self.sweep.modes():
            record = with_status(self._base(case, mode), death.status, death.reason)
            self._keep(record | {"stderr": death.tail[-STDERR_LENGTH:]})

    def _base(self, case: Case, mode: str) -> dict[str, Any]:
        """All that is known of a case without its worker."""
        operator, settings = self.sweep.registry.operator(case.operator), self.sweep.settings
        return base_record(
            operator,
            operator.implementations[case.implementation],
            case,
            kind=self.options.kind,
            mode=mode,
            device=settings.device_name,
            replicate=self.replicate,
            seed=settings.seed,
            recheck_pick=settings.recheck_pick if self.options.kind == "timed" else None,
            commit=settings.commit,
        )

    def _keep(self, record: dict[str, Any]) -> None:
        self.sweep.keep(record, self.shared)


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
