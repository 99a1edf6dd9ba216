"""A/A floors: what is measured, how it is kept, what it does to a margin."""

from __future__ import annotations

import math

import pytest

from suite.cli import main
from suite.errors import Exit, StoreError
from suite.gating import Limits, noise_floors, paired
from suite.gating.noise_floors import NoiseFloor
from tests.suite.store.runs import change_environment, environment, record, write_run

FINGERPRINT = {"device": "Test CPU", "threads": 2}
KEY = ("op/x/B1_T64", "warm-cpu")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_floor_is_what_the_bound_would_have_claimed():
    ratios = [0.01, -0.02, 0.015, 0.0, -0.01, 0.02, 0.005, -0.015]
    estimate = paired(ratios)
    floor = noise_floors.noise_floor_of(estimate)
    assert floor.rounds == 8
    assert floor.noise == pytest.approx(estimate.se * math.sqrt(8))
    assert math.log1p(floor.floor) == pytest.approx(estimate.lower(0.995) * -1 + 2 * max(estimate.mean, 0))
    mirrored = noise_floors.noise_floor_of(paired([-each for each in ratios]))
    assert mirrored.floor == pytest.approx(floor.floor)


def test_floors_are_kept_a_machine_and_the_newest_counts():
    assert noise_floors.load("cpu", FINGERPRINT) == {}
    other = ("op/y/B1_T64", "warm-cpu")
    noise_floors.keep("cpu", FINGERPRINT, {KEY: NoiseFloor(0.01, 0.03, 8), other: NoiseFloor(0.1, 0.2, 8)})
    noise_floors.keep("cpu", FINGERPRINT, {KEY: NoiseFloor(0.02, 0.05, 16)})
    assert noise_floors.load("cpu", FINGERPRINT) == {KEY: NoiseFloor(0.02, 0.05, 16), other: NoiseFloor(0.1, 0.2, 8)}
    assert noise_floors.load("cpu", {**FINGERPRINT, "threads": 4}) == {}
    assert noise_floors.load("cuda", FINGERPRINT) == {}


def test_a_damaged_file_is_named(cache):
    path = noise_floors.keep("cpu", FINGERPRINT, {KEY: NoiseFloor(0.01, 0.03, 8)})
    for text in ("oops", "[{}]", '{"a": 1}'):
        path.write_text(text)
        with pytest.raises(StoreError, match=path.name):
            noise_floors.load("cpu", FINGERPRINT)


def test_a_floor_widens_a_margin_and_never_narrows_it():
    limits = Limits(margin=0.02)
    assert limits.widened(0.05).margin == 0.05
    assert limits.widened(0.01) is limits


def test_a_stored_run_of_this_machine_is_judged_by_its_cases_own_margins(tmp_path, capsys):
    before = write_run(tmp_path / "before", [record(name, launch=i) for name in ("C1", "C2") for i in range(8)])
    after = write_run(
        tmp_path / "after", [record(name, launch=i, time_ms=1.06) for name in ("C1", "C2") for i in range(8)]
    )
    for run in (before, after):
        change_environment(run, device={"kind": "cpu"})
    noisy = (record("C1")["case_id"], "warm-cpu")
    noise_floors.keep("cpu", environment()["fingerprint"], {noisy: NoiseFloor(0.05, 0.07, 8)})
    assert main(["gate", "--baseline", str(before), "--candidate", str(after)]) == Exit.REGRESSION
    out = capsys.readouterr().out
    assert "_C2" in out
    assert "_C1" not in out
