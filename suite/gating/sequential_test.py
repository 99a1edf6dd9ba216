"""The sequential test of one case: its rounds, how many more it needs, and the decision. See docs/gate.md, section 3.

>>> trial = Trial(Limits())
>>> while trial.wanted:
...     trial.add(Round(before_ms=1.00, after_ms=1.01))
>>> trial.decision().verdict
'same'
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from suite.gating.decisions import Decision, Limits, judge_time
from suite.gating.estimates import Estimate, paired

# Rounds after which a case is looked at; it goes on only while it is inconclusive.
LOOKS = (8, 16, 32)


@dataclass(frozen=True)
class Round:
    """The median time of each revision in one round, ms, and the clock at which it ran, MHz, where that is known."""

    before_ms: float
    after_ms: float
    before_mhz: float | None = None
    after_mhz: float | None = None

    @property
    def log_ratio(self) -> float:
        """Time, after over before."""
        return math.log(self.after_ms / self.before_ms)

    @property
    def log_cycles(self) -> float | None:
        """Clock cycles, after over before."""
        if not self.before_mhz or not self.after_mhz:
            return None
        return self.log_ratio + math.log(self.after_mhz / self.before_mhz)


@dataclass
class Trial:
    """One case's rounds.

    looks:        numbers of rounds after which it is judged
    rounds:       what it was judged by first
    confirmation: as many rounds again, in fresh processes, once it was flagged as slower
    """

    limits: Limits
    looks: tuple[int, ...] = LOOKS
    rounds: list[Round] = field(default_factory=list)
    confirmation: list[Round] = field(default_factory=list)
    _judged: dict[int, Decision] = field(default_factory=dict, repr=False)

    @property
    def wanted(self) -> int:
        """Rounds to take before it is looked at again; 0 when it is decided, or has had all."""
        taken = len(self.rounds)
        if taken < self.looks[0]:
            return self.looks[0] - taken
        if self.flagged:
            return taken - len(self.confirmation)
        if taken not in self.looks or self._first().verdict == "inconclusive":
            return next((look - taken for look in self.looks if look > taken), 0)
        return 0

    @property
    def flagged(self) -> bool:
        """Whether the first rounds say slower, so that fresh ones have to say so too."""
        return len(self.rounds) in self.looks and self._first().verdict == "slower"

    def add(self, one: Round) -> None:
        """Add a round to the rounds that are wanted."""
        (self.confirmation if self.flagged else self.rounds).append(one)

    def decision(self) -> Decision:
        """The decision on the rounds so far. What was flagged is decided by the fresh rounds alone."""
        if not self.rounds:
            return Decision("inconclusive", "no round was measured", margin=self.limits.margin, rounds=0)
        first = self._first()
        if not self.flagged:
            return first
        if self.wanted:
            told = f"{first.reason}; not confirmed: {len(self.confirmation)} of {len(self.rounds)} fresh rounds"
            return replace(first, verdict="inconclusive", reason=told)
        fresh = judge_rounds(self.confirmation, self.limits)
        count = len(self.confirmation)
        if fresh.verdict == "slower":
            return replace(fresh, reason=f"{fresh.reason}; {count} fresh rounds confirm the first {count}")
        change = math.expm1(paired([each.log_ratio for each in self.rounds]).mean)
        return replace(fresh, reason=f"{fresh.reason}; the first {count} rounds said {change:+.1%}, fresh ones do not")

    def _first(self) -> Decision:
        taken = len(self.rounds)
        if taken not in self._judged:
            self._judged[taken] = judge_rounds(self.rounds, self.limits)
        return self._judged[taken]


def judge_rounds(rounds: Sequence[Round], limits: Limits) -> Decision:
    """The decision about time on paired rounds."""
    before_ms = median(each.before_ms for each in rounds)
    return judge_time(paired([each.log_ratio for each in rounds]), before_ms, limits, _cycles(rounds))


def _cycles(rounds: Sequence[Round]) -> Estimate | None:
    known = [each.log_cycles for each in rounds]
    return paired([each for each in known if each is not None]) if None not in known else None


def looks_up_to(most: int) -> tuple[int, ...]:
    """The looks of a trial that may have at most so many rounds."""
    return tuple(sorted({*(look for look in LOOKS if look < most), most}))
