"""Stored runs whose launches or figures may not be compared as they are: marks, commits, limits, dtypes, memory."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from suite.cli import main
from suite.errors import Exit
from suite.gating import gate
from suite.gating.conditions import mark_of
from tests.suite.gating.known_machine import calibrate
from tests.suite.store.runs import failed, record, write_run

THROTTLED: dict[str, Any] = {"telemetry.throttled_kept": True}
LOADED: dict[str, Any] = {"telemetry.other_share": 0.4}


def times(ms=10.0, seed=0, launches=8, name="C64", **changes):
    draw = random.Random(seed)
    return [record(name, launch=i, time_ms=ms * draw.gauss(1, 0.003), **changes) for i in range(launches)]


def some(launches, marked, **changes):
    """The launches, the first `marked` of them with changes."""
    return [each | (changes if i < marked else {}) for i, each in enumerate(launches)]


@pytest.fixture
def judged(tmp_path, monkeypatch, capsys):
    """Gates two runs of a calibrated machine: exit code, metric -> decision, notes."""
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))

    numbers = itertools.count()

    def run(before, after):
        calibrate(each["case_id"] for each in [*before, *after])
        a, b = (write_run(tmp_path / str(next(numbers)), side) for side in (before, after))
        code = main(["gate", "--baseline", str(a), "--candidate", str(b), "--json", str(tmp_path / "gate.json")])
        json.loads((tmp_path / "gate.json").read_text(), parse_constant=pytest.fail)
        report = gate(a, b)
        notes = [line.removeprefix("note: ") for line in capsys.readouterr().err.splitlines()]
        assert notes == list(report.notes)
        return Exit(code), {each.metric: each.decision for each in report.cases}, notes

    return run


@pytest.mark.parametrize(
    ("mark", "told"),
    [
        (THROTTLED, "throttled"),
        ({"telemetry.other_processes": 2}, "other processes on the GPU"),
        (LOADED, "other processes on the CPU"),
        ({"telemetry.steal_share": 0.3}, "the hypervisor took CPU time"),
    ],
)
@pytest.mark.parametrize("side", ["before", "now"])
def test_a_marked_side_is_inconclusive_and_says_why(judged, mark, told, side):
    """A marked candidate is not slower, and a marked baseline hides no regression."""
    before, after = times(12.0 if side == "before" else 10.0, seed=1), times(12.0, seed=2)
    if side == "before":
        before = some(before, 8, **mark)
    else:
        after = some(after, 8, **mark)
    code, found, _ = judged(before, after)
    assert (code, found["time"].verdict) == (Exit.INCONCLUSIVE, "inconclusive")
    assert f"{told} in 8 of 8 launches {side}" in found["time"].reason


def test_marks_on_some_launches_leave_the_others_to_decide(judged):
    before, after = times(seed=1, launches=10), times(12.0, seed=2, launches=10)
    code, found, _ = judged(before, some(after, 2, **THROTTLED))
    assert (code, found["time"].verdict, found["time"].rounds) == (Exit.REGRESSION, "slower", 8)
    assert found["time"].reason.endswith("left out: throttled in 2 of 10 launches now")
    code, found, _ = judged(before, some(after, 3, **THROTTLED))
    assert (code, found["time"].verdict) == (Exit.INCONCLUSIVE, "inconclusive")


def test_marked_launches_do_not_move_the_ratio(judged):
    slow = times(30.0, seed=3, launches=2, **THROTTLED)
    after = [each | {"launch": i} for i, each in enumerate([*slow, *times(seed=2)])]
    code, found, _ = judged(times(seed=1), after)
    assert (code, found["time"].verdict) == (Exit.PASS, "same")


@pytest.mark.parametrize(
    "quiet",
    [
        {"telemetry.throttled_kept": False, "telemetry.throttled_samples": 3},
        {"telemetry.other_processes": 0},
        {"telemetry.other_share": 0.02},
        {"telemetry.events": ["power_cap"]},
        {"telemetry.other_share": None},
    ],
)
def test_what_says_nothing_against_a_time_is_no_mark(judged, quiet):
    assert mark_of(record(**quiet)) == ""
    code, found, _ = judged(times(seed=1), some(times(12.0, seed=2), 8, **quiet))
    assert (code, found["time"].verdict) == (Exit.REGRESSION, "slower")


def test_a_marked_launch_that_crashed_is_still_broken(judged):
    after = [*some(times(seed=2, launches=7), 7, **THROTTLED), failed(launch=7, **THROTTLED)]
    code, found, _ = judged(times(seed=1), after)
    assert (code, found["time"].verdict) == (Exit.REGRESSION, "broken")


@pytest.mark.parametrize(
    ("commits", "told"),
    [
        (["0123abc", "456def0"], "0123abc, 456def0"),
        (["0123abc", "0123abc-dirty"], "0123abc, 0123abc-dirty"),
        (["0123abc", ""], "0123abc, none"),
    ],
)
@pytest.mark.parametrize("side", ["before", "after"])
def test_launches_of_different_commits_are_not_judged(judged, commits, told, side):
    mixed = [each | {"commit": commits[i % 2]} for i, each in enumerate(times(12.0, seed=2))]
    sides = (mixed, times(seed=1)) if side == "before" else (times(seed=1), mixed)
    code, found, notes = judged(*sides)
    assert code == Exit.INCONCLUSIVE
    assert {each.verdict for each in found.values()} == {"inconclusive"}
    assert told in found["time"].reason
    assert len(notes) == 1
    assert f"launches of 1 case have different commits ({told})" in notes[0]


def test_cases_of_different_commits_are_judged_and_told(judged):
    before = [*times(seed=1), *times(seed=1, name="C32")]
    after = [*times(seed=2, commit="456def0"), *times(seed=2, name="C32", commit="789abc0")]
    code, _, notes = judged(before, after)
    assert code == Exit.PASS
    assert len(notes) == 1
    assert "its cases were measured at different commits (456def0, 789abc0)" in notes[0]


def test_runs_of_two_commits_are_what_a_gate_is_for(judged):
    code, _, notes = judged(times(seed=1), times(seed=2, commit="456def0"))
    assert (code, notes) == (Exit.PASS, [])


def test_a_loosened_limit_hides_no_loss_of_exactness(judged):
    before = times(seed=1, check={"o": 2.7e-7}, check_limit=1e-5)
    code, found, notes = judged(before, times(seed=2, check={"o": 2e-3}, check_limit=1e-1))
    assert (code, found["error"].verdict) == (Exit.REGRESSION, "slower")
    moved = "the error limit moved from 1.00e-05 to 1.00e-01; the smaller one counts"
    assert moved in found["error"].reason
    assert notes == [f"{before[0]['case_id']}: {moved}"]


@pytest.mark.parametrize(("limits", "verdict"), [((1e-2, 1e-4), "slower"), ((1e-4, 1e-4), "slower")])
def test_the_smaller_limit_of_both_sides_counts(judged, limits, verdict):
    before = times(seed=1, check={"o": 1e-5}, check_limit=limits[0])
    code, found, notes = judged(before, times(seed=2, check={"o": 6e-5}, check_limit=limits[1]))
    assert (code, found["error"].verdict) == (Exit.REGRESSION, verdict)
    assert bool(notes) == (limits[0] != limits[1])


def test_a_limit_loosened_in_one_launch_only_is_no_way_out(judged):
    after = times(seed=2, check={"o": 9e-5, "dq": 2e-6})
    after = some(after, 7, check_limit=1.0)
    code, found, _ = judged(times(seed=1), after)
    assert (code, found["error"].verdict) == (Exit.REGRESSION, "slower")


def test_a_limit_that_moved_is_told_although_the_error_is_the_same(judged):
    before = [*times(seed=1), *times(seed=1, name="C32")]
    after = [*times(seed=2, check_limit=1e-3), *times(seed=2, name="C32", check_limit=1e-3)]
    code, found, notes = judged(before, after)
    assert (code, found["error"].verdict) == (Exit.PASS, "same")
    assert len(notes) == 1
    assert "_C64 and 1 case more: the error limit moved from 1.00e-04 to 1.00e-03" in notes[0]


@pytest.mark.parametrize("side", ["before", "after"])
def test_a_limit_that_is_not_recorded_is_inconclusive(judged, side):
    without, with_limit = times(seed=1, check_limit=None), times(seed=2)
    code, found, _ = judged(*((without, with_limit) if side == "before" else (with_limit, without)))
    assert (code, found["error"].verdict) == (Exit.INCONCLUSIVE, "inconclusive")


@pytest.mark.parametrize("changes", [{"dtype": "fp32"}, {"dtype": "fp32", "state_dtype": "fp32"}])
def test_a_dtype_by_its_other_name_is_the_same_and_told(judged, changes):
    code, found, notes = judged(times(seed=1), times(seed=2, **changes))
    assert (code, {each.verdict for each in found.values()}) == (Exit.PASS, {"same"})
    assert notes == ["the runs write a dtype as float32 and fp32: these are the same"]


def test_a_case_id_with_the_long_name_of_a_dtype_is_the_same_case(judged):
    long = [each | {"case_id": each["case_id"].replace("_fp32_", "_float32_")} for each in times(12.0, seed=2)]
    code, found, notes = judged(times(seed=1), long)
    assert (code, found["time"].verdict) == (Exit.REGRESSION, "slower")
    assert notes == ["the runs write a dtype as float32 and fp32: these are the same"]


def test_another_dtype_is_another_problem(judged):
    code, found, notes = judged(times(seed=1), times(seed=2, dtype="bfloat16"))
    assert (code, notes) == (Exit.INCONCLUSIVE, [])
    assert found["time"].reason == "dtype float32 before, bfloat16 now: not the same problem"


@pytest.mark.parametrize(
    ("gone", "verdict"), [(7, "inconclusive"), (5, "inconclusive"), (4, "same"), (8, "inconclusive")]
)
@pytest.mark.parametrize("side", ["before", "now"])
def test_memory_that_most_launches_lack_is_inconclusive(judged, gone, verdict, side):
    lacking, whole = some(times(seed=1), gone, memory_mib=None, memory_method=None), times(seed=2)
    _, found, _ = judged(*((lacking, whole) if side == "before" else (whole, lacking)))
    expected = "new" if (gone, side) == (8, "before") else verdict
    assert found["memory"].verdict == expected
    if expected == "inconclusive" and gone < 8:
        assert found["memory"].reason == f"measured in {8 - gone} of 8 launches {side}"


def test_a_new_case_that_is_incorrect_fails_and_says_so(judged):
    wrong = [failed("C32", status="incorrect", reason="o: error 1", launch=i) for i in range(8)]
    code, found, _ = judged(times(seed=1), [*times(seed=2), *wrong])
    assert code == Exit.REGRESSION
    report = found["time"]
    assert (report.verdict, report.reason) == ("broken", "not in the baseline, and incorrect: o: error 1")


def test_a_new_case_that_is_incorrect_in_one_launch_fails_too(judged):
    new = [*times(seed=2, name="C32", launches=7), failed("C32", status="incorrect", launch=7)]
    code, found, _ = judged(times(seed=1), [*times(seed=2), *new])
    assert (code, found["time"].verdict) == (Exit.REGRESSION, "broken")
    assert "incorrect (1 of 8 launches)" in found["time"].reason


@pytest.mark.parametrize("status", ["unsupported", "oom", "crashed"])
def test_a_new_case_without_a_number_is_new(judged, status):
    _, found, _ = judged(times(seed=1), [*times(seed=2), failed("C32", status=status)])
    assert found["time"].verdict == "new"


@pytest.mark.parametrize("ms", [1e-4, 1e5])
def test_one_launch_and_constant_launches_are_no_surprise(judged, ms):
    one = [record(time_ms=ms)]
    code, found, _ = judged(one, one)
    assert (code, found["time"].verdict) == (Exit.INCONCLUSIVE, "inconclusive")
    constant = [record(launch=i, time_ms=ms) for i in range(8)]
    code, found, _ = judged(constant, constant)
    assert (code, found["time"].verdict) == (Exit.PASS, "same")
