"""The A/A history: what is measured, how it is kept, what it does to a margin, to rounds and to stored runs."""

from __future__ import annotations

import json
import math
from statistics import fmean, stdev

import pytest

from suite.cli import main
from suite.errors import Exit, StoreError
from suite.gating import Limits, history, paired
from suite.gating.history import TELLING, Calibration, History, calibration_of
from suite.gating.sequential_test import Round
from tests.suite.store.runs import change_environment, environment, record, write_run

FINGERPRINT = {"device": "Test CPU", "threads": 2}
KEY = ("op/x/B1_T64", "warm-cpu")
RATIOS = [0.01, -0.02, 0.015, 0.0, -0.01, 0.02, 0.005, -0.015]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def calibrated(day: int = 1, level: float = 0.0, **changes) -> Calibration:
    values = {"code": "c0de", "noise": 0.01, "rho": 0.1, "floor": 0.03, "rounds": 8, **changes}
    return Calibration(f"2026-01-{day:02}", level=level, **values)


def rounds(ratios=RATIOS, ms=10.0) -> list[Round]:
    return [Round(ms, ms * math.exp(ratio)) for ratio in ratios]


def test_a_calibration_is_what_the_rounds_say():
    found, student = calibration_of(rounds(), code="c0de", day="2026-01-01"), paired(RATIOS)
    assert (found.rounds, found.code, found.day) == (8, "c0de", "2026-01-01")
    assert found.noise == pytest.approx(stdev(RATIOS), rel=1e-9)
    assert found.level == pytest.approx(math.log(10.0) + fmean(RATIOS) / 2, rel=1e-9)
    assert math.log1p(found.floor) == pytest.approx(student.lower(0.995) * -1 + 2 * max(student.mean, 0))
    mirrored = calibration_of(rounds([-each for each in RATIOS]), code="", day="2026-01-01")
    assert mirrored.floor == pytest.approx(found.floor)
    assert mirrored.rho == pytest.approx(found.rho)


def test_calibrations_are_kept_a_machine_and_the_newest_of_a_day_counts():
    assert history.load("cpu", FINGERPRINT) == {}
    other = ("op/y/B1_T64", "warm-cpu")
    history.keep("cpu", FINGERPRINT, {KEY: calibrated(2, floor=0.03), other: calibrated(2)})
    history.keep("cpu", FINGERPRINT, {KEY: calibrated(2, floor=0.05)})
    history.keep("cpu", FINGERPRINT, {KEY: calibrated(1, floor=0.09)})
    found = history.load("cpu", FINGERPRINT)
    assert [each.day for each in found[KEY].calibrations] == ["2026-01-01", "2026-01-02"]
    assert found[KEY].floor == 0.05
    assert found[other] == History((calibrated(2),))
    assert history.load("cpu", {**FINGERPRINT, "threads": 4}) == {}
    assert history.load("cuda", FINGERPRINT) == {}


def test_the_oldest_days_are_dropped(monkeypatch):
    monkeypatch.setattr(history, "DAYS_KEPT", 3)
    for day in range(1, 6):
        history.keep("cpu", FINGERPRINT, {KEY: calibrated(day)})
    assert [each.day[-1] for each in history.load("cpu", FINGERPRINT)[KEY].calibrations] == ["3", "4", "5"]


@pytest.mark.parametrize("text", ["oops", "[{}]", '{"a": 1}', "[1]", "[[]]"])
def test_a_damaged_file_is_named(text):
    path = history.keep("cpu", FINGERPRINT, {KEY: calibrated()})
    path.write_text(text)
    with pytest.raises(StoreError, match=path.name):
        history.load("cpu", FINGERPRINT)


@pytest.mark.parametrize("change", [{"level": float("nan")}, {"noise": None}, {"rounds": 0}, {"day": 7}, {"extra": 1}])
def test_a_figure_that_cannot_be_is_damage(change):
    path = history.keep("cpu", FINGERPRINT, {KEY: calibrated()})
    (row,) = json.loads(path.read_text())
    path.write_text(json.dumps([row | change]))
    with pytest.raises(StoreError, match=path.name):
        history.load("cpu", FINGERPRINT)


def test_a_floor_widens_a_margin_and_never_narrows_it():
    limits = Limits(margin=0.02)
    assert limits.widened(0.05).margin == 0.05
    assert limits.widened(0.01) is limits


def test_the_shift_is_that_between_days_of_the_same_code():
    assert History((calibrated(1),)).shift is None
    assert History((calibrated(1, code="a"), calibrated(2, code="b"))).shift is None
    levels = [2.30, 2.34, 2.31, 2.28]
    same = History(tuple(calibrated(i, level) for i, level in enumerate(levels))).shift
    assert same is not None
    assert (same.sd, same.df) == (pytest.approx(stdev(levels), rel=1e-9), 3)
    # Code that became twice as fast is no shift of the machine.
    faster = tuple(calibrated(i, level - math.log(2), code="new") for i, level in enumerate(levels, 10))
    both = History((*(calibrated(i, level) for i, level in enumerate(levels)), *faster)).shift
    assert both is not None
    assert (both.sd, both.df) == (pytest.approx(same.sd), 6)


def test_few_rounds_do_not_tell_how_rounds_correlate():
    assert History((calibrated(rho=0.9, rounds=TELLING - 1),)).least_rho == 0.0
    assert History((calibrated(1, rho=0.9, rounds=24), calibrated(2, rho=0.5, rounds=8))).least_rho == pytest.approx(
        0.8
    )
    assert History((calibrated(rho=-0.4, rounds=64),)).least_rho == 0.0


def days(*levels: float) -> dict[history.Key, list[Calibration]]:
    key = (record("C1")["case_id"], "warm-cpu")
    return {key: [calibrated(i, level) for i, level in enumerate(levels, 1)]}


def gate_shifted(tmp_path, shift: float, known: dict[history.Key, list[Calibration]], **more) -> tuple[Exit, str]:
    """(exit code, verdict on the time) of two stored runs whose level differs, on a machine with this history."""
    offsets = [0.001 * each for each in (-2, 1, -1, 2, 0, 1, -1, 0)]

    def launches(level: float):
        return [record("C1", launch=i, time_ms=10 * (1 + level + offset)) for i, offset in enumerate(offsets)]

    before, after = write_run(tmp_path / "before", launches(0.0)), write_run(tmp_path / "after", launches(shift))
    for run in (before, after):
        change_environment(run, device={"kind": "cpu"})
    for key, each in known.items():
        for one in each:
            history.keep("cpu", environment()["fingerprint"], {key: one})
    out = tmp_path / "gate.json"
    code = main(["gate", "--baseline", str(before), "--candidate", str(after), "--json", str(out)])
    (time,) = [each for each in json.loads(out.read_text())["cases"] if each["metric"] == "time"]
    return Exit(code), time["verdict"]


@pytest.mark.parametrize(
    ("shift", "levels", "verdict"),
    [
        (0.06, (), "inconclusive"),
        (0.06, (0.0,), "inconclusive"),
        (0.0, (), "inconclusive"),
        (0.06, (0.0, 0.001, -0.001, 0.002, 0.0, 0.001), "slower"),
        (0.06, (0.0, 0.03, -0.03, 0.02, -0.02, 0.0), "inconclusive"),
        (0.0, (0.0, 0.001, -0.001, 0.002, 0.0, 0.001), "same"),
        (-0.1, (0.0, 0.001, -0.001, 0.002, 0.0, 0.001), "faster"),
        # Two days tell little: enough for a large change.
        (0.06, (0.0, 0.005), "inconclusive"),
        (2.0, (0.0, 0.005), "slower"),
    ],
)
def test_the_shift_between_runs_decides_whether_a_stored_run_is_slower(tmp_path, capsys, shift, levels, verdict):
    code, found = gate_shifted(tmp_path, shift, days(*levels))
    assert found == verdict
    expected = {"slower": Exit.REGRESSION, "inconclusive": Exit.INCONCLUSIVE}.get(verdict, Exit.PASS)
    assert code == expected
    assert ("gate --calibrate` on two days or more" in capsys.readouterr().out) == (len(levels) < 2)


def test_a_stored_run_of_this_machine_is_judged_by_its_cases_own_margins(tmp_path, capsys):
    before = write_run(tmp_path / "before", [record(name, launch=i) for name in ("C1", "C2") for i in range(8)])
    after = write_run(
        tmp_path / "after", [record(name, launch=i, time_ms=1.06) for name in ("C1", "C2") for i in range(8)]
    )
    for run in (before, after):
        change_environment(run, device={"kind": "cpu"})
    for name, floor in (("C1", 0.07), ("C2", 0.01)):
        for day in (1, 2, 3):
            known = {(record(name)["case_id"], "warm-cpu"): calibrated(day, level=1e-4 * day, floor=floor)}
            history.keep("cpu", environment()["fingerprint"], known)
    assert main(["gate", "--baseline", str(before), "--candidate", str(after)]) == Exit.REGRESSION
    out = capsys.readouterr().out
    assert "_C2" in out
    assert "_C1" not in out


@pytest.mark.parametrize(("floor", "told"), [(0.05, False), (0.5, True)])
def test_calibrating_a_busy_machine_says_that_margins_are_large(monkeypatch, capsys, floor, told):
    from suite.gating import calibration

    one = calibrated(floor=floor)
    found = [
        calibration.Calibrated("op/x/B1", one, History((one,))),
        calibration.Calibrated("op/y/B1", None, reason="oom: no memory"),
    ]
    monkeypatch.setattr(calibration, "calibrate", lambda plan, options: found)
    assert main(["gate", "--calibrate", "--device", "cpu", "--preset", "smoke"]) == Exit.PASS
    printed = capsys.readouterr()
    assert ("1 of the A/A floors are above 10%" in printed.err) == told
    assert "the shift between days is not known yet" in printed.err
    rows = [line.split("\t") for line in printed.out.splitlines() if line.startswith("op/")]
    assert rows == [
        ["op/x/B1", "8", "1.00%", "0.10", f"{floor:.2%}", "1", "-", ""],
        ["op/y/B1", *"------", "oom: no memory"],
    ]
    assert "stored in the A/A history of this machine: 1 of 2 cases" in printed.out
