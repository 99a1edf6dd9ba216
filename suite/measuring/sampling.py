"""Sampling: the cases of one problem in turns, so that drift of the machine affects all alike.

Every turn takes a block of samples of each case that is not finished, in an order that rotates. A case takes BLOCKS
turns or more (suite/measuring/stopping.py), so that turns spread over all cases however fast one is. Where telemetry
tells that a block was taken under throttle, its samples are marked and taken again, after a pause in which the device
may cool down. They are not thrown away: when retaking does not help, they are what was measured, and the record says
so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from suite.measuring import clock as time
from suite.measuring.stopping import Stopping, block_interval
from suite.measuring.timers import Run, Timer
from suite.telemetry import PREFIX, Sampler

# Of the wall clock, with all that a sample costs beside its span.
BLOCK_MS = 10.0
LARGEST_BLOCK = 200
# Calls up to this long are taken in blocks of two at least, behind one that does not count: another case has had the
# caches. In longer ones filling them again does not show.
CACHED_MS = 100.0
PAUSE_S = 0.25
THROTTLED = "throttled"


@dataclass
class Sampled:
    """One case being timed.

    before:  is called before each sample, outside of its span
    blocks:  the samples that count, ms, as they were taken together
    retaken: those taken under throttle, ms
    stop:    why sampling stopped
    spent_ms: what its blocks took by the wall clock
    spans:   (start, end) of each block, time.perf_counter_ns()
    around:  what its code is called in, outside of what is timed; it is told that samples are taken
    """

    run: Run
    timer: Timer
    rule: Stopping
    before: Callable[[], object] = lambda: None
    blocks: list[list[float]] = field(default_factory=list)
    retaken: list[float] = field(default_factory=list)
    stop: str | None = None
    error: Exception | None = None
    spans: list[tuple[int, int]] = field(default_factory=list)
    telemetry: dict[str, Any] = field(default_factory=dict)
    spent_ms: float = 0.0
    around: Callable[[bool], AbstractContextManager[object]] = lambda samples: nullcontext()
    _taken: list[list[float]] = field(default_factory=list)
    _retaken_ms: float = 0.0
    _per_sample_ms: float | None = None
    _throttled: int = 0
    _kept: bool = False

    @property
    def samples(self) -> list[float]:
        """The samples that count, ms."""
        return [sample for block in self.blocks for sample in block]

    @property
    def finished(self) -> bool:
        return self.stop is not None or self.error is not None

    def block(self) -> int:
        """Samples of the next turn: about BLOCK_MS of them, at least one, or two where caches matter."""
        fit = int(BLOCK_MS / max(self._per_sample_ms or BLOCK_MS, 1e-4))
        return max(2 if self.cached else 1, min(LARGEST_BLOCK, fit))

    @property
    def cached(self) -> bool:
        """Whether it is told apart from its first call after another case by what is in the caches."""
        return self.timer.l2 == "warm" and (self._per_sample_ms or 0.0) <= CACHED_MS

    @property
    def sized(self) -> bool:
        """Whether it is known what a sample costs."""
        return self._per_sample_ms is not None

    def size(self, samples: int, spent_ms: float) -> None:
        """Note what so many samples took by the wall clock."""
        self._per_sample_ms = spent_ms / samples

    def add(self, block: list[float], spent_ms: float, throttled: bool) -> None:
        """Take a block in, and stop when the rule says so."""
        self.size(len(block), spent_ms)
        self._taken.append(block)
        if throttled:
            self.retaken += block
            self._retaken_ms += spent_ms
            self._throttled += len(block)
            self._give_up()
        else:
            self.blocks.append(block)
            self.spent_ms += spent_ms
            self.stop = self.rule.reason(self.blocks, self.spent_ms)

    def _enough(self, blocks: Sequence[Sequence[float]]) -> bool:
        """Whether an interval can be made of them: fewer blocks than the rule asks for say nothing of their spread."""
        return sum(map(len, blocks)) >= self.rule.smallest and len(blocks) >= self.rule.blocks

    def out_of_time(self) -> None:
        """Stop for a budget, once there are enough samples of either kind."""
        if self.stop is None and self._enough(self._taken):
            self._end("budget")

    def marks(self) -> dict[str, Any]:
        """What a record says of throttled samples: how many, whether they count, and those that do not."""
        found: dict[str, Any] = {"throttled_samples": self._throttled, "throttled_kept": self._kept}
        return found | ({"retaken_ms": self.retaken} if self.retaken else {})

    def _give_up(self) -> None:
        # Retaking may cost as much time again as sampling may.
        if self._retaken_ms >= self.rule.limit_ms and self._enough(self._taken):
            self._end(THROTTLED)

    def _end(self, reason: str) -> None:
        self.stop = reason
        if self.retaken and not self._enough(self.blocks):
            self.blocks, self.retaken, self._kept = self._taken, [], True

    def summary(self) -> dict[str, Any]:
        """Median, percentiles and interval of the samples, as a record has them."""
        return {
            **figures_of(self.blocks),
            "stop": self.stop,
            **self.raw(),
            "timer": self.timer.name,
            "l2": self.timer.l2,
            "calls": self.timer.calls,
            "host_inclusive": self.timer.host_inclusive,
            **self._host(),
            **self.telemetry,
        }

    def raw(self) -> dict[str, Any]:
        """The samples, and how many of them were taken together."""
        return {"samples": self.samples, "blocks": [len(block) for block in self.blocks]}

    def _host(self) -> dict[str, Any]:
        """What the host has to do with the samples, where a timer hides it."""
        if self.timer.host_ms is None:
            return {}
        return {"host_ms": self.timer.host_ms, "host_bound": self.timer.host_bound()}


def figures_of(blocks: Sequence[Sequence[float]]) -> dict[str, float]:
    """Median, percentiles and interval of samples that were taken in blocks, ms."""
    samples = [sample for block in blocks for sample in block]
    low, high = block_interval(blocks)
    p20, p80 = np.percentile(samples, [20, 80])
    return {
        "time_ms": median(samples),
        "p20_ms": float(p20),
        "p80_ms": float(p80),
        "ci_low_ms": low,
        "ci_high_ms": high,
    }


def interleave(
    sampled: list[Sampled],
    deadline: float | None = None,
    begin: Callable[[int], None] = lambda _: None,
    watch: Sampler | None = None,
    pause: Callable[[float], None] = time.sleep,
    failed: Callable[[int, Exception], None] = lambda i, error: None,
    cooling: Callable[[int], None] = lambda i: None,
) -> None:
    """Take turns until every case has stopped. `begin(i)` is told whose turn it is.

    deadline: time.monotonic() after which sampling stops with the reason `budget`, once every case has its smallest
              number of samples
    watch:    tells which blocks were taken under throttle, and what goes into `telemetry`
    pause:    waits after such a block
    failed:   is told which case raised; what it raises itself ends the turns
    cooling:  is told whose samples were throttled, before the pause
    """
    turn = 0
    while live := [i for i, each in enumerate(sampled) if not each.finished]:
        turn += 1
        shift = turn % len(live)
        for i in live[shift:] + live[:shift]:
            begin(i)
            if _take(sampled[i], watch, shared=len(live) > 1):
                cooling(i)
                pause(PAUSE_S)
            if (error := sampled[i].error) is not None:
                failed(i, error)
            if deadline is not None and time.monotonic() > deadline:
                sampled[i].out_of_time()
    if watch is not None:
        watch.look()
        for one in sampled:
            marks = one.marks() if watch.source.judges else {}
            one.telemetry = watch.columns(one.spans) | {PREFIX + name: value for name, value in marks.items()}


def _take(one: Sampled, watch: Sampler | None, shared: bool) -> bool:
    """Take a block; whether it was taken under throttle."""
    block: list[float] = []
    start = end = 0
    try:
        with one.around(True):
            if not one.sized:
                start = time.perf_counter_ns()
                block = one.timer.samples(one.run, 1, one.before)
                end = time.perf_counter_ns()
                one.size(1, (end - start) / 1e6)
            elif shared and one.cached:
                one.timer.samples(one.run, 1, one.before)
            # The sample that told what a sample costs is a block of its own where a block is no more than one sample.
            if not block or one.block() > 1:
                start = time.perf_counter_ns()
                block = one.timer.samples(one.run, one.block(), one.before)
                end = time.perf_counter_ns()
    except Exception as error:
        one.error = error
        return False
    throttled = watch is not None and watch.spoiled(start, end)
    one.spans.append((start, end))
    one.add(block, (end - start) / 1e6, throttled)
    return throttled
