"""The sampler on scripted sources, and throttled samples marked and taken again."""

import time

import pytest

from suite.measuring.sampling import PAUSE_S, Sampled, interleave
from suite.measuring.stopping import Stopping
from suite.telemetry.nvml import Gpu
from suite.telemetry.readings import Reading
from suite.telemetry.sampler import Sampler
from tests.suite.fake_clock import FakeClock
from tests.suite.telemetry.fakes import FakeNvml

HOT = 0x40


def sampler_of(*marks: tuple[int, bool]) -> Sampler:
    """A sampler that has these readings: (time, whether throttled)."""
    made = Sampler(Gpu(FakeNvml(), "handle"))
    made.readings = [Reading(at, {"sm_clock_mhz": 1000 + at, "events": HOT * hot}, hot) for at, hot in marks]
    return made


def test_what_is_known_of_a_span() -> None:
    sampler = sampler_of((10, False), (20, True), (30, False), (40, False))
    assert [r.at_ns for r in sampler.around((22, 28))] == [20, 30]
    assert [r.at_ns for r in sampler.around((20, 30))] == [20, 30]
    assert [r.at_ns for r in sampler.around((12, 31))] == [10, 20, 30, 40]
    assert [r.at_ns for r in sampler.around((1, 5))] == [10]
    assert [r.at_ns for r in sampler.around((50, 60))] == [40]


@pytest.mark.parametrize(("span", "spoiled"), [((22, 28), True), ((12, 18), True), ((31, 39), False), ((12, 31), True)])
def test_a_span_is_spoiled_by_any_reading_around_it(span: tuple[int, int], spoiled: bool) -> None:
    sampler = sampler_of((10, False), (20, True), (30, False), (40, False))
    assert sampler.spoiled(*span) is spoiled


def test_a_span_that_just_ended_is_looked_at() -> None:
    now = [100]
    sampler = Sampler(Gpu(FakeNvml(events=[0, HOT]), "handle"), clock=lambda: now[0])
    sampler.look()
    now[0] = 200
    assert sampler.spoiled(110, 190)
    assert [r.at_ns for r in sampler.readings] == [100, 200]


def test_columns_are_of_the_spans_alone() -> None:
    sampler = sampler_of(*((at, at == 500) for at in range(0, 1000, 100)))
    found = sampler.columns([(110, 190), (610, 690)])
    assert found["telemetry.readings"] == 4
    assert found["telemetry.sm_clock_mhz"] == 1000 + (200 + 600) / 2
    assert found["telemetry.sm_clock_min_mhz"] == 1100
    assert found["telemetry.events"] == []
    assert sampler.columns([(450, 550)])["telemetry.events"] == ["hw_thermal_slowdown"]


def test_the_thread_reads_while_the_block_lasts() -> None:
    gpu = Gpu(FakeNvml(), "handle")
    gpu.period_s = 0.01
    with Sampler(gpu) as sampler:
        start = time.perf_counter_ns()
        while len(sampler.readings) < 5 and time.perf_counter_ns() - start < 5e9:
            time.sleep(0.01)
    count = len(sampler.readings)
    assert count >= 5
    time.sleep(0.05)
    assert len(sampler.readings) == count
    times = [reading.at_ns for reading in sampler.readings]
    assert times == sorted(times)


def test_a_fault_in_the_thread_is_told() -> None:
    class Broken(Gpu):
        period_s = 0.001
        count = 0

        def read(self) -> dict:
            self.count += 1
            if self.count == 2:
                raise ZeroDivisionError
            return {}

    with pytest.raises(ZeroDivisionError), Sampler(Broken(FakeNvml(), "handle")):
        time.sleep(0.2)


class Clocked:
    """A timer whose samples pass on a clock that readings share; a throttled device takes twice the time."""

    name, l2, host_inclusive, calls, host_ms = "clocked", "cold", False, 1, None

    def __init__(self, hot: list[bool], clock: FakeClock, ms: float = 20.0) -> None:
        self.hot, self.clock, self.ms = list(hot), clock, ms

    def samples(self, run, n: int, before=lambda: None, after=lambda _: None) -> list[float]:
        now = self.hot.pop(0) if len(self.hot) > 1 else self.hot[0]
        Scripted.hot = now
        return self.clock.passes([self.ms * (2 if now else 1)] * n)


class Scripted(Gpu):
    """Throttled whenever the last block was."""

    hot = False

    def read(self) -> dict:
        return {"events": HOT if Scripted.hot else 0}


@pytest.fixture
def watch(clock: FakeClock) -> Sampler:
    Scripted.hot = False
    sampler = Sampler(Scripted(FakeNvml(), "handle"), clock.perf_counter_ns)
    sampler.look()
    return sampler


def timed(hot: list[bool], watch: Sampler, clock: FakeClock, limit_ms: float = 500.0) -> tuple[Sampled, list[float]]:
    pauses: list[float] = []
    one = Sampled(lambda: None, Clocked(hot, clock), Stopping(limit_ms=limit_ms))
    interleave([one], watch=watch, pause=pauses.append)
    return one, pauses


def test_throttled_samples_are_taken_again(watch: Sampler, clock: FakeClock) -> None:
    # The reading after a hot block is also the one before the next, which is marked with it.
    one, pauses = timed([False] * 3 + [True] * 2 + [False], watch, clock)
    assert one.samples == [20.0] * 10
    assert one.stop == "interval"
    found = one.summary()
    assert found["telemetry.throttled_samples"] == 3
    assert found["telemetry.throttled_kept"] is False
    assert found["telemetry.retaken_ms"] == [40.0, 40.0, 20.0]
    assert found["time_ms"] == 20.0
    assert pauses == [PAUSE_S] * 3


def test_a_device_that_stays_throttled_keeps_its_samples(watch: Sampler, clock: FakeClock) -> None:
    one, _ = timed([True], watch, clock, limit_ms=300)
    assert one.stop == "throttled"
    # Ten are taken in any case, and no more than the limit allows.
    assert one.samples == [40.0] * 10
    found = one.summary()
    assert found["telemetry.throttled_samples"] == 10
    assert found["telemetry.throttled_kept"] is True
    assert "telemetry.retaken_ms" not in found
    assert found["telemetry.events"] == ["hw_thermal_slowdown"]


def test_retaking_ends_although_some_samples_are_clean(watch: Sampler, clock: FakeClock) -> None:
    one, _ = timed([False] * 4 + [True], watch, clock, limit_ms=300)
    assert one.stop == "throttled"
    assert one.samples == [20.0] * 4 + [40.0] * 8, "too few are clean: all count, in order"
    assert one.summary()["telemetry.throttled_samples"] == 8


def test_enough_clean_samples_stay_alone(watch: Sampler, clock: FakeClock) -> None:
    wide = [10.0, 30.0]

    class Noisy(Clocked):
        def samples(self, run, n: int, before=lambda: None, after=lambda _: None) -> list[float]:
            taken = super().samples(run, n, before)
            wide.reverse()
            return [ms * wide[0] / 20 for ms in taken]

    one = Sampled(lambda: None, Noisy([False] * 30 + [True], clock), Stopping(limit_ms=1000))
    interleave([one], watch=watch, pause=lambda s: None)
    assert one.stop == "throttled"
    assert len(one.samples) == 30
    assert max(one.samples) == 30.0
    assert one.summary()["telemetry.throttled_kept"] is False


def test_one_clean_block_of_many_samples_has_no_interval_of_its_own(watch: Sampler, clock: FakeClock) -> None:
    """A rested board gives one clean block, of more samples than the smallest number, and is throttled from then on."""

    class Spread(Clocked):
        def samples(self, run, n: int, before=lambda: None, after=lambda _: None) -> list[float]:
            return [ms * (1 + 0.1 * (i % 3)) for i, ms in enumerate(super().samples(run, n, before))]

    one = Sampled(lambda: None, Spread([False] * 2 + [True], clock, ms=0.1), Stopping(limit_ms=200))
    interleave([one], watch=watch, pause=lambda s: None)
    found = one.summary()
    assert found["stop"] == "throttled"
    assert found["telemetry.throttled_kept"] is True
    assert len(found["blocks"]) >= 6
    assert found["ci_low_ms"] <= found["time_ms"] <= found["ci_high_ms"]


def test_a_budget_ends_retaking(watch: Sampler, clock: FakeClock) -> None:
    one = Sampled(lambda: None, Clocked([True], clock), Stopping(limit_ms=1e9))
    interleave([one], deadline=-1, watch=watch, pause=lambda s: None)
    assert one.stop == "budget"
    assert len(one.samples) == 10


def test_a_power_cap_spoils_nothing(clock: FakeClock) -> None:
    sampler = Sampler(Gpu(FakeNvml(events=[0x4]), "handle"), clock.perf_counter_ns)
    sampler.look()
    one = Sampled(lambda: None, Clocked([False], clock), Stopping())
    interleave([one], watch=sampler, pause=lambda s: None)
    found = one.summary()
    assert found["telemetry.throttled_samples"] == 0
    assert found["telemetry.events"] == ["power_cap"]


def test_a_source_that_can_not_judge_says_nothing_of_throttling(clock: FakeClock) -> None:
    gpu = Gpu(FakeNvml(events=[HOT]), "handle")
    gpu.judges = False
    sampler = Sampler(gpu, clock.perf_counter_ns)
    sampler.look()
    one = Sampled(lambda: None, Clocked([False], clock), Stopping())
    interleave([one], watch=sampler)
    assert "telemetry.throttled_samples" not in one.summary()
    assert one.stop == "interval"
