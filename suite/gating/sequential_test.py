"""The sequential test of one case: its rounds, how many more it needs, and the decision. See docs/gate.md, section 3.

>>> trial = Trial(Limits())
>>> while trial.wanted:
...     trial.add(Round(before_ms=1.00, after_ms=1.01))
>>> trial.decision().verdict
'same'
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from statistics import median

from suite.gating.decisions import SLOWER_LEVEL, Decision, Limits, judge_time
from suite.gating.estimates import Estimate, paired, serial

# Rounds after which a case is looked at; it goes on only while it is inconclusive.
LOOKS = (8, 16, 32, 64)
# The power of the fresh rounds by which their level is spent: little at early looks, which can still go on.
SPENDING = 3


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
    least_rho:    what is known of the correlation of its successive rounds on this machine
    rounds:       what it was judged by first
    confirmation: fresh rounds, in fresh processes, once it was flagged as slower: at least as many, until they decide
    """

    limits: Limits
    looks: tuple[int, ...] = LOOKS
    least_rho: float = 0.0
    rounds: list[Round] = field(default_factory=list)
    confirmation: list[Round] = field(default_factory=list)
    _flags: dict[int, Decision] = field(default_factory=dict, repr=False)
    _decisions: dict[tuple[int, int], Decision] = field(default_factory=dict, repr=False)

    @property
    def wanted(self) -> int:
        """Rounds to take before it is looked at again; 0 when it is decided, or has had all."""
        flagged = self.flagged
        taken, first = (len(self.confirmation), len(self.rounds)) if flagged else (len(self.rounds), self.looks[0])
        if taken < first:
            return first - taken
        if taken in self.looks and (self._fresh() if flagged else self._first()).verdict != "inconclusive":
            return 0
        return next((look - taken for look in self.looks if look > taken), 0)

    @property
    def flagged(self) -> bool:
        """Whether the first rounds say slower by Student's interval, so that fresh ones have to say so too."""
        return len(self.rounds) in self.looks and self._flag().verdict == "slower"

    def add(self, one: Round) -> None:
        """Add a round to the rounds that are wanted."""
        (self.confirmation if self.flagged else self.rounds).append(one)

    def decision(self) -> Decision:
        """The decision on the rounds so far. What was flagged is decided by the fresh rounds alone."""
        if not self.rounds:
            return Decision("inconclusive", "no round was measured", margin=self.limits.margin, rounds=0)
        if not self.flagged:
            first = self._first()
            # Between two looks, where a budget ended, nothing was flagged yet.
            return first if first.verdict != "slower" else _unconfirmed(first, 0, len(self.rounds))
        if more := self.wanted:
            taken = len(self.confirmation)
            return _unconfirmed(self._flag(), taken, taken + more)
        fresh, count = self._fresh(), len(self.rounds)
        if fresh.verdict == "slower":
            told = f"{len(self.confirmation)} fresh rounds confirm the first {count}"
            return replace(fresh, reason=f"{fresh.reason}; {told}")
        change = math.expm1(paired([each.log_ratio for each in self.rounds]).mean)
        return replace(fresh, reason=f"{fresh.reason}; the first {count} rounds said {change:+.1%}, fresh ones do not")

    def _flag(self) -> Decision:
        """The first rounds, as if they were independent."""
        taken = len(self.rounds)
        if taken not in self._flags:
            self._flags[taken] = judge_rounds(self.rounds, self.limits, paired)
        return self._flags[taken]

    def _first(self) -> Decision:
        """The first rounds, as they resemble each other."""
        return self._serial(self.rounds, (), SLOWER_LEVEL)

    def _fresh(self) -> Decision:
        """The fresh rounds; while they are no more than the first ones, these help to tell how rounds correlate."""
        taken = len(self.confirmation)
        earlier = self.rounds if taken <= len(self.rounds) else []
        return self._serial(self.confirmation, earlier, slower_level(taken, self.looks))

    def _serial(self, rounds: Sequence[Round], earlier: Sequence[Round], level: float) -> Decision:
        key = len(earlier), len(rounds)
        if key not in self._decisions:

            def estimated(figures: Sequence[float]) -> Estimate:
                # Those of the earlier rounds come first.
                return serial(figures[len(earlier) :], figures[: len(earlier)], self.least_rho)

            self._decisions[key] = judge_rounds([*earlier, *rounds], self.limits, estimated, level)
        return self._decisions[key]


def _unconfirmed(decision: Decision, taken: int, of: int) -> Decision:
    told = f"{decision.reason}; not confirmed: {taken} of {of} fresh rounds"
    return replace(decision, verdict="inconclusive", reason=told)


def judge_rounds(
    rounds: Sequence[Round],
    limits: Limits,
    estimated: Callable[[Sequence[float]], Estimate],
    level: float = SLOWER_LEVEL,
) -> Decision:
    """The decision about time on paired rounds.

    estimated: makes an estimate of the log-ratios of the rounds
    level:     how sure a `slower` must be
    """
    before_ms = median(each.before_ms for each in rounds)
    known = [each.log_cycles for each in rounds]
    cycles = estimated([each for each in known if each is not None]) if None not in known else None
    return judge_time(estimated([each.log_ratio for each in rounds]), before_ms, limits, cycles, level)


def slower_level(look: int, looks: Sequence[int]) -> float:
    """How sure a `slower` of so many fresh rounds must be: all looks share 1 - SLOWER_LEVEL (Kim and DeMets 1987)."""
    before = max((each for each in looks if each < look), default=0)
    return 1 - (1 - SLOWER_LEVEL) * (look**SPENDING - before**SPENDING) / looks[-1] ** SPENDING


def looks_up_to(most: int) -> tuple[int, ...]:
    """The looks of a trial that may have at most so many rounds."""
    return tuple(sorted({*(look for look in LOOKS if look < most), most}))
