"""Sides: the processes of the two revisions that are alive together, and the answer if such a process dies.

A side starts its process when it is first asked, and again when an implementation ended it: that costs one case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from suite.errors import DiscoveryError, IncomparableError
from suite.running.budget import Budget
from suite.running.messages import Disconnected
from suite.running.process import START_TIMEOUT_S, Silent, WorkerProcess, measuring_worker

Answer = dict[str, Any]
MODULE = "suite.gating.worker"
# The longest that a revision may take to answer about a plan.
ANSWER_S = 600.0


class OutOfBudget(Exception):
    """The budget ended while a revision was waited for."""


class Process(Protocol):
    """What a side needs of a worker process."""

    @property
    def killed_by_kernel(self) -> bool: ...

    def ask(self, timeout_s: float = ..., **request: Any) -> Answer: ...

    def how_it_ended(self) -> str: ...

    def tail(self) -> str: ...

    def kill(self) -> None: ...


class Side:
    """One revision in one round.

    start:     makes its worker process
    timeout_s: silence after which a case is ended
    budget:    how long all may take
    """

    def __init__(self, start: Callable[[], Process], timeout_s: float = 300.0, budget: Budget | None = None) -> None:
        self._start, self._timeout_s, self._budget = start, timeout_s, budget or Budget()
        self._process: Process | None = None

    def ready(self) -> Side:
        """Start the process if there is none; returns the side."""
        self._process = self._process or self._start()
        return self

    def ask(self, **request: Any) -> Answer:
        """The worker's answer; where its process dies or says nothing, {status, reason} that say so.

        Raises OutOfBudget when the budget ends before the answer.
        """
        self.ready()
        assert self._process is not None
        try:
            answer = self._process.ask(self._budget.within(self._timeout_s), **request)
        except Silent:
            self.end()
            if self._budget.over:
                raise OutOfBudget from None
            return {"status": "timeout", "reason": f"nothing happened for {self._timeout_s:.0f} s; raise --timeout"}
        except Disconnected:
            return self._died(request["do"])
        if answer.pop("spoiled", False):
            self.end()
        return answer

    def _died(self, during: str) -> Answer:
        process, self._process = self._process, None
        assert process is not None
        how, tail = process.how_it_ended(), process.tail()
        status = "oom" if process.killed_by_kernel else "crashed"
        process.kill()
        last = f": {tail.splitlines()[-1]}" if tail else ""
        return {"status": status, "reason": f"the worker ended by {how} during {during}{last}"}

    def end(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process = None


# Makes the worker processes of both revisions: before, after.
Starts = tuple[Callable[[], Process], Callable[[], Process]]


@contextmanager
def both(starts: Starts, timeout_s: float, budget: Budget | None = None) -> Iterator[tuple[Side, Side]]:
    """A fresh process of each revision, started at the same time, alive until the end of the block."""
    sides = Side(starts[0], timeout_s, budget), Side(starts[1], timeout_s, budget)
    # A worker ends with the thread that started it, so the threads stay until the end.
    with ThreadPoolExecutor(2) as threads:
        try:
            list(threads.map(Side.ready, sides))
            yield sides
        finally:
            for side in sides:
                side.end()


def answer_of(process: Process, budget: Budget, **request: Any) -> Answer:
    """The answer to a question about a revision; IncomparableError when its process ends or says nothing.

    Raises OutOfBudget when the budget ends before the answer.
    """
    try:
        return process.ask(budget.within(ANSWER_S), **request)
    except Disconnected as error:
        if budget.over and isinstance(error, Silent):
            raise OutOfBudget from error
        last = process.tail().splitlines()[-1:] or [str(error)]
        raise IncomparableError(f"a revision does not answer '{request['do']}': {last[0]}") from error


def start_worker(root: Path, device: str, plugins: Sequence[str], budget: Budget, *, base: bool) -> WorkerProcess:
    """A worker of a checkout. Of the base, a failure to load is IncomparableError: nothing is wrong with this tree.

    Raises OutOfBudget when the budget ends before it is ready.
    """
    try:
        return measuring_worker(device, plugins, root, MODULE, start_s=budget.within(START_TIMEOUT_S))
    except (DiscoveryError, IncomparableError) as error:
        if budget.over:
            raise OutOfBudget from error
        if not base:
            raise
        raise IncomparableError(f"the base does not load under this suite: {error}") from error
