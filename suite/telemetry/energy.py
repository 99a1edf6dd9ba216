"""Energy: joules per call over a saturated window, from the board's energy counter, integrated power, or RAPL.

The counter moves about every 100 ms, so the window begins and ends at its steps, and is at least SHORTEST_S long. On
some boards the sensor looks at a part of the time only (arXiv:2312.02741): a long window of equal calls is what makes
its mean the kernel's. Idle power is measured before, on the quiet device, and stands beside; nothing is subtracted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from suite.errors import UsageError
from suite.telemetry.readings import Source

SHORTEST_S = 2.0
# Power readings are means of up to a second: before the window the device runs, or rests, for longer than that.
SETTLE_S = 1.2
IDLE_S = 1.5
BATCH_S = 0.01
# A counter that has not moved for this long does not count.
STUCK_S = 1.0


class NoEnergy(Exception):
    """Energy cannot be measured here; the message says why."""


@dataclass(frozen=True)
class Energy:
    """What a window used: joules, seconds, and the calls in it."""

    joules: float
    seconds: float
    calls: int = 0

    @property
    def watts(self) -> float:
        return self.joules / self.seconds


def check_window(seconds: float) -> None:
    """UsageError when a window is too short for the counter."""
    if seconds < SHORTEST_S:
        raise UsageError(f"energy over {seconds:g} s: the counter moves every 0.1 s; give at least {SHORTEST_S:g} s")


class Meter:
    """Joules used since it was made, from whatever the source can tell. Raises NoEnergy when that is nothing."""

    def __init__(self, source: Source, clock: Callable[[], float] = time.perf_counter) -> None:
        self._source, self._clock = source, clock
        self._last: tuple[float, float] | None = None
        self._integral = 0.0
        if source.energy_j() is not None:
            self.method = source.energy_method
        elif source.power_w() is not None:
            self.method = "power"
        else:
            why = (source.refused.get(name) for name in ("energy", "power"))
            said = "; ".join(dict.fromkeys(each for each in why if each))
            raise NoEnergy(said or "the device tells neither energy nor power")

    def joules(self) -> float:
        """The reading now; where power is integrated, of all spans between two calls."""
        told = self._source.power_w() if self.method == "power" else self._source.energy_j()
        if told is None:
            raise NoEnergy(f"the device stopped telling its {self.method}")
        if self.method != "power":
            return told
        now = self._clock()
        if self._last is not None:
            since, watts = self._last
            self._integral += (now - since) * (watts + told) / 2
        self._last = now, told
        return self._integral


def window(
    meter: Meter, work: Callable[[], int], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Energy:
    """Energy of at least `seconds` of work, from one step of the counter to another. work() returns its calls."""
    start, before, _ = _edge(meter, work, clock)
    calls = 0
    while clock() - start < seconds:
        calls += work()
        meter.joules()
    end, after, more = _edge(meter, work, clock)
    return Energy(after - before, end - start, calls + more)


def idle(
    meter: Meter, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Watts of the device at rest, after it has rested."""

    def rest() -> int:
        sleep(BATCH_S)
        return 0

    end = clock() + SETTLE_S
    while clock() < end:
        rest()
    return window(meter, rest, IDLE_S, clock).watts


def saturated(
    meter: Meter,
    run: Callable[[], Any],
    synchronize: Callable[[], None],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Energy:
    """Energy of back-to-back calls over at least `seconds`, after the device has run them for a while."""
    check_window(seconds)
    batch = _batch(run, synchronize, clock)

    def work() -> int:
        for _ in range(batch):
            run()
        synchronize()
        return batch

    end = clock() + SETTLE_S
    while clock() < end:
        work()
    return window(meter, work, seconds, clock)


def _batch(run: Callable[[], Any], synchronize: Callable[[], None], clock: Callable[[], float]) -> int:
    # So many calls between two looks at the counter that the device does not wait for the host.
    start = clock()
    run()
    synchronize()
    return max(1, int(BATCH_S / max(clock() - start, 1e-6)))


def _edge(meter: Meter, work: Callable[[], int], clock: Callable[[], float]) -> tuple[float, float, int]:
    """(time, joules, calls made) right after the counter has moved."""
    first, start, calls = meter.joules(), clock(), 0
    while (now := meter.joules()) == first:
        if clock() - start > STUCK_S:
            raise NoEnergy(f"the energy counter has not moved for {STUCK_S:g} s")
        calls += work()
    return clock(), now, calls
