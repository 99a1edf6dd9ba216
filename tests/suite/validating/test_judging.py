"""Statistics of measured over predicted times, and what is written of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from suite.errors import StoreError, UsageError
from suite.static.model import Launch, Prediction, Profile
from suite.static.timing.uncertainty import Uncertainty, uncertainty_of
from suite.validating.judging import Compared, Validation, compared, families, kendall, spread, worst
from suite.validating.published import Point
from suite.validating.writing import write

ROW = {
    "source": "someone/something", "gpu": "NVIDIA H200", "implementation": "fla_chunk", "operator": "retention",
    "pass": "fwd", "B": "1", "T": "1024", "H": "4", "HV": "4", "K": "64", "V": "64", "dtype": "bf16", "lengths": "",
    "options": "", "ms": "1.0", "held_out": "0", "note": "",
}  # fmt: skip


def point(ms: float, **values: str) -> Point:
    return Point("some.csv", 0, {**ROW, "ms": str(ms), **values})


def pair(ms: float, predicted: float | None, **values: str) -> Compared:
    return Compared(point(ms, **values), predicted, floor=predicted and predicted / 4)


def test_the_spread_is_the_geometric_standard_deviation() -> None:
    assert spread([1.0]) == 1.0
    assert spread([0.5, 2.0]) == pytest.approx(2.0)
    assert spread([3.0, 3.0, 3.0]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("first", "second", "tau"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 2, 4, 3], 4 / 6),
        # A tie in one of them: 5 of 6 pairs are ordered alike, one is tied.
        ([1, 2, 3, 4], [1, 2, 2, 4], 5 / math.sqrt(6 * 5)),
        ([1, 1, 1], [1, 2, 3], None),
        ([1], [1], None),
    ],
)
def test_kendalls_tau(first: list[float], second: list[float], tau: float | None) -> None:
    assert kendall(first, second) == (None if tau is None else pytest.approx(tau))


def test_families_by_gpu_pass_and_part() -> None:
    found = [pair(ms, ms / 1.1) for ms in (1.0, 2.0, 3.0, 4.0)]
    found += [pair(1.0, 2.0, held_out="1"), pair(1.0, 1.0, **{"pass": "bwd"}), pair(5.0, None)]
    back, seen, held = families(found)
    assert (seen.name, seen.gpu, seen.pass_, seen.count) == ("retention/fla_chunk", "NVIDIA H200", "fwd", 4)
    assert (seen.median, seen.spread, seen.tau) == (pytest.approx(1.1), pytest.approx(1.0), 1.0)
    assert seen.floor_median == pytest.approx(4.4)
    assert (seen.held_out, seen.good) == (False, True)
    assert (held.held_out, held.count, held.good) == (True, 1, None)
    assert (back.pass_, back.tau) == ("bwd", None)


@pytest.mark.parametrize("ratios", [(1.3, 1.3, 1.3, 1.3), (0.7, 0.7, 0.7, 0.7), (0.7, 1.0, 1.0, 1.6)])
def test_a_family_misses_the_aim(ratios: tuple[float, ...]) -> None:
    (family,) = families([pair(n * ratio, n) for n, ratio in enumerate(ratios, 1)])
    assert family.good is False


def test_a_family_in_another_order_misses_the_aim() -> None:
    (family,) = families(
        [pair(ms, predicted) for ms, predicted in ((1.0, 1.02), (1.01, 1.01), (1.02, 1.0), (1.03, 1.03))]
    )
    assert family.spread < 1.1
    assert family.good is False


def test_the_worst_are_far_off_either_way() -> None:
    found = [pair(1.0, 1.0), pair(1.0, 3.0), pair(2.0, 1.0), pair(1.0, None)]
    assert [each.ratio for each in worst(found, 2)] == [pytest.approx(1 / 3), 2.0]


def test_what_has_no_prediction_says_why() -> None:
    good = Profile("op/impl/case", "sm_90", launches=(Launch("k", (1, 1, 1), predicted=Prediction(2.0, "chain")),))
    assert compared(point(3.0), good).ratio == 1.5
    assert compared(point(3.0), None).reason == "it is not registered"
    failed = replace(good, status="unsupported", reason="no such head dim")
    assert compared(point(3.0), failed).reason == "unsupported: no such head dim"
    late = replace(good, status="left_out", reason="the budget ended")
    assert compared(point(3.0), late).reason == "the budget left no time for it"
    unknown = replace(good, launches=(Launch("k", (1, 1, 1), predicted=Prediction(reason="data decide")),))
    assert compared(point(3.0), unknown).reason == "k: data decide"
    assert compared(point(3.0), replace(good, launches=(Launch("k", (1, 1, 1)),))).reason == "no machine table"


def test_held_out_timings_decide_nothing(tmp_path: Path) -> None:
    page, file = tmp_path / "page.md", tmp_path / "spreads.json"
    page.write_text("before\n<!-- validation -->\nold\n<!-- end of validation -->\nafter\n")
    found = [pair(ms, ms / 1.2) for ms in (1.0, 2.0, 3.0, 4.0)] + [pair(9.0, 1.0, held_out="1")] * 9
    write(Validation(found), "new\n", "Triton 3.6.0", page, file)
    assert page.read_text() == "before\n<!-- validation -->\nnew\n<!-- end of validation -->\nafter\n"
    assert json.loads(file.read_text())["compiler"] == "Triton 3.6.0"
    known = uncertainty_of("retention/fla_chunk", "sm_90", "fwd", file)
    assert known == Uncertainty("retention/fla_chunk", 4, 1.2, 1.0)
    assert uncertainty_of("retention/triton_chunk", "sm_90", "bwd", file).family == "sm_90"
    assert uncertainty_of("retention/triton_chunk", "sm_80", "bwd", file).family == "all"


def test_damaged_spreads_are_one_line(tmp_path: Path) -> None:
    row = {"name": "", "arch": "sm_90", "pass": "fwd", "count": 9, "median": 1.0, "spread": 1.1}
    rows = ("a", {"name": "a"}, row | {"median": "a"}, row | {"spread": 0}, row | {"spread": math.nan})
    whole = [json.dumps({"families": each}) for each in (3, *([row] for row in rows))]
    for n, text in enumerate(("{", "{}", "[]", *whole)):
        file = tmp_path / f"{n}.json"
        file.write_text(text)
        with pytest.raises(StoreError, match=r"json is damaged .* run `subquad validate --write`"):
            uncertainty_of("a/b", "sm_90", "fwd", file)


def test_a_page_without_the_place_is_left_as_it_is(tmp_path: Path) -> None:
    page, file = tmp_path / "page.md", tmp_path / "spreads.json"
    page.write_text("text\n")
    with pytest.raises(UsageError, match="has no place for the tables"):
        write(Validation([]), "new\n", "", page, file)
    assert page.read_text() == "text\n"
    assert not file.exists()


def test_the_range_of_a_predicted_time() -> None:
    slower, none = Uncertainty("f", 9, 1.2, 1.1), Uncertainty()
    assert (slower.low(1.0), slower.high(1.0)) == (pytest.approx(1 / 1.1), pytest.approx(1.32))
    faster = Uncertainty("f", 9, 0.8, 1.1)
    assert (faster.low(1.0), faster.high(1.0)) == (pytest.approx(0.8 / 1.1), pytest.approx(1.1))
    assert none.low(1.0) < 0.7 < 1.4 < none.high(1.0)
    assert slower.of_change == pytest.approx(1.1**1.41421356)
    # A family of few timings is none.
    assert uncertainty_of("no/such", "sm_90", "fwd", Path("no/such.json")) == none
