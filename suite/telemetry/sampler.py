"""The sampler: a thread that reads a source every period, on the clock of the samples, while cases are timed.

Example::

    with Sampler(source) as sampler:
        ...                                     # what is timed
        if sampler.spoiled(start_ns, end_ns):   # was this span under throttle?
            ...
    columns = sampler.columns([(start_ns, end_ns)])

A reading costs some driver calls, which release the interpreter's lock, so that the timed thread goes on.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

from suite.telemetry.readings import Reading, Source

Span = tuple[int, int]
PREFIX = "telemetry."


class Sampler:
    """Readings of one source over time. Used as a context manager; `look` reads between the thread's own readings."""

    def __init__(self, source: Source, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.source = source
        self.readings: list[Reading] = []
        self._clock, self._lock = clock, threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> Sampler:
        self.look()
        self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        if error is None:
            self.look()

    def look(self) -> Reading:
        """Read now, in the calling thread. Raises what went wrong in the sampler's own thread."""
        if self._error is not None:
            raise self._error
        with self._lock:
            values = self.source.read()
            before = self.readings[-1] if self.readings else None
            reading = Reading(self._clock(), values, self.source.spoiled(before, values))
            self.readings.append(reading)
            return reading

    def around(self, span: Span) -> list[Reading]:
        """All readings from the last one before a span to the first one after it: what is known of it."""
        times = [reading.at_ns for reading in self.readings]
        first = max(0, bisect_right(times, span[0]) - 1)
        return self.readings[first : bisect_left(times, span[1]) + 1]

    def spoiled(self, start_ns: int, end_ns: int) -> bool:
        """Whether any reading around a span that has just ended says that samples of it must be taken again."""
        if not self.source.judges:
            return False
        if self.readings[-1].at_ns < end_ns:
            self.look()
        return any(reading.spoiled for reading in self.around((start_ns, end_ns)))

    def columns(self, spans: Sequence[Span]) -> dict[str, Any]:
        """The `telemetry.*` columns of a case that was timed in these spans, in order."""
        seen: dict[int, Reading] = {}
        for span in spans:
            seen |= {reading.at_ns: reading for reading in self.around(span)}
        readings = [seen[at] for at in sorted(seen)]
        found = {"readings": len(readings)} | self.source.summary(readings) if readings else {}
        return {PREFIX + name: value for name, value in found.items()}

    def _run(self) -> None:
        try:
            while not self._end.wait(self.source.period_s):
                self.look()
        except BaseException as error:
            # Told by the next look(), in the thread that can do something about it.
            self._error = error
