"""On a device: timers, telemetry and energy against kernels whose durations and cycles are known.

`python -m pytest tests/gpu` on a machine with a CUDA device; skipped, visibly, elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pytest
import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import globaltimer

from suite import Problem
from suite.checks.calling import make_call
from suite.discovery import discover
from suite.errors import Unsupported, WorkOnOtherStream
from suite.measuring.preparing import ready
from suite.measuring.timers import FLUSH_FACTOR, EventTimer, make_timer, modes
from suite.telemetry import Sampler, current_gpu
from suite.telemetry.energy import Meter, NoEnergy, idle, saturated
from suite.telemetry.nvml import NoNvml

pytestmark = pytest.mark.gpu
DEVICE_ALONE = [mode for mode in modes("cuda") if not mode.endswith("wall")]


@triton.jit
def spin_kernel(calls, took, ns):
    """Spins for `ns` on the device's own clock, and counts its calls. One block."""
    start = globaltimer()
    now = start
    while now - start < ns:
        now = globaltimer()
    tl.store(took, now - start)
    tl.store(calls, tl.load(calls) + 1)


class Spin:
    """A call that takes a known time on the device: us microseconds, after host_us of the host's."""

    def __init__(self, us: float, host_us: float = 0.0) -> None:
        self.calls, self.took = (torch.zeros(1, dtype=torch.int64, device="cuda") for _ in range(2))
        self._ns, self._host_ns = int(us * 1e3), host_us * 1e3

    def __call__(self) -> None:
        end = time.perf_counter_ns() + self._host_ns
        while time.perf_counter_ns() < end:
            pass
        spin_kernel[(1,)](self.calls, self.took, self._ns, num_warps=1)

    @property
    def ms(self) -> float:
        """What the last call took by the device's clock."""
        return int(self.took) / 1e6


def timed(mode: str, *runs: Callable[[], object], n: int = 21) -> float:
    timer = make_timer(mode, "cuda")
    timer.prepare(*runs)
    timer.samples(runs[0], 3)
    return median(timer.samples(runs[0], n))


@pytest.mark.parametrize("us", [20, 200, 2000])
@pytest.mark.parametrize("mode", DEVICE_ALONE)
def test_the_device_alone(mode: str, us: int) -> None:
    spin = Spin(us)
    ms = timed(mode, *[spin] * (2 if mode.startswith("rotated") else 1))
    assert spin.ms <= ms <= spin.ms + max(0.025 * spin.ms, 0.05)


@pytest.mark.parametrize("mode", ["cold-events", "warm-events"])
def test_a_slow_host_is_not_in_the_span_of_events(mode: str) -> None:
    spin = Spin(100, host_us=1000)
    assert timed(mode, spin) <= spin.ms + 0.05


@pytest.mark.parametrize("mode", ["cold-wall", "warm-wall"])
def test_a_slow_host_is_in_the_span_of_the_wall(mode: str) -> None:
    spin = Spin(100, host_us=1000)
    ms = timed(mode, spin)
    assert spin.ms + 1.0 <= ms <= 1.05 * (spin.ms + 1.0) + 0.1


@pytest.mark.parametrize("mode", ["warm-events", "warm-graph"])
def test_cycles_are_time_times_clock(mode: str) -> None:
    try:
        gpu = current_gpu()
    except NoNvml as error:
        pytest.skip(str(error))
    cycles = 20_000_000
    with Sampler(gpu) as sampler:
        start = time.perf_counter_ns()
        ms = timed(mode, lambda: torch.cuda._sleep(cycles))
        found = sampler.columns([(start, time.perf_counter_ns())])
    if "telemetry.sm_clock_mhz" not in found:
        pytest.skip(gpu.refused["sm_clock"])
    assert ms * found["telemetry.sm_clock_mhz"] * 1e3 == pytest.approx(cycles, rel=0.05)


def test_a_flush_makes_reading_slower() -> None:
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    resident = torch.ones(l2 // 4 // 4, device="cuda")
    into = torch.empty((), device="cuda")

    def run() -> torch.Tensor:
        return torch.sum(resident, dim=0, out=into)

    warm, cold = (timed(mode, run) for mode in ("warm-events", "cold-events"))
    assert cold > 1.1 * warm


def test_what_a_flush_wrote_is_not_written_back_inside_the_span() -> None:
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    target = torch.ones(l2 // 4, device="cuda")

    def median_of(timer: EventTimer) -> float:
        timer.prepare(target.zero_)
        timer.samples(target.zero_, 3)
        return median(timer.samples(target.zero_, 21))

    clean, dirty = median_of(EventTimer("cold")), median_of(EventTimer("cold", clean=False))
    assert clean <= 1.02 * dirty + 0.001


def test_a_rotation_reads_from_memory() -> None:
    l2 = torch.cuda.get_device_properties(0).L2_cache_size
    timer = make_timer("rotated-graph", "cuda")
    size = l2 // 4
    sets = [torch.ones(size // 4, device="cuda") for _ in range(timer.sets(size))]
    assert size * (len(sets) - 1) >= FLUSH_FACTOR * l2
    runs = [lambda x=x: x.sum() for x in sets]
    warm, rotated = timed("warm-graph", runs[0]), timed("rotated-graph", *runs)
    assert rotated > 1.1 * warm


def test_every_input_set_of_a_rotation_is_used() -> None:
    spins = [Spin(20) for _ in range(5)]
    timer = make_timer("rotated-graph", "cuda")
    timer.prepare(*spins)
    before = [int(spin.calls) for spin in spins]
    taken = timer.samples(spins[0], 7)
    assert [int(spin.calls) - was for spin, was in zip(spins, before, strict=True)] == [7] * 5
    assert all(0.02 <= ms <= 0.02 + 0.01 for ms in taken)


@pytest.mark.parametrize("pass_", ["fwd", "bwd", "fwdbwd"])
@pytest.mark.parametrize("mode", modes("cuda"))
def test_every_mode_measures_every_pass(mode: str, pass_: str) -> None:
    operator = discover().operator("linear_attention")
    problem = operator.complete(Problem(T=1024, H=4, K=64, V=64, dtype="bfloat16", pass_=pass_))
    call = make_call(operator, operator.implementations["naive"], problem, {}, seed=0, device="cuda")
    call.prepare()
    expected = call.run()
    timer = make_timer(mode, "cuda")
    ready(timer, call)
    assert 0 < median(timer.samples(call.run, 5)) < 1e3
    again = call.run()
    assert all(torch.equal(x, again[name]) for name, x in expected.items())


def test_what_waits_for_the_device_can_not_be_captured() -> None:
    x = torch.ones(8, device="cuda")
    with pytest.raises(Unsupported, match="captured"):
        make_timer("warm-graph", "cuda").prepare(lambda: x.sum().item())
    assert float(x.sum()) == 8, "the device still works"


@pytest.mark.parametrize("mode", ["cold-events", "warm-graph", "rotated-graph"])
def test_work_on_another_stream_is_incorrect(mode: str) -> None:
    beside, spin = torch.cuda.Stream(), Spin(2000)

    def run() -> None:
        with torch.cuda.stream(beside):
            spin()

    with pytest.raises(WorkOnOtherStream, match="it runs on another stream"):
        make_timer(mode, "cuda").prepare(*[run] * (2 if mode.startswith("rotated") else 1))
    torch.cuda.synchronize()


def test_work_on_another_stream_that_is_waited_for_is_in_the_span() -> None:
    beside, spin = torch.cuda.Stream(), Spin(500)

    def run() -> None:
        beside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(beside):
            spin()
        torch.cuda.current_stream().wait_stream(beside)

    assert spin.ms <= timed("cold-events", run) <= 0.6


def test_energy_of_a_saturated_window() -> None:
    a = torch.randn(4096, 4096, device="cuda", dtype=torch.bfloat16)
    try:
        meter = Meter(current_gpu())
    except (NoNvml, NoEnergy) as error:
        pytest.skip(str(error))
    rest = idle(meter)
    used = saturated(meter, lambda: a @ a, torch.cuda.synchronize, 2.0)
    limit = current_gpu().facts().get("power_limit_w", float("inf"))
    assert rest < used.watts <= 1.1 * limit
    assert used.seconds >= 2.0
