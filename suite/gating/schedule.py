"""The schedule: rounds of many cases, in fresh processes, until each case is decided or the budget ends.

Each pass starts a fresh process of both revisions and gives one round to every case that still wants one. The first
pass goes from short cases to long ones and takes in only what the budget can bring to a first look; the others go in
an order that is drawn again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

from suite.gating.rounds import RoundResult, RoundSettings, play
from suite.gating.sequential_test import Trial
from suite.gating.sides import Answer, OutOfBudget, Side, Starts, both
from suite.running.budget import Budget
from suite.static.progress import Progress, silent


@dataclass
class CasePair:
    """One case of both revisions: its trial, and what each revision answered, round by round.

    same_code: whether both revisions have the same code for it, and it is measured all the same
    """

    case_id: str
    case: dict[str, Any]
    trial: Trial
    same_code: bool = False
    before: list[Answer] = field(default_factory=list)
    after: list[Answer] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether a revision had a status other than ok: no time can be told."""
        return any(each["status"] != "ok" for each in (*self.before, *self.after))

    @property
    def wants(self) -> bool:
        """Whether it wants another round."""
        return not self.failed and self.trial.wanted > 0

    def add(self, played: RoundResult) -> None:
        """Keep a round."""
        self.before.append(played.before)
        self.after.append(played.after)
        if played.times:
            self.trial.add(played.times)


@dataclass
class Schedule:
    """Runs pairs.

    starts:    make the worker processes of both revisions
    timeout_s: silence after which a case is ended
    check:     whether the first pass checks numerics and memory
    """

    pairs: Sequence[CasePair]
    starts: Starts
    terms: RoundSettings
    budget: Budget = field(default_factory=Budget)
    timeout_s: float = 300.0
    check: bool = True
    progress: Progress = silent
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._draw = Random(self.terms.seed)
        self._passes = 0

    def run(self) -> None:
        """Play rounds until no pair wants one, or the budget ends: a round that it ends in does not count."""
        wanting = list(self.pairs)
        with suppress(OutOfBudget):
            while wanting and not self.budget.over:
                self._passes += 1
                (self._first_pass if self._passes == 1 else self._pass)(wanting)
                # What the first pass did not take in stays out.
                wanting = [each for each in self.pairs if each.before and each.wants]

    def _first_pass(self, pairs: list[CasePair]) -> None:
        began = self.clock()
        with self._both() as sides, self.progress("round 1", len(pairs)) as step:
            # Seconds that all cases taken in so far need in each later pass.
            later, longest = self.clock() - began, 0.0
            for pair in pairs:
                passes = pair.trial.looks[0] - 1
                if self.budget.left is not None and self.budget.left < passes * (later + longest) + longest:
                    break
                start = self.clock()
                self._play(sides, pair, check=self.check)
                longest = max(longest, self.clock() - start)
                later += self.clock() - start - _check_s(pair)
                step(pair.case_id)

    def _pass(self, pairs: list[CasePair]) -> None:
        self._draw.shuffle(pairs)
        with self._both() as sides, self.progress(f"round {self._passes}", len(pairs)) as step:
            for pair in pairs:
                if self.budget.over:
                    break
                self._play(sides, pair, check=False)
                step(pair.case_id)

    def _both(self) -> AbstractContextManager[tuple[Side, Side]]:
        return both(self.starts, self.timeout_s, self.budget)

    def _play(self, sides: tuple[Side, Side], pair: CasePair, *, check: bool) -> None:
        pair.add(play(sides, pair.case, self.terms, self._draw, check=check))


def _check_s(pair: CasePair) -> float:
    """Seconds of a first round that later ones do not need."""
    return sum(each.get("check_s", 0.0) for each in (pair.before[0], pair.after[0]))
