"""Energy of a problem's cases: joules per token in one saturated window per case, with idle power measured before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from suite.telemetry import PREFIX, Source, source
from suite.telemetry.energy import IDLE_S, SETTLE_S, Meter, NoEnergy, idle, saturated


class EnergyOf:
    """Measures energy case by case; idle power before, once a process.

    seconds:  length of a window
    deadline: time.monotonic() at which a budget ends: a window that would pass it is left out, and the record says so
    """

    def __init__(self, device: str, seconds: float, deadline: float | None, synchronize: Callable[[], None]) -> None:
        self._seconds, self._deadline, self._synchronize = seconds, deadline, synchronize
        self._meter: Meter | None = None
        self._why = ""
        self._idle_w: float | None = None
        try:
            self._meter = Meter(_readable(device))
            synchronize()
            if self._fits(SETTLE_S + IDLE_S):
                self._idle_w = _idle_w(device, self._meter)
        except NoEnergy as error:
            self._meter, self._why = None, str(error)

    def columns(self, run: Callable[[], object], tokens: int) -> dict[str, Any]:
        """`telemetry.energy_*` and `telemetry.idle_w` of one case, or `telemetry.no_energy`: why there are none."""
        if self._meter is None or not self._fits(SETTLE_S + self._seconds):
            return self.none(self._why or "the budget ended before")
        try:
            used = saturated(self._meter, run, self._synchronize, self._seconds)
        except NoEnergy as error:
            return self.none(str(error))
        return {
            f"{PREFIX}energy_j_token": used.joules / (used.calls * tokens),
            f"{PREFIX}energy_window_s": used.seconds,
            f"{PREFIX}energy_w": used.watts,
            f"{PREFIX}energy_method": self._meter.method,
            f"{PREFIX}idle_w": self._idle_w,
        }

    def none(self, why: str) -> dict[str, Any]:
        """What a record says instead of an energy."""
        return {f"{PREFIX}no_energy": why}

    def _fits(self, seconds: float) -> bool:
        return self._deadline is None or time.monotonic() + seconds < self._deadline


_IDLE_W: dict[str, float] = {}


def _idle_w(device: str, meter: Meter) -> float:
    if device not in _IDLE_W:
        _IDLE_W[device] = idle(meter)
    return _IDLE_W[device]


def _readable(device: str) -> Source:
    found = source(device)
    if found is None:
        raise NoEnergy("the GPU's telemetry cannot be read")
    return found
