"""Timers: each takes samples of one callable, in milliseconds, and names what it measures.

    cpu     perf_counter_ns around each call, threads fixed, caches warm
    events  a pair of CUDA events around each call: the device's time alone
    graph   CUDA-graph replay between events: the device's time with its launches back to back
    wall    perf_counter_ns from the call to the device's end: with the host

    cold     the L2 cache is overwritten before each call, and its dirty lines are written back, outside the span
    warm     nothing is done to it
    rotated  a graph of calls on several input sets, together larger than L2, each sample their mean

A record's mode is `<l2>-<timer>`: cold-events, rotated-graph, cold-wall, warm-cpu, …
"""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from statistics import median
from typing import Any, Protocol

import torch

from suite.errors import Unsupported, WorkOnOtherStream, spoiling, unknown
from suite.measuring import clock as time

Run = Callable[[], Any]
FLUSH_FACTOR = 2
LARGEST_ROTATION = 256
WARMUP_CALLS = 3
DEFAULT_MODES = {"cuda": "cold-events", "cpu": "warm-cpu"}
# The device spins this many times the host's time for a call before the span, so that the host is always ahead, but
# no longer than LONGEST_LEAD_S, which is thousands of launches.
LEAD_FACTOR = 1.5
LONGEST_LEAD_S = 0.02
# What may go on after a call's stream has ended, in ms and as a part of the call: two looks at the clock, no work.
SLACK_MS, SLACK = 0.1, 0.05
# One look at a host that was interrupted is no proof: the shortest of so many counts.
LOOKS = 3
# What a device that waits for its host has still to do when the host has queued a call: its last kernel, in ms and as a
# part of the call. A device that is slower than its host has a stream full of launches, 1022 of perhaps 30,000.
BACKLOG_MS, BACKLOG = 0.02, 0.03
EMPTY_SAMPLES = 25
# At least as many cycles as any GPU has in a second.
CYCLES_PER_S = 2.5e9


def _nothing(*_: object) -> None:
    pass


class Timer(Protocol):
    """What every timer has. `samples(run, n)` takes n samples; `prepare(run, *more)` does once what they all need.

    `before()` is called before each sample and `after(result)` as it returned, both outside of its span. Of several
    input sets, `result` is that of the first.

    calls:   calls that one sample is the mean of
    host_ms: what the host needs to queue one call, or one replay, with its waits for a full stream; None where the host
             is part of each sample
    """

    name: str
    l2: str
    host_inclusive: bool
    calls: int
    host_ms: float | None

    def sets(self, input_bytes: int) -> int:
        """How many input sets it wants, for inputs of so many bytes; `prepare` is given one callable for each."""
        ...

    def building(self) -> AbstractContextManager[object]:
        """Where a backward pass's graph must be built: autograd runs it on the stream of its forward."""
        ...

    def prepare(self, run: Run, *more: Run) -> None: ...

    def samples(
        self, run: Run, n: int, before: Callable[[], object] = _nothing, after: Callable[[Any], object] = _nothing
    ) -> list[float]: ...

    def host_bound(self) -> bool | None:
        """Whether the spans are the host's time rather than the device's; None where the host belongs in."""
        ...


@contextmanager
def _gc_paused() -> Iterator[None]:
    """Python's garbage collector is off inside: its pauses are not part of the call's time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _clocked(run: Run, finish: Callable[[], object], after: Callable[[Any], object]) -> float:
    start = time.perf_counter_ns()
    # The result is kept until the clock was read: freeing it is the caller's, not the call's.
    kept = run()
    finish()
    ended = time.perf_counter_ns()
    after(kept)
    return (ended - start) / 1e6


class _SingleInputTimer:
    """A timer of single calls on one input set."""

    calls = 1
    host_ms: float | None = None

    def sets(self, input_bytes: int) -> int:
        return 1

    def host_bound(self) -> bool | None:
        return None

    def building(self) -> AbstractContextManager[object]:
        return nullcontext()


class CpuTimer(_SingleInputTimer):
    """The wall clock around each call on a CPU. Nothing is flushed: a model finds its last layer's output in cache."""

    name = "cpu"
    l2 = "warm"
    host_inclusive = True

    def prepare(self, run: Run, *more: Run) -> None:
        pass

    def samples(
        self, run: Run, n: int, before: Callable[[], object] = _nothing, after: Callable[[Any], object] = _nothing
    ) -> list[float]:
        taken = []
        with _gc_paused():
            for _ in range(n):
                before()
                taken.append(_clocked(run, _nothing, after))
        return taken


@lru_cache(maxsize=1)
def _l2_bytes() -> int:
    return torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size


@lru_cache(maxsize=1)
def _buffer() -> torch.Tensor:
    return torch.empty(FLUSH_FACTOR * _l2_bytes(), dtype=torch.int8, device="cuda")


@lru_cache(maxsize=1)
def _other_buffer() -> torch.Tensor:
    return torch.zeros(_l2_bytes() // 4, dtype=torch.float32, device="cuda")


class _OnDevice(_SingleInputTimer):
    """A timer on a GPU. A cold one overwrites a buffer larger than L2 before each call; all share that buffer.

    Overwriting leaves dirty lines, which the next kernel that needs their place would write back inside its span. So
    another buffer, as large as L2, is read behind it; `clean` False leaves that out, to measure what it changes.
    """

    def __init__(self, l2: str, clean: bool = True) -> None:
        self.l2, self.clean = l2, clean

    def flush(self) -> None:
        """Leave nothing of the last call in the cache, and nothing that is still to be written."""
        if self.l2 == "cold":
            _buffer().zero_()
            if self.clean:
                _other_buffer().amax()


def _check_stream_confined(run: Run) -> None:
    """Raises WorkOnOtherStream when the device works on after the end of the stream that the call was made on."""
    with _gc_paused():
        found: list[float] = []
        for _ in range(LOOKS):
            more, span = _after_its_stream(run)
            if more <= max(SLACK_MS, SLACK * span):
                return
            found.append(more)
    raise WorkOnOtherStream(
        f"its work went on for {min(found):.3g} ms after its stream had ended: "
        "it runs on another stream, which a timer of this one cannot see"
    )


def _after_its_stream(run: Run) -> tuple[float, float]:
    """(how long the device works on after the call's stream has ended, the call's span on its stream), in ms."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    end.synchronize()
    ended = time.perf_counter()
    torch.cuda.synchronize()
    return (time.perf_counter() - ended) * 1e3, start.elapsed_time(end)


def _check_without_waits(run: Run) -> None:
    """Raises Unsupported when a call waits for the device. A capture that fails on it would spoil the process."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        run()
    except RuntimeError as error:
        if "synchronizing CUDA operation" in str(error):
            raise Unsupported(f"it cannot be captured in a CUDA graph: it waits for the device ({error})") from error
        raise
    finally:
        torch.cuda.set_sync_debug_mode(before)


class EventTimer(_OnDevice):
    """CUDA events around each call: the device's time alone.

    Between two events the device also waits for a host that is slower than it. So `prepare` measures what the host
    needs for one call, and the device is kept busy for longer than that before the span begins: the whole call is in
    its queue by then. Two kinds of calls cannot be hidden so: those that wait for the device themselves, and those with
    more launches than a stream holds (about 1022), behind which the host waits. Both are seen: the device had begun
    before the host had queued the whole call. Where it also had no work left when the host was done, it had waited for
    the host, and the call is `host_bound`.
    `prepare` raises WorkOnOtherStream for a call whose work is not on its stream.
    """

    name = "events"
    host_inclusive = False

    def __init__(self, l2: str, clean: bool = True) -> None:
        super().__init__(l2, clean)
        self._lead_cycles = 0
        self._exposed = self._taken = 0
        self._starves = False

    def prepare(self, run: Run, *more: Run) -> None:
        _check_stream_confined(run)
        start = time.perf_counter()
        run()
        host = time.perf_counter() - start
        torch.cuda.synchronize()
        backlog = time.perf_counter() - start - host
        self.host_ms: float | None = host * 1e3
        self._starves = backlog * 1e3 <= max(BACKLOG_MS, BACKLOG * (host + backlog) * 1e3)
        self._lead_cycles = int(min(LEAD_FACTOR * host, LONGEST_LEAD_S) * CYCLES_PER_S)

    def host_bound(self) -> bool | None:
        """Whether the device had mostly begun before a call was queued, and was done when all of it was."""
        return self._starves and 2 * self._exposed > self._taken

    def samples(
        self, run: Run, n: int, before: Callable[[], object] = _nothing, after: Callable[[Any], object] = _nothing
    ) -> list[float]:
        pairs = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(n)]
        with _gc_paused():
            for start, end in pairs:
                before()
                self.flush()
                if self._lead_cycles:
                    torch.cuda._sleep(self._lead_cycles)
                start.record()
                result = run()
                end.record()
                # The device has passed `start` already: it did not find the whole call in its queue.
                self._exposed += start.query()
                after(result)
                del result
            torch.cuda.synchronize()
        self._taken += n
        return [start.elapsed_time(end) for start, end in pairs]


@lru_cache(maxsize=1)
def _side_stream() -> torch.cuda.Stream:
    return torch.cuda.Stream()


class GraphTimer(EventTimer):
    """Replays of a CUDA graph between events: of one call, or rotated, of as many as there are input sets.

    Calls are warmed up and captured on one side stream, the same for all timers, on which `building` has a backward
    pass's forward run: autograd works on the streams where the forward and its leaves were first used, and capturing
    work of another stream is an error. The outputs of a rotation are all kept, so that no call writes where the one
    before it did.
    """

    name = "graph"

    def __init__(self, l2: str) -> None:
        super().__init__(l2)
        self._stream = _side_stream()
        self._graph: torch.cuda.CUDAGraph | None = None
        self._kept: list[object] = []

    def sets(self, input_bytes: int) -> int:
        """Enough sets that none of one is in L2 when its turn comes again. Raises Unsupported for too many."""
        if self.l2 != "rotated":
            return 1
        wanted = 1 + -(-FLUSH_FACTOR * _l2_bytes() // max(1, input_bytes))
        if wanted > LARGEST_ROTATION:
            raise Unsupported(f"{wanted} input sets would be needed to pass through L2; cold-graph flushes it instead")
        return wanted

    @contextmanager
    def building(self) -> Iterator[None]:
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            yield
        torch.cuda.current_stream().wait_stream(self._stream)

    def prepare(self, run: Run, *more: Run) -> None:
        """Raises Unsupported for a call that waits for the device, or that the capture refuses.

        Whatever is raised inside a capture is marked `spoiling`: torch's allocator may go on capturing for ever
        (github.com/pytorch/pytorch/issues/180395).
        """
        if self.l2 == "rotated" and not more:
            raise ValueError("one input set is not a rotation; suite.measuring.preparing makes the others")
        runs = (run, *more)
        with self.building():
            for _ in range(WARMUP_CALLS):
                for each in runs:
                    each()
            # What escapes the stream would be missing from the graph, too.
            _check_stream_confined(run)
            _check_without_waits(run)
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph, stream=self._stream):
                self._kept = [each() for each in runs]
        except Exception as error:
            if isinstance(error, RuntimeError) and "captur" in str(error):
                raise spoiling(Unsupported(f"it cannot be captured in a CUDA graph: {error}")) from error
            spoiling(error)
            raise
        self._graph, self.calls = graph, len(runs)
        super().prepare(graph.replay)

    def samples(
        self, run: Run, n: int, before: Callable[[], object] = _nothing, after: Callable[[Any], object] = _nothing
    ) -> list[float]:
        if self._graph is None:
            raise RuntimeError("prepare() captures the graph, and comes first")
        taken = super().samples(self._graph.replay, n, before, lambda _: after(self._kept[0]))
        return [ms / self.calls for ms in taken]


class WallTimer(_OnDevice):
    """The host's clock from the call to the end of the device's work."""

    name = "wall"
    host_inclusive = True

    def prepare(self, run: Run, *more: Run) -> None:
        torch.cuda.synchronize()

    def samples(
        self, run: Run, n: int, before: Callable[[], object] = _nothing, after: Callable[[Any], object] = _nothing
    ) -> list[float]:
        taken = []
        with _gc_paused():
            for _ in range(n):
                before()
                self.flush()
                torch.cuda.synchronize()
                taken.append(_clocked(run, torch.cuda.synchronize, after))
        return taken


_ON_CUDA: dict[str, Callable[[], Timer]] = {
    "cold-events": lambda: EventTimer("cold"),
    "warm-events": lambda: EventTimer("warm"),
    "cold-graph": lambda: GraphTimer("cold"),
    "warm-graph": lambda: GraphTimer("warm"),
    "rotated-graph": lambda: GraphTimer("rotated"),
    "cold-wall": lambda: WallTimer("cold"),
    "warm-wall": lambda: WallTimer("warm"),
}


def modes(device: str) -> list[str]:
    """The modes of a device kind."""
    return ["warm-cpu"] if device == "cpu" else list(_ON_CUDA)


def make_timer(mode: str, device: str) -> Timer:
    """The timer of a mode; UsageError when the device has no such mode."""
    if mode not in modes(device):
        raise unknown(f"mode on {device}", mode, modes(device))
    return CpuTimer() if device == "cpu" else _ON_CUDA[mode]()


@lru_cache(maxsize=16)
def empty_span_us(mode: str, device: str) -> float:
    """What a timer reports of a call that does nothing, in µs: on a GPU one kernel of no cycles, on a CPU no call.

    The median of EMPTY_SAMPLES, measured once in a process. Every time of this mode includes about so much. NaN where
    the mode cannot say: a rotation needs inputs.
    """
    timer = make_timer(mode, device)
    if timer.l2 == "rotated":
        return math.nan
    run = (lambda: torch.cuda._sleep(0)) if device == "cuda" else (lambda: None)
    timer.prepare(run)
    return 1e3 * median(timer.samples(run, EMPTY_SAMPLES))
