"""Readings: the values of a telemetry source at one moment, and how several readings become columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Protocol


@dataclass(frozen=True)
class Reading:
    """One moment.

    at_ns:   time.perf_counter_ns(), the clock of the samples
    values:  by name; what could not be read is absent
    spoiled: whether samples around it must be taken again
    """

    at_ns: int
    values: dict[str, Any]
    spoiled: bool = False


class Source(Protocol):
    """A GPU, or the processors of this machine.

    period_s: seconds between readings
    judges:   whether it can tell that a sample was taken under throttle
    refused:  readings that cannot be had, and why
    """

    period_s: float
    judges: bool
    energy_method: str
    refused: dict[str, str]

    def read(self) -> dict[str, Any]: ...
    def spoiled(self, before: Reading | None, now: dict[str, Any]) -> bool: ...
    def summary(self, readings: Sequence[Reading]) -> dict[str, Any]: ...
    def power_w(self) -> float | None: ...
    def energy_j(self) -> float | None: ...


def spread(readings: Sequence[Reading], name: str, *, low: bool = False, high: bool = False) -> dict[str, float]:
    """The median of one reading, and where asked for its extremes as `<name>_min_<unit>` and `<name>_max_<unit>`."""
    values = [r.values[name] for r in readings if name in r.values]
    if not values:
        return {}
    stem, _, unit = name.rpartition("_")
    found = {name: float(median(values))}
    found |= {f"{stem}_min_{unit}": float(min(values))} if low else {}
    return found | ({f"{stem}_max_{unit}": float(max(values))} if high else {})


class Asking:
    """Asks for readings that may be refused: what is refused once is named in `refused`, and not asked for again."""

    def __init__(self, *errors: type[Exception]) -> None:
        self.refused: dict[str, str] = {}
        self._errors = errors

    def _ask(self, name: str, ask: Callable[[], Any]) -> Any:
        if name in self.refused:
            return None
        try:
            return ask()
        except self._errors as error:
            self.refused[name] = str(error)
            return None
