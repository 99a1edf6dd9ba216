"""Registered cases under pytest-benchmark, measured by the suite: checked, with its timers and its stopping rule.

    python -m pytest tests/benchmarks/test_cases.py --benchmark-only --preset cpu --op linear_attention
    python -m pytest tests/benchmarks/test_cases.py --benchmark-only --benchmark-json after.json
    pytest-benchmark compare before.json after.json

The suite takes the samples; pytest-benchmark is given them by a clock that they alone move.
"""

from __future__ import annotations

import pytest

from suite.measuring.case import ProblemRun, Settings
from suite.measuring.timers import DEFAULT_MODES
from suite.problem import Case
from suite.registry import Operator

WARMUP_MS, REP_MS = 25.0, 250.0


class Replay:
    """A clock in seconds that stands still but for one sample a call."""

    def __init__(self) -> None:
        self.now, self._left = 0.0, list[float]()

    def load(self, samples_ms: list[float]) -> None:
        self._left = samples_ms[::-1]

    def __call__(self) -> float:
        return self.now

    def step(self) -> None:
        self.now += self._left.pop() / 1e3


CLOCK = Replay()


def record_of(operator: Operator, case: Case) -> dict:
    """The record of one case on this machine."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    settings = Settings(device, name, (DEFAULT_MODES[device],), warmup_ms=WARMUP_MS, rep_ms=REP_MS)
    records: list[dict] = []
    ProblemRun(operator, case.problem, [case], settings, "timed", records.append, lambda index, phase: None).measure()
    return records[0]


@pytest.mark.long
@pytest.mark.benchmark(timer=CLOCK, disable_gc=False)
def test_case(benchmark, case) -> None:
    operator, chosen = case
    record = record_of(operator, chosen)
    if record["status"] == "unsupported":
        pytest.skip(record["reason"])
    assert record["status"] == "ok", record["reason"]
    benchmark.group = chosen.problem_id
    benchmark.extra_info |= {
        name: record[name] for name in ("mode", "timer", "l2", "stop", "tflops", "gbs", "memory_mib")
    }
    CLOCK.load(record["samples"])
    benchmark.pedantic(CLOCK.step, rounds=len(record["samples"]), iterations=1)
