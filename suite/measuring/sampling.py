"""Sampling: the cases of one problem in turns, so that drift of the machine hits all alike.

Every turn takes a block of samples of each case that is not finished, in an order that rotates.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from suite.measuring.stopping import Stopping, median_interval
from suite.measuring.timers import Run, Timer

BLOCK_MS = 20.0
LARGEST_BLOCK = 200


@dataclass
class Sampled:
    """One case being timed: its callable, its timer, its samples in ms, and why it stopped."""

    run: Run
    timer: Timer
    rule: Stopping
    samples: list[float] = field(default_factory=list)
    stop: str | None = None
    error: BaseException | None = None

    @property
    def finished(self) -> bool:
        return self.stop is not None or self.error is not None

    def block(self) -> int:
        """Samples of the next turn: about BLOCK_MS of them, at least one."""
        typical = median(self.samples) if self.samples else BLOCK_MS
        return max(1, min(LARGEST_BLOCK, int(BLOCK_MS / max(typical, 1e-4))))

    def summary(self) -> dict[str, Any]:
        """Median, percentiles and interval of the samples, as a record has them."""
        low, high = median_interval(self.samples)
        p20, p80 = np.percentile(self.samples, [20, 80])
        return {
            "time_ms": median(self.samples),
            "p20_ms": float(p20),
            "p80_ms": float(p80),
            "ci_low_ms": low,
            "ci_high_ms": high,
            "stop": self.stop,
            "samples": self.samples,
            "timer": self.timer.name,
            "l2": self.timer.l2,
            "host_inclusive": self.timer.host_inclusive,
        }


def interleave(sampled: list[Sampled], deadline: float | None = None,
               begin: Callable[[int], None] = lambda _: None) -> None:  # fmt: skip
    """Take turns until every case has stopped. `begin(i)` is told whose turn it is.

    deadline: time.monotonic() after which sampling stops with the reason `budget`, once every case has its smallest
              number of samples
    """
    turn = 0
    while live := [i for i, each in enumerate(sampled) if not each.finished]:
        turn += 1
        shift = turn % len(live)
        for i in live[shift:] + live[:shift]:
            begin(i)
            _take(sampled[i], deadline)


def _take(one: Sampled, deadline: float | None) -> None:
    try:
        one.samples += one.timer.samples(one.run, one.block())
    except Exception as error:
        one.error = error
        return
    one.stop = one.rule.reason(one.samples)
    if (
        one.stop is None
        and deadline is not None
        and time.monotonic() > deadline
        and len(one.samples) >= one.rule.smallest
    ):
        one.stop = "budget"
