"""A GPU that exists in arithmetic alone: a host clock, a device clock, and work that takes known times on each.

Work is queued by the host and done in order; an event is passed when everything before it is done. What a timer reports
can so be compared with what the device really did. The fake has the habits of a real device that mislead a timer:

    a stream holds PENDING launches: the host waits in the next one until the device has finished the oldest
    a flush leaves dirty lines, which the next kernel writes back, unless another buffer was read in between
    clocks ramp up and throttle: `speed(ms)` is what work takes at a time of the device, over its time at full clock
    a failed capture leaves the allocator capturing, and `empty_cache` fails from then on
    after a sticky error every later call of the device raises it
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

MIB = 1024 * 1024
PENDING = 1022


class FakeCuda:
    """torch's and time's place in suite.measuring.timers. All times are in milliseconds.

    cycles_per_ms: the clock of the fastest GPU that a timer plans for: there a lead of so many cycles is shortest
    flush_ms:      what overwriting the buffer takes
    dirty_ms:      what writing back the lines of a flush takes, inside the kernel that comes next
    read_ms:       what reading the other buffer takes
    speed:         time of the device, ms -> what work takes there over its time at full clock
    empty_ms:      span of a kernel that does nothing
    """

    int8, float32 = "int8", "float32"

    def __init__(
        self,
        l2_bytes: int = 50 * MIB,
        cycles_per_ms: float = 2.5e6,
        flush_ms: float = 0.03,
        dirty_ms: float = 0.0,
        read_ms: float = 0.02,
        speed: Callable[[float], float] = lambda _: 1.0,
        empty_ms: float = 0.0,
    ) -> None:
        self.host = self.device = self.beside = 0.0
        self.l2_bytes, self.cycles_per_ms, self.flush_ms = l2_bytes, cycles_per_ms, flush_ms
        self.dirty_ms, self.read_ms, self.speed, self.empty_ms = dirty_ms, read_ms, speed, empty_ms
        self.dirty = False
        self.sticky = ""
        self.allocator_captures = False
        self.sync_debug_mode = 0
        self._pending: deque[float] = deque()
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

            def query(self) -> bool:
                return fake.host >= self.at

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

        self.stream, self.index = Stream(), 0
        self.cuda = SimpleNamespace(
            Event=Event,
            Stream=Stream,
            CUDAGraph=Graph,
            graph=self._graph,
            stream=self._stream,
            synchronize=self._synchronize,
            current_stream=lambda: self.stream,
            set_stream=lambda stream: setattr(self, "stream", stream),
            current_device=lambda: self.index,
            set_device=lambda index: setattr(self, "index", index),
            get_device_properties=lambda index: SimpleNamespace(L2_cache_size=l2_bytes),
            _sleep=self._sleep,
            empty_cache=self._empty_cache,
            get_sync_debug_mode=lambda: self.sync_debug_mode,
            set_sync_debug_mode=self._set_sync_debug_mode,
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
        self._alive()
        while self._pending and self._pending[0] <= self.host:
            self._pending.popleft()
        if len(self._pending) >= PENDING:
            self.host = max(self.host, self._pending.popleft())
        self.log.append(name)
        if name == "flush":
            self.dirty = True
        elif name == "read":
            self.dirty = False
        elif self.dirty and name != "lead":
            device_ms += self.dirty_ms
            self.dirty = False
        start = max(self.device, self.host)
        self.device = start + (device_ms if name == "lead" else device_ms * self.speed(start))
        self._pending.append(self.device)

    def waits(self) -> None:
        """A call's own wait for the device, such as `.item()`."""
        if self.sync_debug_mode == 2:
            raise RuntimeError("called a synchronizing CUDA operation")
        if self._capturing is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        self._synchronize()

    def fail(self, text: str) -> None:
        """Raise a sticky error, now and at every later call of the device."""
        self.sticky = text
        self._alive()

    def _alive(self) -> None:
        if self.sticky:
            raise RuntimeError(self.sticky)

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

    def ones(self, size: int, device: str) -> Any:
        return SimpleNamespace(add_=lambda x: SimpleNamespace(item=self._synchronize))

    def zeros(self, size: int, dtype: str, device: str) -> Any:
        return SimpleNamespace(amax=lambda: self.put(self.read_ms, "read"))

    def _sleep(self, cycles: int) -> None:
        assert isinstance(cycles, int)
        if cycles:
            self.put(cycles / self.cycles_per_ms, "lead")
        else:
            self.launch(self.empty_ms, name="empty")

    def _empty_cache(self) -> None:
        self._alive()
        assert not self.allocator_captures, "captures_underway.empty() INTERNAL ASSERT FAILED"

    def _set_sync_debug_mode(self, mode: str | int) -> None:
        self.sync_debug_mode = {"default": 0, "warn": 1, "error": 2}.get(mode, mode) if isinstance(mode, str) else mode

    def _synchronize(self) -> None:
        self._alive()
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
        except BaseException:
            self.allocator_captures = True
            raise
        finally:
            self._capturing = None
