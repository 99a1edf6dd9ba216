"""Timing for ceilings: the best of several rounds' medians, with that round's interval."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from suite.measuring.stopping import Stopping, median_interval
from suite.measuring.timers import Timer, make_timer

Run = Callable[[], object]
ROUNDS = 5
# After so many seconds no third round of long calls begins.
ENOUGH_S = 1.0
RULE = Stopping(relative=0.02, limit_ms=60, smallest=7, blocks=1)
MODES = {"cpu": "warm-cpu", "cuda": "warm-events"}
# Calls are timed in blocks of about this long, so that a clock's resolution does not matter.
BLOCK_MS = 1.0


@dataclass(frozen=True, order=True)
class Span:
    """Milliseconds a call: the median, its 95 % interval, and how many blocks were timed for it."""

    ms: float
    low: float
    high: float
    samples: int

    def rate(self, unit: str, amount: float) -> dict[str, float]:
        """`amount` a call as {unit: amount a second in 10^9, low, high, samples}; low belongs to the longest time."""
        return {
            unit: amount / self.ms / 1e6,
            "low": amount / self.high / 1e6,
            "high": amount / self.low / 1e6,
            "samples": self.samples,
        }

    def microseconds(self) -> dict[str, float]:
        """The time itself as {us, low, high, samples}."""
        return {"us": self.ms * 1e3, "low": self.low * 1e3, "high": self.high * 1e3, "samples": self.samples}


def span(run: Run, device: str, mode: str | None = None) -> Span:
    """The best round of `run`, caches warm; mode is a timer's, the device's own without the host by default."""
    timer = make_timer(mode or MODES[device], device)
    timer.prepare(run)
    repeat = max(1, int(BLOCK_MS / max(min(timer.samples(run, 3)), 1e-4)))

    def block() -> None:
        for _ in range(repeat):
            run()

    timer.prepare(block)
    best = _best(timer, block)
    return Span(best.ms / repeat, best.low / repeat, best.high / repeat, best.samples)


def single(run: Run, device: str, mode: str) -> Span:
    """The best round of single calls: what a caller who waits for each of them sees."""
    timer = make_timer(mode, device)
    timer.prepare(run)
    return _best(timer, run)


def _best(timer: Timer, run: Run) -> Span:
    """The best of ROUNDS rounds, or of two where a round takes long."""
    began, found = time.monotonic(), [_round(timer, run)]
    while len(found) < 2 or (len(found) < ROUNDS and time.monotonic() - began < ENOUGH_S):
        found.append(_round(timer, run))
    return min(found)


def _round(timer: Timer, run: Run) -> Span:
    """Samples until their interval is narrow; each is a block of its own: a ceiling wants the best moment."""
    samples: list[float] = []
    began = time.monotonic()
    while RULE.reason([[each] for each in samples], 1e3 * (time.monotonic() - began)) is None:
        samples += timer.samples(run, RULE.smallest)
    return Span(median(samples), *median_interval(samples), len(samples))
