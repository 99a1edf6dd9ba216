"""Timers: each takes samples of one callable, in milliseconds, and names what it measures.

    cpu     perf_counter_ns around each call, threads fixed, caches warm
    events  a pair of CUDA events around each call, the L2 cache flushed before it, outside the span
    graph   CUDA-graph replay between events: without the host's launch time
    wall    perf_counter_ns from the call to the device's end: with the host

A record's mode is `<l2>-<timer>`: cold-events, warm-graph, cold-wall, warm-cpu, …
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

import torch

from suite.errors import unknown

Run = Callable[[], object]
FLUSH_FACTOR = 2
DEFAULT_MODES = {"cuda": "cold-events", "cpu": "warm-cpu"}


class Timer(Protocol):
    """What every timer has. `samples(run, n)` takes n samples; `prepare(run)` does once what they all need."""

    name: str
    l2: str
    host_inclusive: bool

    def prepare(self, run: Run) -> None: ...

    def samples(self, run: Run, n: int) -> list[float]: ...


class CpuTimer:
    """The wall clock around each call on a CPU. Nothing is flushed: a model finds its last layer's output in cache."""

    name = "cpu"
    l2 = "warm"
    host_inclusive = True

    def prepare(self, run: Run) -> None:
        pass

    def samples(self, run: Run, n: int) -> list[float]:
        taken = []
        for _ in range(n):
            start = time.perf_counter_ns()
            run()
            taken.append((time.perf_counter_ns() - start) / 1e6)
        return taken


class _Flush:
    """Overwrites a buffer larger than the L2 cache, so that the next call finds nothing of the last one there."""

    def __init__(self, cold: bool) -> None:
        self.l2 = "cold" if cold else "warm"
        self._buffer: torch.Tensor | None = None
        if cold:
            size = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
            self._buffer = torch.empty(FLUSH_FACTOR * size, dtype=torch.int8, device="cuda")

    def flush(self) -> None:
        if self._buffer is not None:
            self._buffer.zero_()


class EventTimer(_Flush):
    """CUDA events around each call, recorded behind a flush that hides the host's launch time of short calls."""

    name = "events"
    host_inclusive = False

    def prepare(self, run: Run) -> None:
        torch.cuda.synchronize()

    def samples(self, run: Run, n: int) -> list[float]:
        pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(n)]
        for start, end in pairs:
            self.flush()
            start.record()
            run()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in pairs]


class GraphTimer(EventTimer):
    """Replays of a CUDA graph of one call, between events."""

    name = "graph"

    def __init__(self, cold: bool) -> None:
        super().__init__(cold)
        self._graph: torch.cuda.CUDAGraph | None = None

    def prepare(self, run: Run) -> None:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                run()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            run()

    def samples(self, run: Run, n: int) -> list[float]:
        assert self._graph is not None, "prepare() captures the graph"
        return super().samples(self._graph.replay, n)


class WallTimer(_Flush):
    """The host's clock from the call to the end of the device's work."""

    name = "wall"
    host_inclusive = True

    def prepare(self, run: Run) -> None:
        torch.cuda.synchronize()

    def samples(self, run: Run, n: int) -> list[float]:
        taken = []
        for _ in range(n):
            self.flush()
            torch.cuda.synchronize()
            start = time.perf_counter_ns()
            run()
            torch.cuda.synchronize()
            taken.append((time.perf_counter_ns() - start) / 1e6)
        return taken


_ON_CUDA = {"events": EventTimer, "graph": GraphTimer, "wall": WallTimer}


def modes(device: str) -> list[str]:
    """The modes of a device kind."""
    return ["warm-cpu"] if device == "cpu" else [f"{l2}-{name}" for name in _ON_CUDA for l2 in ("cold", "warm")]


def make_timer(mode: str, device: str) -> Timer:
    """The timer of a mode; UsageError when the device has no such mode."""
    if mode not in modes(device):
        raise unknown(f"mode on {device}", mode, modes(device))
    l2, _, name = mode.partition("-")
    return CpuTimer() if name == "cpu" else _ON_CUDA[name](l2 == "cold")
