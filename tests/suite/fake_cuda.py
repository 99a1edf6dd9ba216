"""A GPU that exists in arithmetic alone: a host clock, a device clock, and work that takes known times on each.

Work is queued by the host and done in order; an event is passed when everything before it is done. What a timer reports
can so be compared with what the device really did.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

MIB = 1024 * 1024


class FakeCuda:
    """torch's and time's place in suite.measuring.timers. All times are in milliseconds.

    cycles_per_ms: the clock of the fastest GPU that a timer plans for: there a lead of so many cycles is shortest
    """

    int8 = "int8"

    def __init__(self, l2_bytes: int = 50 * MIB, cycles_per_ms: float = 2.5e6, flush_ms: float = 0.03) -> None:
        self.host = self.device = self.beside = 0.0
        self.l2_bytes, self.cycles_per_ms, self.flush_ms = l2_bytes, cycles_per_ms, flush_ms
        self.log: list[str] = []
        self.streams = ["default"]
        self._capturing: list[tuple[float, str]] | None = None
        fake = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing
                self.at = -1.0

            def record(self) -> None:
                fake.log.append("event")
                self.at = fake.device = max(fake.device, fake.host)

            def synchronize(self) -> None:
                fake.host = max(fake.host, self.at)

            def elapsed_time(self, end: Event) -> float:
                assert fake.host >= end.at, "read before the device was there"
                return end.at - self.at

        class Stream:
            def wait_stream(self, other: Any) -> None:
                pass

        class Graph:
            def __init__(self) -> None:
                self.work: list[tuple[float, str]] = []

            def replay(self) -> None:
                fake.host += 0.005
                for ms, name in self.work:
                    fake.put(ms, name)

        self.cuda = SimpleNamespace(
            Event=Event,
            Stream=Stream,
            CUDAGraph=Graph,
            graph=self._graph,
            stream=self._stream,
            synchronize=self._synchronize,
            current_stream=Stream,
            current_device=lambda: 0,
            get_device_properties=lambda index: SimpleNamespace(L2_cache_size=l2_bytes),
            _sleep=self._sleep,
        )

    def launch(self, device_ms: float, host_ms: float = 0.0, name: str = "kernel") -> None:
        """A kernel that takes device_ms, launched by host_ms of the host's time. Captured instead inside a graph."""
        self.host += host_ms
        if self._capturing is not None:
            assert self.streams[-1] == "own", "capturing work of another stream is an error"
            self._capturing.append((device_ms, name))
            return
        self.put(device_ms, name)

    def put(self, device_ms: float, name: str) -> None:
        self.log.append(name)
        self.device = max(self.device, self.host) + device_ms

    def escape(self, device_ms: float) -> None:
        """A kernel on another stream."""
        self.beside = max(self.beside, self.host) + device_ms

    def perf_counter(self) -> float:
        return self.host / 1e3

    def perf_counter_ns(self) -> int:
        return round(self.host * 1e6)

    def empty(self, size: int, dtype: str, device: str) -> Any:
        assert size > self.l2_bytes
        return SimpleNamespace(zero_=lambda: self.put(self.flush_ms, "flush"))

    def _sleep(self, cycles: int) -> None:
        assert isinstance(cycles, int)
        self.put(cycles / self.cycles_per_ms, "lead")

    def _synchronize(self) -> None:
        assert self._capturing is None, "operation not permitted when stream is capturing"
        self.host = max(self.host, self.device, self.beside)

    @contextmanager
    def _stream(self, stream: Any) -> Iterator[None]:
        self.streams.append("own")
        yield
        self.streams.pop()

    @contextmanager
    def _graph(self, graph: Any, stream: Any) -> Iterator[None]:
        self._capturing = graph.work
        try:
            with self._stream(stream):
                yield
        finally:
            self._capturing = None
