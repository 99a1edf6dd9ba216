"""The whole harness against an operator whose calls take known times: what it reports is what was spun.

The operator spins on the clock (sleeping would overshoot) for durations of a seeded distribution, and writes down what
each call really took: on a busy machine a spin is held up, and the harness has to report what happened. So a record is
compared with what was written down for the calls that it was made of. What holds a call up outside of its spin is in
the record alone, and nothing can tell it from a fault of the harness. So there are several attempts, of which one has
to come out right in every figure: a busy machine spoils some, a harness that is wrong fails them all.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from suite.cli import main
from suite.discovery import discover
from suite.measuring.case import ProblemRun, Settings
from suite.problem import Case, Problem
from suite.store import read_records
from tests.suite.plugins import RUNNING_MEAN, write

CALLS = 100_000
ATTEMPTS = 5
SPINS = (
    RUNNING_MEAN.replace("running_mean", "{name}")
    + """
import random, time
import numpy as np
POINTS = {points}
# A file in memory: writing to it is no system call, at which the spin would be put to sleep.
LOG = np.memmap({log!r}, np.int64, "r+").reshape(-1, 2)

def durations():
    shuffle = random.Random(20)
    while True:
        # Every pass takes each quantile once, so that any number of them has the distribution's median and spread.
        yield from shuffle.sample(POINTS, len(POINTS))

CALLS = zip(LOG, durations())

@{name}.implementation("spins", origin="ours", passes={{"fwd"}})
def spins(q, k, v):
    start = time.perf_counter_ns()
    row, ms = next(CALLS)
    asked = round(ms * 1e6)
    result = mean(q, k, v)
    while (took := time.perf_counter_ns() - start) < asked:
        pass
    row[0], row[1] = asked, took
    return result
"""
)
QUANTILES = [(i + 0.5) / 40 for i in range(40)]
SHAPES: dict[str, Callable[[float], float]] = {
    "skewed": lambda u: float(np.exp(0.1 * NormalDist().inv_cdf(u))),
    "bimodal": lambda u: (0.9 if u < 0.4 else 1.0) + 0.05 * u,
    "uniform": lambda u: 0.8 + 0.4 * u,
}


class Spins:
    """The operator as a plug-in file, and the log of its calls."""

    def __init__(self, folder: Path, shape: str, ms: float) -> None:
        folder.mkdir(exist_ok=True)
        self.points = [ms * SHAPES[shape](u) for u in QUANTILES]
        self.name = f"spin_{folder.name.replace('-', '_')}"
        self.log = folder / "log"
        self.log.write_bytes(bytes(16 * CALLS))
        text = SPINS.format(points=self.points, log=str(self.log), name=self.name)
        self.plugin = write(folder, text, f"{self.name}.py")

    def of(self, record: dict) -> tuple[np.ndarray, np.ndarray]:
        """(asked, took) in ms of the calls that the samples are: after them come only the two that are checked."""
        rows = np.memmap(self.log, np.int64, "r").reshape(-1, 2)
        made = int(np.count_nonzero(rows[:, 1]))
        asked, took = rows[made - 2 - len(record["samples"]) : made - 2].T / 1e6
        return asked, took


def spread(samples: np.ndarray | list[float]) -> float:
    low, high = np.percentile(samples, [20, 80])
    return float(high - low)


def is_true(record: dict, took: np.ndarray | list[float]) -> bool:
    """Whether median and noise are those of the calls, within what is promised."""
    true = float(np.median(took))
    noise = record["p80_ms"] - record["p20_ms"]
    return abs(record["time_ms"] - true) <= max(0.025 * true, 0.05) and abs(noise / spread(took) - 1) <= 0.1


def measure(spins: Spins, rep_ms: float) -> dict:
    """The record of the operator's one case: checked, warmed up, timed, checked again."""
    operator = discover(load=[str(spins.plugin)]).operator(spins.name)
    problem = operator.complete(Problem(T=32, K=16, V=16, dtype="float32", pass_="fwd"))
    records: list[dict] = []
    settings = Settings(device="cpu", device_name="cpu", modes=("warm-cpu",), warmup_ms=1, rep_ms=rep_ms)
    case = Case(operator.name, "spins", problem, (), operator.axes)
    ProblemRun(operator, problem, [case], settings, "timed", records.append, lambda i, phase: None).measure()
    (record,) = records
    assert record["status"] == "ok", record["reason"]
    return record


def test_the_harness_reports_what_was_spun(tmp_path: Path) -> None:
    for attempt in range(ATTEMPTS):
        spins = Spins(tmp_path / f"truth{attempt}", "skewed", 4.0)
        record = measure(spins, rep_ms=2400)
        asked, took = spins.of(record)
        assert len(took) >= 100
        # No spin is shorter than was asked, no sample shorter than its spin, and the distribution is the known one.
        assert np.all(took >= asked)
        assert np.all(np.array(record["samples"]) >= took)
        assert np.median(asked) == pytest.approx(4.0, rel=0.01)
        assert spread(asked) == pytest.approx(4.0 * (np.exp(0.08416) - np.exp(-0.08416)), rel=0.1)
        if is_true(record, took):
            return
    pytest.fail(f"median {record['time_ms']} ms and spread are not those of the spins in any of {ATTEMPTS} attempts")


@pytest.mark.long
@pytest.mark.parametrize("ms", [0.5, 2.0, 20.0])
@pytest.mark.parametrize("shape", SHAPES)
def test_bench_reports_the_known_distribution(shape: str, ms: float, tmp_path: Path) -> None:
    quick = ["--preset", "smoke", "--warmup", "1", "--rep", str(max(2000.0, 400 * ms)), "--no-report", "--no-static"]
    for attempt in range(ATTEMPTS):
        spins, run = Spins(tmp_path / f"bench{attempt}", shape, ms), tmp_path / f"run{attempt}"
        words = ["--load", str(spins.plugin), "--op", spins.name, "--impl", "spins", "--pass", "fwd"]
        assert main(["bench", *quick, *words, "--seq-len", "32", "--out", str(run)]) == 0
        (record,) = read_records(run)
        _, took = spins.of(record)
        # Not only what was spun: nothing held the spins up, so that the known distribution is what happened.
        if is_true(record, took) and is_true(record, spins.points):
            return
    pytest.fail(f"the distribution was not reported in any of {ATTEMPTS} attempts: is the machine quiet enough?")
