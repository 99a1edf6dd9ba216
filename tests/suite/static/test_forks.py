"""Ways that data decide: the lines that tell them apart, how often the interpreter takes each, the time of both."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suite.cli import main
from suite.static.forks import taken, telling, ways_taken
from suite.static.model import Fork, Issued, Launch, Prediction, Profile
from tests.suite.plugins import write

FORK = Fork("a.py:3", ("a.py:4", "a.py:5"), Prediction(ms=5.0, bound="tensor", notes=("L2",)))
SHORTER = Prediction(ms=1.0, bound="issue", notes=("the shorter way was taken where P1 depends on data", "L2"))


def profile(ways: dict[str, tuple[int, int]], reason: str = "") -> Profile:
    launches = (Launch("k", (1, 1, 1), predicted=SHORTER, fork=FORK), Launch("other", (1, 1, 1), predicted=SHORTER))
    return Profile("case", "sm_90", launches=launches, issued=Issued("T256", ways=ways, reason=reason))


def test_the_time_is_that_of_both_ways_by_their_share() -> None:
    launch, other = taken(profile({"a.py:3": (8, 2)})).launches
    assert launch.predicted
    assert launch.predicted.ms == pytest.approx(0.75 * 1.0 + 0.25 * 5.0)
    assert (launch.predicted.bound, launch.fork) == ("issue", None)
    told = "where a.py:3 depends on data, 25% take the longer way, as in the interpreter on drawn inputs at T256"
    assert launch.predicted.notes == (told, "L2")
    assert other.predicted == SHORTER
    mainly = taken(profile({"a.py:3": (8, 6)})).launches[0].predicted
    assert mainly
    assert (mainly.bound, mainly.ms) == ("tensor", pytest.approx(4.0))


@pytest.mark.parametrize(
    "counted",
    [profile({}), profile({"b.py:3": (8, 0)}), profile({"a.py:3": (8, 0)}, "Triton's interpreter cannot run it")],
)
def test_without_a_count_the_shorter_way_and_its_note_stay(counted: Profile) -> None:
    assert taken(counted) == counted
    assert telling(counted) == {"a.py:3": ("a.py:4", "a.py:5")}
    assert Profile.from_dict(json.loads(json.dumps(counted.to_dict()))) == counted


def parting(values: list[int]) -> int:
    total = 0
    for value in values:
        if value > 0:
            for _ in range(value):
                total += 1
        else:
            total -= 1
    return total


FIRST = parting.__code__.co_firstlineno
PLACE = "tests/suite/static/test_forks.py"
AT, LONGER = f"{PLACE}:{FIRST + 3}", (f"{PLACE}:{FIRST + 4}", f"{PLACE}:{FIRST + 5}")


@pytest.mark.parametrize(
    ("values", "ways"),
    [([3, 0, 2, 0, 0], {AT: (5, 2)}), ([0], {AT: (1, 0)}), ([5], {AT: (1, 1)}), ([], {})],
)
def test_a_way_counts_once_each_time_it_is_taken(values: list[int], ways: dict[str, tuple[int, int]]) -> None:
    """However often a loop inside it runs."""
    with ways_taken({AT: LONGER, "b.py:1": ("b.py:2",)}) as found:
        parting(values)
    assert found == ways


def test_a_line_may_belong_to_the_ways_of_several_forks() -> None:
    with ways_taken({AT: LONGER, f"{PLACE}:{FIRST + 2}": LONGER}) as found:
        parting([1, 0, 1])
    assert found == {AT: (3, 2), f"{PLACE}:{FIRST + 2}": (4, 2)}
    with ways_taken({}) as found:
        parting([1])
    assert found == {}


KERNEL = """
import torch, triton, triton.language as tl
from suite import Cost, Operator
from suite.draw import qkv

@triton.jit
def choosing_kernel(x, o, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at).to(tl.float32)
    if tl.load(x + tl.program_id(0) * BLOCK) > LIMIT:
        for _ in range(0, 256):
            value = tl.exp(value) - value
    tl.store(o + at, value.to(o.dtype.element_ty))

choosing = Operator("choosing", "o = v, or not", "none", qkv, lambda q, k, v: (v, None), tags=("linear",),
                    cost=lambda p, tunables: Cost(p.T, p.T, 4.0 * p.T), passes=("fwd",), stateful=False)

@choosing.implementation("ours", origin="ours", devices={"cuda", "interpret"}, passes={"fwd"})
def ours(q, k, v):
    o = torch.empty_like(v)
    choosing_kernel[(v.numel() // 1024,)](v, o, BLOCK=1024, num_warps=4)
    return o, None
"""


def predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str], limit: str, *more: str) -> Prediction:
    plugin = write(tmp_path, KERNEL.replace("LIMIT", limit), "choosing.py")
    words = ["static", "--load", str(plugin), "--op", "choosing", "--shape", "B=1,T=8192,H=16,K=128", "--json", *more]
    assert main(words) == 0
    return Prediction.from_dict(json.loads(capsys.readouterr().out)["launches"][0]["predicted"])


def test_the_ways_of_a_kernel_are_those_that_its_drawn_inputs_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No value that is drawn is above 100, all are above -100, and about half above 0."""
    never = predicted(tmp_path, capsys, "100.0")
    assert " 0% take the longer way" in never.notes[0]
    always = predicted(tmp_path, capsys, "-100.0")
    assert " 100% take the longer way" in always.notes[0]
    assert never.ms
    assert always.ms
    assert always.ms > 3 * never.ms
    sometimes = predicted(tmp_path, capsys, "0.0")
    assert sometimes.ms
    assert 0.2 < (sometimes.ms - never.ms) / (always.ms - never.ms) < 0.8
    unknown = predicted(tmp_path, capsys, "0.0", "--no-issued")
    assert unknown.ms == pytest.approx(never.ms, rel=0.05)
    assert "the shorter way was taken" in unknown.notes[0]
