"""`subquad crossover` on a real run of two implementations that sleep for known times."""

import json
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from suite.cli import main
from suite.cli.crossover import _axis_words
from suite.store import load
from tests.suite.plugins import RUNNING_MEAN, write

# Spinning takes 20 us a token, or 20 us times (T / 96)^2 a token: the lines meet at T = 96. At the ends they lie 9 and
# 7 times apart, which other work on the machine does not turn round.
SLEEPERS = (
    RUNNING_MEAN
    + """
import time

def spin(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass

@running_mean.implementation("line", origin="ours", passes={"fwd"})
def line(q, k, v):
    spin(20e-6 * v.shape[1])
    return mean(q, k, v)

square_mean = Operator("square_mean", "o_t = mean of v_1..v_t", "none", qkv, mean, tags=("quadratic",),
    cost=running_mean.cost, passes=("fwd", "fwdbwd"), stateful=False)

@square_mean.implementation("square", origin="ours", passes={"fwd"})
def square(q, k, v):
    spin(20e-6 * v.shape[1] ** 3 / 96**2)
    return mean(q, k, v)
"""
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    plugin = write(tmp_path, SLEEPERS, "crossing_sleepers.py")
    words = ["--preset", "smoke", "--op", "running_mean,square_mean", "--impl", "line,square", "--pass", "fwd"]
    words += ["--seq-len", "32,256", "--rep", "60", "--no-report", "--no-static", "--out", str(folder)]
    assert main(["bench", "--load", str(plugin), *words]) == 0
    return folder


@pytest.mark.long
def test_the_meeting_is_found_and_refined(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = str(tmp_path / "crossing_sleepers.py")
    capsys.readouterr()
    assert main(["crossover", str(run), "--json"]) == 0
    (before,) = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert before["linear"] == "running_mean/line"
    assert before["time"]["meetings"][0]["one_after"] is True
    assert main(["crossover", str(run), "--refine", "--load", plugin, "--json"]) == 0
    (after,) = (json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"setting"'))
    # Whatever else runs here, refining brings the meeting from the middle of 32 and 256 to where it belongs.
    meeting = after["time"]["meetings"][-1]["T"]
    assert meeting == pytest.approx(96, rel=0.25)
    lengths = set(load(run)["T"])
    assert {32, 256} < lengths
    # Noise decides on which side of 96 it lies; the lengths around it are neighbours either way.
    assert max(T for T in lengths if meeting >= T) * 1.35 > min(T for T in lengths if meeting <= T)


@pytest.mark.long
def test_a_run_without_a_pair_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["crossover", str(run), "--linear", "no/such"]) == 2
    err = capsys.readouterr().err
    assert "has no linear and quadratic implementation" in err
    assert "measure both, as by `subquad bench --preset cpu --op linear_attention,softmax_attention`" in err


def test_refining_measures_lines_at_the_axes_that_they_have() -> None:
    def line(operator: str, axes: str) -> Any:
        return SimpleNamespace(operator=operator, axes=axes)

    args = Namespace(load=[])
    lines = [line("linear_attention", "feature_map-relu, no-causal"), line("softmax_attention", "")]
    assert _axis_words(args, lines) == ["--axis", "causal=no,yes", "--axis", "feature_map=relu"]
    assert _axis_words(args, [line("linear_attention", ""), line("softmax_attention", "")]) == []
