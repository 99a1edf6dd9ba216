"""Timers, stopping, sampling and memory."""

import time
from pathlib import Path
from statistics import median

import numpy as np
import pytest
import torch

import suite
from suite.discovery import discover
from suite.errors import StoreError, UsageError
from suite.measuring.case import ProblemRun, Settings
from suite.measuring.memory import peak_rise
from suite.measuring.sampling import Sampled, interleave
from suite.measuring.stopping import Stopping, block_interval, median_interval
from suite.measuring.timers import CpuTimer, make_timer
from suite.problem import Case, Problem
from suite.store.schema import fault
from suite.telemetry import Host
from tests.suite.fake_clock import FakeClock
from tests.suite.plugins import RUNNING_MEAN, write


class ScriptedTimer:
    """Gives samples from a list instead of a clock; `clock` passes as they say."""

    name, l2, host_inclusive, calls, host_ms = "scripted", "cold", True, 1, None

    def __init__(self, script: list[float], clock: FakeClock, log: list[str] | None = None, label: str = "") -> None:
        self.script, self.clock, self.log, self.label = list(script), clock, log if log is not None else [], label

    def prepare(self, run) -> None:
        pass

    def samples(self, run, n: int, before=lambda: None, after=lambda _: None) -> list[float]:
        self.log.append(self.label)
        run()
        taken, self.script = self.script[:n], self.script[n:]
        return self.clock.passes(taken)


def spin(ms: float) -> None:
    end = time.perf_counter_ns() + ms * 1e6
    while time.perf_counter_ns() < end:
        pass


def test_interval_is_made_of_order_statistics() -> None:
    # n = 10: P(X <= 1) = 1.07 % for the binomial (10, 1/2), P(X <= 2) = 5.5 %: ranks 2 and 9.
    assert median_interval([float(i) for i in range(1, 11)]) == (2.0, 9.0)
    assert median_interval([3.0]) == (3.0, 3.0)
    low, high = median_interval([float(i) for i in range(1000)])
    # Normal approximation: 500 -+ 1.96 sqrt(1000)/2.
    assert abs(low - 469) <= 2
    assert abs(high - 530) <= 2


def test_the_interval_of_blocks_comes_from_their_medians_and_holds_the_median() -> None:
    # Six figures: their extremes.
    blocks = [[1.0, 2.0, 3.0], [2.5], [2.2], [1.8], [2.1], [1.5]]
    assert block_interval(blocks) == (1.5, 2.5)
    # The median of all samples is 9; blocks of one sample have as much to say as the long one.
    assert block_interval([[9.0] * 20, *[[1.0]] * 5]) == (1.0, 9.0)
    # Ten figures: the second and the ninth, which are 1 here.
    assert block_interval([[9.0] * 20, *[[1.0]] * 9]) == (1.0, 9.0)
    assert block_interval([[0.5] * 20, *[[1.0]] * 9]) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("blocks", "spent_ms", "reason"),
    [
        ([[1.0]] * 9, 0, None),
        ([[1.0]] * 10, 0, "interval"),
        ([[1.0] * 100] * 5, 0, None),
        ([[1.0] * 100] * 6, 0, "interval"),
        ([[1.0], [2.0]] * 10, 99, None),
        ([[1.0], [2.0]] * 10, 100, "time_limit"),
        ([[1.0] * 100] * 5, 1000, None),
        ([[1.0 + 0.001 * (i % 2)] for i in range(10)], 0, "interval"),
        # Every block has the same wide spread, and the same median.
        ([[1.0, 2.0, 9.0]] * 6, 0, "interval"),
        # Every block is narrow, and they drift apart.
        ([[1.0 + 0.05 * i] * 50 for i in range(6)], 0, None),
    ],
)
def test_stopping(blocks: list[list[float]], spent_ms: float, reason: str | None) -> None:
    assert Stopping(relative=0.01, limit_ms=100).reason(blocks, spent_ms) == reason


def test_cases_take_turns(clock: FakeClock) -> None:
    log: list[str] = []
    noisy = [10.0, 30.0] * 40
    pair = [Sampled(lambda: None, ScriptedTimer(noisy, clock, log, name), Stopping(limit_ms=400)) for name in "ab"]
    interleave(pair)
    assert all(one.stop == "time_limit" for one in pair)
    # The order rotates: neither is always first, and neither runs twice while the other waits.
    assert {log[i] for i in range(0, len(log) - 1, 2)} == {"a", "b"}
    assert all(set(log[i : i + 2]) == {"a", "b"} for i in range(0, len(log) - 1, 2))


def test_the_limit_is_of_the_wall_clock(clock: FakeClock) -> None:
    """A call of 0.1 ms whose flush and host take 6 ms: 500 ms are over after 82 samples, not after 5,000."""

    class SlowHost(ScriptedTimer):
        def samples(self, run, n: int, before=lambda: None, after=lambda _: None) -> list[float]:
            taken, self.script = self.script[:n], self.script[n:]
            return self.clock.passes(taken, each_ms=6.0)

    one = Sampled(lambda: None, SlowHost([0.1, 0.3] * 2500, clock), Stopping(limit_ms=500))
    interleave([one])
    assert one.stop == "time_limit"
    assert one.spent_ms == pytest.approx(500, abs=15)
    assert max(end - start for start, end in one.spans) / 1e6 <= 15
    assert len(one.samples) < 90


DRIFT_MS, DRIFT = 600.0, 0.04


def test_turns_protect_identical_calls_from_drift(clock: FakeClock) -> None:
    """Eight identical calls of 0.5 ms on a board that slows by 4 % over 0.6 s: few pairs have disjoint intervals."""
    rng = np.random.default_rng(3)

    class Drifting(ScriptedTimer):
        def samples(self, run, n: int, before=lambda: None, after=lambda _: None) -> list[float]:
            slow = 1 + DRIFT * min(1.0, self.clock.ms / DRIFT_MS)
            return self.clock.passes(list(0.5 * slow * (1 + 0.003 * rng.standard_normal(n))), each_ms=0.06)

    disjoint = pairs = 0
    for _ in range(40):
        clock.ms = 0.0
        eight = [Sampled(lambda: None, Drifting([], clock), Stopping()) for _ in range(8)]
        interleave(eight)
        found = [one.summary() for one in eight]
        for i, a in enumerate(found):
            for b in found[:i]:
                pairs += 1
                disjoint += a["ci_high_ms"] < b["ci_low_ms"] or b["ci_high_ms"] < a["ci_low_ms"]
    assert disjoint / pairs <= 0.05


def blocks_of(count: int, ms: float, l2: str, clock: FakeClock) -> list[int]:
    """The sizes of the first case's blocks when `count` cases take turns, calls that do not count among them."""
    sizes: list[int] = []

    class Sized(ScriptedTimer):
        def samples(self, run, n: int, before=lambda: None, after=lambda _: None) -> list[float]:
            if self.label == "0":
                sizes.append(n)
            return self.clock.passes([ms * (1 + 0.1 * (i % 2)) for i in range(n)])

    timers = [Sized([], clock, label=str(i)) for i in range(count)]
    for timer in timers:
        timer.l2 = l2
    cases = [Sampled(lambda: None, timer, Stopping(limit_ms=20 * ms)) for timer in timers]
    interleave(cases)
    return sizes


def test_a_warm_case_gets_its_caches_back_before_it_counts(clock: FakeClock) -> None:
    # One call before each block, of two at least, where another case has had the caches.
    sizes = blocks_of(2, 30.0, "warm", clock)
    assert set(sizes[0:10:2]) == {1}
    assert set(sizes[1:10:2]) == {2}
    assert blocks_of(2, 1.0, "warm", clock)[:4] == [1, 10, 1, 9]


@pytest.mark.parametrize(("count", "ms", "l2"), [(1, 30.0, "warm"), (2, 30.0, "cold"), (2, 300.0, "warm")])
def test_other_cases_need_no_such_call(count: int, ms: float, l2: str, clock: FakeClock) -> None:
    sizes = blocks_of(count, ms, l2, clock)
    assert set(sizes[1:]) == {2 if count == 1 else 1}


@pytest.mark.parametrize(
    ("ms", "l2", "taken"), [(0.5, "cold", 1), (30.0, "cold", 0), (30.0, "warm", 1), (300.0, "warm", 0)]
)
def test_the_sample_that_tells_the_size_counts_where_it_is_a_block(
    ms: float, l2: str, taken: int, clock: FakeClock
) -> None:
    log: list[str] = []
    timer = ScriptedTimer([ms] * 1000, clock, log)
    timer.l2 = l2
    one = Sampled(lambda: None, timer, Stopping())
    interleave([one])
    assert len(timer.script) == 1000 - len(one.samples) - taken


def test_samples_that_average_calls_make_smaller_blocks(clock: FakeClock) -> None:
    class Rotated(ScriptedTimer):
        calls = 10

        def samples(self, run, n: int, before=lambda: None, after=lambda _: None) -> list[float]:
            return self.clock.passes([0.2] * n, each_ms=9 * 0.2)

    one = Sampled(lambda: None, Rotated([], clock), Stopping())
    interleave([one])
    assert [len(block) for block in one.blocks] == [5] * 6


def test_a_record_has_the_sizes_of_its_blocks(clock: FakeClock) -> None:
    one = Sampled(lambda: None, ScriptedTimer([1.0] * 100, clock), Stopping())
    interleave([one])
    found = one.summary()
    assert found["blocks"] == [10] * 6
    assert sum(found["blocks"]) == len(found["samples"])
    assert "host_bound" not in found


def test_an_error_ends_one_case_alone(clock: FakeClock) -> None:
    def fails() -> None:
        raise ValueError("third call")

    seen = []
    bad = Sampled(fails, ScriptedTimer([1.0] * 90, clock), Stopping())
    good = Sampled(lambda: None, ScriptedTimer([1.0] * 90, clock), Stopping())
    interleave([bad, good], failed=lambda i, error: seen.append((i, error)))
    assert isinstance(bad.error, ValueError)
    assert seen == [(0, bad.error)]
    assert good.stop == "interval"


def test_deadline_stops_after_the_smallest_number(clock: FakeClock) -> None:
    one = Sampled(lambda: None, ScriptedTimer([10.0, 30.0] * 500, clock), Stopping(limit_ms=1e9))
    interleave([one], deadline=-1)
    assert one.stop == "budget"
    assert 10 <= len(one.samples) < 15


def test_a_deadline_leaves_blocks_enough_for_an_interval(clock: FakeClock) -> None:
    one = Sampled(lambda: None, ScriptedTimer([0.1 + i / 5000 for i in range(5000)], clock), Stopping(limit_ms=1e9))
    interleave([one], deadline=-1)
    assert one.stop == "budget"
    assert len(one.blocks) == 6


TRUE_MEDIANS = {
    "normal": (lambda rng, n: 1 + 0.02 * rng.standard_normal(n), 1.0),
    "skewed": (lambda rng, n: np.exp(0.1 * rng.standard_normal(n)), 1.0),
    # The median of |t| with 2 degrees of freedom is sqrt(2/3).
    "heavy": (lambda rng, n: 1 + 0.02 * np.abs(rng.standard_t(2, n)), 1 + 0.02 * (2 / 3) ** 0.5),
}


@pytest.mark.parametrize("ms", [0.05, 1.0, 20.0])
@pytest.mark.parametrize("shape", TRUE_MEDIANS)
def test_interval_covers_the_median_under_the_real_stopping_rule(shape: str, ms: float, clock: FakeClock) -> None:
    draw, true = TRUE_MEDIANS[shape]
    rng = np.random.default_rng(11)

    class Drawn(ScriptedTimer):
        def samples(self, run, n: int, before=lambda: None, after=lambda _: None) -> list[float]:
            return self.clock.passes(list(ms * draw(rng, n)))

    hits, trials = 0, 400
    for _ in range(trials):
        one = Sampled(lambda: None, Drawn([], clock), Stopping(limit_ms=500))
        interleave([one])
        low, high = block_interval(one.blocks)
        hits += low <= ms * true <= high
    assert 0.92 <= hits / trials <= 0.99


def test_cpu_timer_knows_durations() -> None:
    taken = sorted(CpuTimer().samples(lambda: spin(2.0), 15))
    # A busy machine holds most of them up, and none makes one shorter.
    assert 2.0 <= taken[0] <= 2.4


def test_unknown_mode() -> None:
    with pytest.raises(UsageError, match="unknown mode on cpu 'cold-cpu'; did you mean 'warm-cpu'"):
        make_timer("cold-cpu", "cpu")


@pytest.mark.parametrize("mib", [4, 64])
def test_cpu_memory_is_the_rise_of_the_peak(mib: int) -> None:
    kept = torch.zeros(mib * 2**18)

    def run() -> torch.Tensor:
        # Two temporaries live at once, then one result: the peak is two.
        return (kept + 1) * 2

    rise, method = peak_rise(run, "cpu")
    assert method == "profiler"
    assert rise == pytest.approx(2 * mib, rel=0.02)


def test_gpu_memory_is_the_allocators_peak_while_the_result_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    mib, done = 2**20, []
    # 100 MiB stand before, 7 more at the peak of this call; the peak before it was higher.
    state = {"now": 100 * mib, "peak": 900 * mib}

    class Result:
        def __del__(self) -> None:
            done.append("freed")

    def run() -> Result:
        done.append("run")
        state["peak"] = max(state["peak"], state["now"] + 7 * mib)
        return Result()

    def peak() -> int:
        done.append("peak")
        return state["peak"]

    monkeypatch.setattr("torch.cuda.synchronize", lambda: done.append("waited"))
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda: state.update(peak=state["now"]))
    monkeypatch.setattr("torch.cuda.memory_allocated", lambda: state["now"])
    monkeypatch.setattr("torch.cuda.max_memory_allocated", peak)
    assert peak_rise(run, "cuda") == (7.0, "allocator")
    assert done == ["waited", "run", "waited", "peak", "freed"]


def test_measure_from_a_notebook() -> None:
    x = torch.randn(64, 64)
    took: list[float] = []

    def product(x: torch.Tensor) -> torch.Tensor:
        start = time.perf_counter()
        spin(0.5)
        o = x @ x
        took.append((time.perf_counter() - start) * 1e3)
        return o

    record = suite.measure(product, {"x": x}, flops=2 * 64**3, bytes_=3 * 64 * 64 * 4, rep_ms=50)
    assert record["status"] == "ok"
    # Beside other work a call takes longer; a sample is what the calls took, whatever that was.
    assert 0.5 <= min(took) <= min(record["samples"]) <= median(took) + 0.2
    assert record["ci_low_ms"] <= record["time_ms"] <= record["ci_high_ms"]
    assert record["tflops"] == pytest.approx(2 * 64**3 / record["time_ms"] / 1e9)
    assert record["intensity"] == pytest.approx(2 * 64**3 / (3 * 64 * 64 * 4))
    assert record["memory_mib"] == pytest.approx(64 * 64 * 4 / 2**20, rel=0.05)


def test_measure_raises_what_the_function_raises() -> None:
    def fails(x: torch.Tensor) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        suite.measure(fails, {"x": torch.ones(1)})


def records_of(folder: Path, **settings) -> list[dict]:
    """The records of a running mean, one problem."""
    plugin = write(folder, RUNNING_MEAN.replace("running_mean", "told_mean"), "told_plugin.py")
    operator = discover(load=[str(plugin)]).operator("told_mean")
    problem = operator.complete(Problem(T=16, K=8, V=8, dtype="float32", pass_="fwdbwd"))
    records: list[dict] = []
    made = Settings(device="cpu", device_name="cpu", modes=("warm-cpu",), warmup_ms=1, rep_ms=20, **settings)
    case = Case(operator.name, "torch", problem, (), operator.axes)
    ProblemRun(operator, problem, [case], made, "timed", records.append, lambda i, phase: None).measure()
    return records


def test_a_record_tells_which_code_answered_its_check(tmp_path: Path) -> None:
    plugin = write(tmp_path, RUNNING_MEAN.replace("running_mean", "answered_mean") + ANSWERED, "answered_plugin.py")
    operator = discover(load=[str(plugin)]).operator("answered_mean")
    problem = operator.complete(Problem(T=16, K=8, V=8, dtype="float32"))
    cases = [Case(operator.name, name, problem, (), operator.axes) for name in ("torch", "told", "silent")]
    records: list[dict] = []
    made = Settings(device="cpu", device_name="cpu", modes=("warm-cpu",), warmup_ms=1, rep_ms=5)
    ProblemRun(operator, problem, cases, made, "check", records.append, lambda i, phase: None).check()
    assert [record["status"] for record in records] == ["ok"] * 3
    assert [record.get("backend") for record in records] == [None, "called 2 times", None]
    assert [fault(record) for record in records] == [None] * 3
    assert fault(records[1] | {"backend": 1}) is not None


# A library that tells after its calls which code answered, and one that does not tell.
ANSWERED = """
from suite import Requirement
calls = []

def counted(q, k, v):
    calls.append(1)
    return mean(q, k, v)

for name, backend in (("told", lambda: f"called {len(calls)} times"), ("silent", lambda: "")):
    answered_mean.implementation(
        name, origin="peer", requires=Requirement("torch", "torch", backend=backend)
    )(counted if name == "told" else mean)
"""


def test_a_record_tells_what_the_machine_did(tmp_path: Path) -> None:
    (record,) = records_of(tmp_path)
    assert record["status"] == "ok", record["reason"]
    assert record["telemetry.readings"] >= 2
    assert record["telemetry.load"] >= 0
    assert record["calls"] == 1
    assert record["compile_s"] > record["time_ms"] / 1e3
    assert not [name for name in record if "energy" in name]


def test_energy_that_can_not_be_measured_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(Host):
        def energy_j(self) -> None:
            return None

    monkeypatch.setattr("suite.measuring.energy.source", lambda device: Silent(tmp_path))
    (record,) = records_of(tmp_path, energy_s=2.0)
    assert record["status"] == "ok"
    assert "no readable RAPL counter" in record["telemetry.no_energy"]


def test_energy_over_a_short_window_is_refused_before_anything_runs() -> None:
    with pytest.raises(UsageError, match=r"give at least 2 s"):
        Settings(device="cpu", device_name="cpu", modes=("warm-cpu",), energy_s=1.5)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: suite.measure(torch.neg, [1]), TypeError, "inputs must be a dict of fn's arguments by name"),  # type: ignore[arg-type]
        (lambda: suite.measure(torch.neg, torch.ones(1)), TypeError, "such as {'q': q}, got Tensor"),  # type: ignore[arg-type]
        (lambda: suite.measure(torch.neg, {1: 2}), TypeError, "by name, such as"),  # type: ignore[arg-type]
        (lambda: suite.measure(torch.neg, None), TypeError, "got NoneType"),  # type: ignore[arg-type]
        (lambda: suite.measure("neg", {}), TypeError, "fn must be a function, got str"),  # type: ignore[arg-type]
        (lambda: suite.measure({}, torch.neg), TypeError, "fn must be a function, got dict"),  # type: ignore[arg-type]
        (lambda: suite.measure(torch.neg, {}, device="gpu"), UsageError, "device must be 'cuda' or 'cpu'"),
        (lambda: suite.measure(torch.neg, {}, device="cpu", mode="x"), UsageError, "unknown mode on cpu 'x'"),
        (lambda: suite.measure(torch.neg, {}, rep_ms="9"), TypeError, "rep_ms must be a number, got str"),  # type: ignore[arg-type]
        (lambda: suite.measure(torch.neg, {}, rep_ms=0), UsageError, "rep_ms must be finite and above 0"),
        (lambda: suite.measure(torch.neg, {}, warmup_ms=-1), UsageError, "warmup_ms must be finite and at least 0"),
        (lambda: suite.measure(torch.neg, {}, flops=float("nan")), UsageError, "flops must be finite and at least 0"),
        (lambda: suite.measure(torch.neg, {}, bytes_=0), UsageError, "bytes_ must be finite and above 0"),
        (lambda: suite.measure(torch.neg, {}, bytes_=True), TypeError, "bytes_ must be a number, got bool"),
        (lambda: suite.load(["run"]), TypeError, "run must be the path of a run's folder, got list"),  # type: ignore[arg-type]
        (lambda: suite.load(None), TypeError, "got NoneType"),  # type: ignore[arg-type]
        (lambda: suite.load("nowhere"), StoreError, "no run at nowhere"),
        (lambda: suite.report([3], "out"), TypeError, r"runs must be paths of run folders, got \[3\]"),  # type: ignore[list-item]
        (lambda: suite.report(None, "out"), TypeError, "runs must be paths of run folders, got None"),  # type: ignore[arg-type]
        (lambda: suite.report(["run"], None), TypeError, "out must be the path of a folder, got NoneType"),  # type: ignore[arg-type]
        (lambda: suite.report(["run"], "out", formats="html"), TypeError, "formats must be a list of names"),
        (lambda: suite.report([], "out"), UsageError, "run"),
    ],
)
def test_what_the_notebooks_functions_take(call, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        call()
