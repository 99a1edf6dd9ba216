"""The timers of a GPU, on one that exists in arithmetic alone: what they report is what its device did."""

import gc
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

import pytest
import torch

from suite import Problem
from suite.checks.calling import Call, make_call
from suite.discovery import discover
from suite.errors import Unsupported, WorkOnOtherStream, spoils
from suite.faults import classify
from suite.measuring import timers
from suite.measuring.preparing import ready, ready_function
from suite.measuring.timers import CpuTimer, make_timer, modes
from tests.suite.fake_cuda import MIB, FakeCuda

EVENTS = ["cold-events", "warm-events"]
GRAPHS = ["cold-graph", "warm-graph"]


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCuda]:
    fake = FakeCuda()
    monkeypatch.setattr(timers, "torch", fake)
    monkeypatch.setattr(timers, "time", fake)
    once = (timers._l2_bytes, timers._buffer, timers._other_buffer, timers._side_stream, timers.empty_span_us)
    for cached in once:
        cached.cache_clear()
    yield fake
    for cached in once:
        cached.cache_clear()


@pytest.mark.parametrize("mode", EVENTS + GRAPHS)
@pytest.mark.parametrize("host_ms", [0.001, 0.05, 0.8])
def test_events_and_graphs_report_the_device_alone(gpu: FakeCuda, mode: str, host_ms: float) -> None:
    def run() -> None:
        # A call of four launches, whose host may be slower than its device.
        for _ in range(4):
            gpu.launch(0.025, host_ms)

    timer = make_timer(mode, "cuda")
    timer.prepare(run)
    assert timer.samples(run, 5) == pytest.approx([0.1] * 5)
    assert not timer.host_inclusive


@pytest.mark.parametrize("mode", ["cold-wall", "warm-wall"])
def test_the_wall_includes_the_host(gpu: FakeCuda, mode: str) -> None:
    timer = make_timer(mode, "cuda")

    def run() -> None:
        gpu.launch(0.1, host_ms=0.03)

    timer.prepare(run)
    assert timer.samples(run, 3) == pytest.approx([0.13] * 3)
    assert timer.host_inclusive


@pytest.mark.parametrize("mode", modes("cuda"))
def test_only_cold_timers_flush_and_never_inside_the_span(gpu: FakeCuda, mode: str) -> None:
    timer = make_timer(mode, "cuda")
    run = lambda: gpu.launch(0.1)  # noqa: E731
    timer.prepare(*[run] * timer.sets(40 * MIB))
    gpu.log.clear()
    timer.samples(run, 2)
    flushed = [name for name in gpu.log if name == "flush"]
    assert len(flushed) == (2 if mode.startswith("cold") else 0)
    assert f"{timer.l2}-{timer.name}" == mode
    if timer.name in ("events", "graph"):
        spans = " ".join(gpu.log).split("event")[1::2]
        assert all(span.split() == ["kernel"] * timer.calls for span in spans)


@pytest.mark.parametrize("mode", modes("cuda"))
def test_what_comes_before_and_after_a_sample_is_outside_of_its_span(gpu: FakeCuda, mode: str) -> None:
    """Inputs are changed before each sample, and the last result is copied as it returns."""
    timer = make_timer(mode, "cuda")
    results: list[object] = []

    def run() -> str:
        gpu.launch(0.1)
        return "result"

    timer.prepare(*[run] * timer.sets(40 * MIB))
    alone = timer.samples(run, 3)
    gpu.log.clear()
    taken = timer.samples(run, 3, before=lambda: gpu.launch(3.0, host_ms=0.01), after=results.append)
    assert taken == pytest.approx(alone)
    assert results == ["result"] * 3
    kernels = [name for name in gpu.log if name == "kernel"]
    assert len(kernels) == 3 + 3 * timer.calls


@pytest.mark.parametrize("mode", ["cold-events", "cold-graph"])
def test_dirty_lines_of_a_flush_are_written_back_before_the_span(gpu: FakeCuda, mode: str) -> None:
    gpu.dirty_ms = 0.014
    timer = make_timer(mode, "cuda")
    run = lambda: gpu.launch(0.1)  # noqa: E731
    timer.prepare(run)
    assert timer.samples(run, 3) == pytest.approx([0.1] * 3)


def test_a_flush_alone_leaves_its_lines_to_the_span(gpu: FakeCuda) -> None:
    """What `clean` False is for: to see on a device what the lines cost."""
    gpu.dirty_ms = 0.014
    timer = timers.EventTimer("cold", clean=False)
    run = lambda: gpu.launch(0.1)  # noqa: E731
    timer.prepare(run)
    assert timer.samples(run, 3) == pytest.approx([0.114] * 3)


@pytest.mark.parametrize(
    ("launches", "device_ms", "host_ms", "bound"),
    [
        (4, 0.025, 0.001, False),
        # Slower on the host, and hidden: the device finds the whole call in its queue.
        (4, 0.025, 0.8, False),
        # More than a stream holds: 13 ms of device work, for which the host needs 32.5 ms.
        (6500, 0.002, 0.005, True),
        # As many launches, and a device that is slower than the host: the span is the device's.
        (6500, 0.02, 0.005, False),
    ],
)
def test_a_span_that_is_the_hosts_says_so(
    gpu: FakeCuda, launches: int, device_ms: float, host_ms: float, bound: bool
) -> None:
    def run() -> None:
        for _ in range(launches):
            gpu.launch(device_ms, host_ms)

    timer = make_timer("cold-events", "cuda")
    timer.prepare(run)
    ms = median(timer.samples(run, 3))
    assert timer.host_bound() is bound
    assert (ms == pytest.approx(launches * device_ms, rel=0.01)) is not bound


def test_a_call_that_waits_for_the_device_is_host_bound(gpu: FakeCuda) -> None:
    def run() -> None:
        gpu.launch(0.1, host_ms=0.01)
        gpu.waits()
        gpu.launch(0.01, host_ms=0.01)

    timer = make_timer("warm-events", "cuda")
    timer.prepare(run)
    timer.samples(run, 3)
    assert timer.host_bound() is True


def test_a_graph_hides_the_host_of_any_number_of_launches(gpu: FakeCuda) -> None:
    def run() -> None:
        for _ in range(900):
            gpu.launch(0.002, 0.005)

    timer = make_timer("warm-graph", "cuda")
    timer.prepare(run)
    timer.samples(run, 3)
    assert timer.host_bound() is False


@pytest.mark.parametrize("mode", ["cold-wall", "warm-cpu"])
def test_a_timer_with_the_host_inside_says_nothing_of_it(gpu: FakeCuda, mode: str) -> None:
    timer = make_timer(mode, "cpu" if mode == "warm-cpu" else "cuda")
    timer.prepare(lambda: None)
    timer.samples(lambda: None, 2)
    assert timer.host_ms is None
    assert timer.host_bound() is None


@pytest.mark.parametrize("mode", modes("cuda"))
def test_the_span_of_an_empty_kernel_is_measured_by_the_same_timer(gpu: FakeCuda, mode: str) -> None:
    gpu.empty_ms = 0.0025
    if mode == "rotated-graph":
        assert math.isnan(timers.empty_span_us(mode, "cuda"))
        return
    assert timers.empty_span_us(mode, "cuda") == pytest.approx(2.5, abs=0.01)
    # Once in a process: nothing of it is in the next case's time.
    gpu.empty_ms = 9.0
    assert timers.empty_span_us(mode, "cuda") == pytest.approx(2.5, abs=0.01)


@pytest.mark.parametrize("mode", EVENTS + GRAPHS)
def test_one_hiccup_of_the_host_makes_no_case_incorrect(gpu: FakeCuda, mode: str) -> None:
    """The host is held up for 0.4 ms right after the stream has ended, in two of three looks."""
    timer = make_timer(mode, "cuda")
    synchronize, held = gpu.cuda.synchronize, []

    def interrupted() -> None:
        synchronize()
        # The second of each pair is the one behind the call.
        held.append(gpu.host)
        if len(held) in (2, 4):
            gpu.host += 0.4

    gpu.cuda.synchronize = interrupted
    timer.prepare(lambda: gpu.launch(0.1))
    assert len(held) >= 6


def test_the_collector_waits_while_streams_are_looked_at(gpu: FakeCuda) -> None:
    seen = []

    def run() -> None:
        seen.append(gc.isenabled())
        gpu.launch(0.1)

    make_timer("warm-events", "cuda").prepare(run)
    assert seen[0] is False
    assert gc.isenabled()


def test_times_follow_the_clock_of_the_device(gpu: FakeCuda) -> None:
    """Clocks that ramp up for 5 ms and throttle later: each sample is what the device did at that moment."""
    gpu.speed = lambda ms: 4.0 if ms < 5 else 1.5 if ms > 60 else 1.0
    timer = make_timer("warm-events", "cuda")
    run = lambda: gpu.launch(1.0)  # noqa: E731
    timer.prepare(run)
    taken = timer.samples(run, 80)
    assert {round(each, 3) for each in taken} == {1.0, 1.5}


def test_the_lead_is_no_longer_than_its_limit(gpu: FakeCuda) -> None:
    timer = make_timer("warm-events", "cuda")

    def waits() -> None:
        gpu.launch(500.0)
        gpu._synchronize()

    timer.prepare(waits)
    before = gpu.device
    timer.samples(waits, 1)
    assert gpu.device - before < 500.0 + 1e3 * timers.LONGEST_LEAD_S * 1.5


def test_a_rotation_uses_every_input_set(gpu: FakeCuda) -> None:
    timer = make_timer("rotated-graph", "cuda")
    count = timer.sets(30 * MIB)
    # All other sets together are larger than twice L2: nothing of a set is there when its turn comes again.
    assert (count - 1) * 30 * MIB >= timers.FLUSH_FACTOR * gpu.l2_bytes
    names = [f"set{i}" for i in range(count)]
    runs = [lambda name=name, i=i: gpu.launch(0.1 * (i + 1), name=name) for i, name in enumerate(names)]
    timer.prepare(*runs)
    gpu.log.clear()
    taken = timer.samples(runs[0], 3)
    assert [name for name in gpu.log if name.startswith("set")] == names * 3
    assert taken == pytest.approx([0.1 * sum(range(1, count + 1)) / count] * 3)
    assert timer.calls == count


def test_one_input_set_is_no_rotation(gpu: FakeCuda) -> None:
    with pytest.raises(ValueError, match="one input set is not a rotation"):
        make_timer("rotated-graph", "cuda").prepare(lambda: gpu.launch(0.1))


def test_a_function_is_rotated_over_copies_of_its_tensors() -> None:
    timer, x, seen = Rotating(), torch.ones(3 * 8 * 2 * 4), []
    ready_function(timer, lambda x, n: seen.append((x, n)), {"x": x, "n": 5})
    for run in timer.runs:
        run()
    assert len({tensor.data_ptr() for tensor, _ in seen}) == 3
    assert seen[0][0] is x
    assert all(torch.equal(tensor, x) and n == 5 for tensor, n in seen)


def test_a_rotation_of_too_many_sets_is_refused(gpu: FakeCuda) -> None:
    with pytest.raises(Unsupported, match=r"input sets would be needed to pass through L2; cold-graph"):
        make_timer("rotated-graph", "cuda").sets(1000)
    assert make_timer("cold-graph", "cuda").sets(1000) == 1


def test_what_can_not_be_captured_is_unsupported(gpu: FakeCuda) -> None:
    timer = make_timer("warm-graph", "cuda")

    def waits() -> None:
        gpu.launch(0.1)
        gpu.waits()

    with pytest.raises(Unsupported, match="cannot be captured in a CUDA graph: it waits for the device") as raised:
        timer.prepare(waits)
    # It was seen before a capture: the process can go on.
    assert not spoils(raised.value)
    gpu.cuda.empty_cache()
    assert gpu.sync_debug_mode == 0
    with pytest.raises(RuntimeError, match="comes first"):
        timer.samples(waits, 1)


def test_a_capture_that_fails_spoils_the_process(gpu: FakeCuda) -> None:
    def refused() -> None:
        if gpu._capturing is not None:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        gpu.launch(0.1)

    with pytest.raises(Unsupported, match="cannot be captured in a CUDA graph") as raised:
        make_timer("warm-graph", "cuda").prepare(refused)
    assert classify(raised.value)[0] == "unsupported"
    assert spoils(raised.value)
    with pytest.raises(AssertionError, match="captures_underway"):
        gpu.cuda.empty_cache()


def test_another_error_while_capturing_keeps_its_type(gpu: FakeCuda) -> None:
    def fails() -> None:
        if gpu._capturing is not None:
            raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck") as raised:
        make_timer("warm-graph", "cuda").prepare(fails)
    assert spoils(raised.value)


def test_an_error_before_a_capture_spoils_nothing(gpu: FakeCuda) -> None:
    def fails() -> None:
        raise ValueError("no luck")

    with pytest.raises(ValueError, match="no luck") as raised:
        make_timer("warm-graph", "cuda").prepare(fails)
    assert not spoils(raised.value)


@pytest.mark.parametrize("mode", [mode for mode in modes("cuda") if not mode.endswith("wall")])
@pytest.mark.parametrize(("inside", "outside", "seen"), [(0.1, 2.0, True), (0.0, 0.3, True), (4.0, 4.1, False)])
def test_work_on_another_stream_is_incorrect(
    gpu: FakeCuda, mode: str, inside: float, outside: float, seen: bool
) -> None:
    def run() -> None:
        gpu.launch(inside)
        gpu.escape(outside)

    timer = make_timer(mode, "cuda")
    runs = [run] * timer.sets(40 * MIB)
    if not seen:
        timer.prepare(*runs)
        return
    with pytest.raises(WorkOnOtherStream) as raised:
        timer.prepare(*runs)
    status, reason = classify(raised.value)
    assert status == "incorrect"
    assert re.fullmatch(
        r"its work went on for [\d.]+ ms after its stream had ended: it runs on another stream.*", reason
    )


def test_the_wall_sees_work_on_another_stream(gpu: FakeCuda) -> None:
    timer = make_timer("cold-wall", "cuda")
    timer.prepare(lambda: gpu.escape(2.0))
    assert timer.samples(lambda: gpu.escape(2.0), 2) == pytest.approx([2.0] * 2)


def test_calls_are_warmed_up_where_they_are_captured(gpu: FakeCuda) -> None:
    streams: list[str] = []

    def run() -> None:
        streams.append(gpu.streams[-1])
        gpu.launch(0.1)

    make_timer("warm-graph", "cuda").prepare(run)
    assert set(streams) == {"own"}


def test_what_a_call_does_on_its_first_calls_is_done_before_the_capture(gpu: FakeCuda) -> None:
    """As libraries do that tune on the first call and allocate a workspace on the second."""
    calls: list[bool] = []

    def run() -> None:
        calls.append(gpu._capturing is not None)
        if calls[-1] and len(calls) <= 3:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        gpu.launch(0.1)

    timer = make_timer("warm-graph", "cuda")
    timer.prepare(run)
    assert calls.count(True) == 1
    assert timer.samples(run, 2) == pytest.approx([0.1] * 2)


def test_a_backward_graph_is_built_on_the_stream_that_captures(gpu: FakeCuda) -> None:
    timer = make_timer("warm-graph", "cuda")
    with timer.building():
        assert gpu.streams[-1] == "own"
    assert gpu.streams[-1] == "default"


def test_the_garbage_collector_waits() -> None:
    seen = []
    CpuTimer().samples(lambda: seen.append(gc.isenabled()), 2)
    assert seen == [False, False]
    assert gc.isenabled()


def test_a_result_is_freed_after_the_clock_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeCuda()
    monkeypatch.setattr(timers, "time", clock)

    class Slow:
        def __del__(self) -> None:
            clock.host += 7.0

    def run() -> Slow:
        clock.host += 1.0
        return Slow()

    assert CpuTimer().samples(run, 2) == pytest.approx([1.0, 1.0])


class Rotating(CpuTimer):
    """Wants three input sets, and notes what it is given and where graphs are built."""

    def __init__(self) -> None:
        self.inside = False
        self.runs: tuple = ()

    def sets(self, input_bytes: int) -> int:
        assert input_bytes == 3 * 8 * 2 * 4 * 4
        return 3

    @contextmanager
    def building(self) -> Iterator[None]:
        self.inside = True
        yield
        self.inside = False

    def prepare(self, *runs) -> None:
        self.runs = runs


@pytest.mark.parametrize("pass_", ["fwd", "bwd", "fwdbwd"])
def test_rotated_calls_have_inputs_of_their_own(pass_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = discover().operator("linear_attention")
    problem = operator.complete(Problem(T=8, H=2, K=4, V=4, dtype="float32", pass_=pass_))
    call = make_call(operator, operator.implementations["naive"], problem, {}, seed=3, device="cpu")
    call.prepare()
    timer, built = Rotating(), []
    forward = type(call).forward

    def note(one: Call) -> None:
        built.append((timer.inside, one._graph))

    monkeypatch.setattr(type(call), "forward", lambda self: note(self) or forward(self))
    ready(timer, call)
    # The graph of a backward pass that was built elsewhere is built again, and no older one is there meanwhile.
    assert built == {"fwd": [], "bwd": [(True, None)] * 3, "fwdbwd": []}[pass_]
    one, two, three = (run.__self__ for run in timer.runs)
    assert one is call
    assert len({each.inputs["q"].data_ptr() for each in (one, two, three)}) == 3
    first, second = one.run(), two.run()
    assert all(torch.equal(x, second[name]) for name, x in first.items())
    assert set(second) == {"fwd": {"o"}, "bwd": {"dq", "dk", "dv"}, "fwdbwd": {"o", "dq", "dk", "dv"}}[pass_]
