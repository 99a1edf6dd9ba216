"""The sweep: drives workers through a plan and stores one record per case, mode and replicate, whatever happens.

When an implementation kills its worker, or says nothing for longer than the timeout, its case gets the record that says
so and the rest of its problem is measured again without it, in a fresh worker. Each replicate is a fresh process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence, Set
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


@dataclass
class Options:
    """How a sweep runs.

    kind:       `timed` or `check`
    replicates: fresh processes that each measure the whole plan
    timeout_s:  silence after which a worker is ended
    done:       keys that a resumed run has already
    cool_s:     pause before each problem but the first, in which the device cools down
    """

    kind: str = "timed"
    replicates: int = 1
    timeout_s: float = 300.0
    done: set[Key] = field(default_factory=set)
    cool_s: float = 0.0


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
        self._worker: WorkerProcess | None = None
        missing = self.missing()
        self.progress = make_progress(
            len(missing) * len(self._modes()), sum(self._work(case) for case in missing), budget
        )

    def run(self) -> None:
        """Measure everything that is not done yet. KeyboardInterrupt passes through, with the worker gone."""
        try:
            for replicate in range(self.options.replicates):
                self._replicate(replicate)
                self._end_worker()
        finally:
            self._end_worker()
            self.clock.enter(HARNESS)
            self.progress.finish()

    def missing(self) -> list[Case]:
        """Cases that have no record yet, once for each replicate."""
        cases = [case for group in self.groups for case in group.cases]
        return [
            case for replicate in range(self.options.replicates) for case in cases if not self._is_done(case, replicate)
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
        return work_of(record) * len(self._modes())

    def _replicate(self, replicate: int) -> None:
        spent = False
        for group in self.groups:
            cases = [case for case in group.cases if not self._is_done(case, replicate)]
            if spent or (cases and not self.budget.fits(group)):
                # Times are taken up to some length for all operators. Checks stand alone: a shorter one may still fit.
                spent = spent or self.options.kind == "timed"
                continue
            if cases and self.statuses and self.options.cool_s:
                self.clock.enter(COOLING)
                time.sleep(self.options.cool_s)
            began = time.monotonic()
            try:
                self._group(group, cases, replicate)
            except BudgetSpent:
                spent = True
            self.budget.note(group, time.monotonic() - began)

    def _group(self, group: Group, cases: list[Case], replicate: int) -> None:
        while cases:
            culprit = self._attempt(group, cases, replicate)
            cases = [case for case in cases if not self._is_done(case, replicate)]
            if culprit is None:
                return

    def _attempt(self, group: Group, cases: list[Case], replicate: int) -> Case | None:
        """Measure cases in the worker; the case that ended it, or None when all went through."""
        self.clock.enter("start" if self._worker is None else HARNESS)
        worker = self._worker or self.start()
        self._worker = worker
        self.clock.enter(HARNESS)
        at, phase = cases[0], "start"
        try:
            worker.channel.send(self._request(group, cases, replicate))
            while True:
                message = worker.channel.receive(self._patience())
                if self.stopped:
                    raise KeyboardInterrupt
                if message is None:
                    return self._silent(at, phase, replicate)
                if message["event"] == "begin":
                    at, phase = cases[message["case"]], message["phase"]
                    self.clock.enter(phase)
                    self.progress.begin(at, phase)
                elif message["event"] == "ceilings":
                    self.settings = replace(self.settings, ceilings=message["ceilings"])
                elif message["event"] == "record":
                    self._keep(message["record"])
                elif message["event"] == "spoiled":
                    # The case has its record; the others go on in a fresh process.
                    self._end_worker()
                    return at
                elif message["event"] == "failed":
                    raise UsageError(message["error"])
                elif message["event"] == "done":
                    self.clock.enter(HARNESS)
                    return None
        except Disconnected:
            return self._died(at, phase, replicate)

    def _request(self, group: Group, cases: list[Case], replicate: int) -> dict[str, Any]:
        settings = asdict(self.settings) | {"replicate": replicate}
        settings.pop("deadline")
        return {
            "do": "measure" if self.options.kind == "timed" else "check",
            "operator": group.operator,
            "problem": group.problem.columns(),
            "axes": dict(group.problem.axes),
            "cases": [
                {"implementation": c.implementation, "tunables": dict(c.tunables), "modes": self._missing(c, replicate)}
                for c in cases
            ],
            "settings": settings,
            "left_s": self.budget.left,
        }

    def _patience(self) -> float:
        left = self.budget.left
        if left is None or self.budget.seconds is None:
            return self.options.timeout_s
        return min(self.options.timeout_s, max(0.0, left + GRACE * self.budget.seconds))

    def _silent(self, at: Case, phase: str, replicate: int) -> Case:
        assert self._worker is not None
        worker, self._worker = self._worker, None
        worker.kill()
        left = self.budget.left
        if left is not None and left <= 0:
            raise BudgetSpent
        reason = (
            f"nothing happened for {self.options.timeout_s:.0f} s during {phase}; raise --timeout if that is too short"
        )
        self._fail(at, replicate, "timeout", reason, worker.tail())
        return at

    def _died(self, at: Case, phase: str, replicate: int) -> Case:
        assert self._worker is not None
        worker, self._worker = self._worker, None
        how = worker.how_it_ended()
        status = "oom" if worker.killed_by_kernel else "crashed"
        tail = worker.tail()
        worker.kill()
        why = ", as the kernel does when memory is gone" if status == "oom" else ""
        last = f": {tail.splitlines()[-1][-LAST_WORDS:]}" if tail else ""
        self._fail(at, replicate, status, f"the worker ended by {how} during {phase}{why}{last}", tail)
        return at

    def _fail(self, case: Case, replicate: int, status: str, reason: str, tail: str) -> None:
        operator = self.registry.operator(case.operator)
        implementation = operator.implementations[case.implementation]
        for mode in self._modes():
            record = base_record(
                operator,
                implementation,
                case,
                kind=self.options.kind,
                mode=mode,
                device=self.settings.device_name,
                replicate=replicate,
                seed=self.settings.seed,
                commit=self.settings.commit,
            )
            if record_key(record) not in self.options.done:
                self._keep(with_status(record, status, reason) | {"stderr": tail[-STDERR_LENGTH:]})

    def _keep(self, record: dict[str, Any]) -> None:
        self.store(record)
        self.options.done.add(record_key(record))
        self.statuses[record["status"]] = self.statuses.get(record["status"], 0) + 1
        if record["status"] == "unsupported":
            self._refused[record["reason"]] = self._refused.get(record["reason"], 0) + 1
        self.progress.record(record)

    def _modes(self) -> tuple[str, ...]:
        return modes_of(self.settings, self.options.kind)

    def _missing(self, case: Case, replicate: int) -> list[str]:
        """The modes of which a case has no record."""
        key = Key(case.case_id, self.options.kind, "", self.settings.device_name, replicate)
        return [mode for mode in self._modes() if key._replace(mode=mode) not in self.options.done]

    def _is_done(self, case: Case, replicate: int) -> bool:
        return is_done(case, self.settings, self.options.kind, replicate, self.options.done)

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None
