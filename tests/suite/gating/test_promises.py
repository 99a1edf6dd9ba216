"""What docs/gate.md promises, simulated with the code that decides; the whole table takes minutes."""

from __future__ import annotations

import re

import numpy as np
import pytest

from suite.cli import main
from suite.discovery import ROOT
from suite.errors import Exit
from suite.gating import promises
from suite.gating.promises import (
    COMPARISONS,
    NOISES,
    SUITES,
    Cell,
    Found,
    cells,
    kept,
    series,
    simulate,
    simulated,
    table,
)

PLACE = re.compile(r"<!-- promises -->\n(.*?)\n<!-- end of promises -->", re.DOTALL)


def quoted() -> list[str]:
    (found,) = PLACE.findall((ROOT / "docs" / "gate.md").read_text(encoding="utf-8"))
    return found.strip().splitlines()


def test_the_page_has_every_row_of_the_table():
    shown = table([Found(cell, passed=1) for cell in cells()]).splitlines()
    assert quoted()[:2] == shown[:2]
    assert [line.split(" | ")[0] for line in quoted()] == [line.split(" | ")[0] for line in shown]


def test_the_table_covers_what_is_promised():
    found = cells()
    assert (COMPARISONS, SUITES, promises.SUITE) == (2000, 500, 200)
    independent = {(each.noise, each.level) for each in found if each.independent}
    assert independent >= {(noise, level) for noise in NOISES for level in (0.01, 0.02, 0.03)}
    assert {(each.rho, each.level) for each in found if each.rho} == {(rho, 0.03) for rho in (0.5, 0.8, 0.9)}


@pytest.mark.parametrize(
    "cell", [each for each in cells() if not each.independent or each.level == 0.03], ids=lambda each: each.told
)
def test_a_part_of_the_table_keeps_its_promises(cell):
    found = simulate(cell, 400, seed=7)
    assert found.comparisons == 400
    assert kept(found), (found.failed, found.passed, found.undecided)


def test_a_part_of_the_table_is_what_the_page_quotes():
    """400 comparisons lie near the figures of 2,000 that are quoted: within four standard errors of both."""
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in quoted()[2:]}
    for cell in (Cell("AR(1)", 0.03, 0.05, 0.8), Cell("AR(1)", 0.03, 0.1, 0.9), Cell("stored", 0.01, 0.1, shift=0.02)):
        found = simulate(cell, 400, seed=8)
        cell_of_row = rows[cell.row][3 if cell.change == 0.05 else 4].rstrip(" |")
        for count, told in zip((found.failed, found.passed, found.undecided), cell_of_row.split(" / "), strict=True):
            share = float(told.strip("<>")) / 100
            error = 4 * np.sqrt(max(share * (1 - share), 1e-3) * (1 / 400 + 1 / COMPARISONS))
            assert abs(count / 400 - share) <= error, (cell.told, told, count)


@pytest.mark.long
def test_the_whole_table_keeps_its_promises_and_is_the_pages():
    found = simulated()
    assert [each.cell.told for each in found if not kept(each)] == []
    assert table(found).splitlines() == quoted()


@pytest.mark.parametrize("name", NOISES)
def test_noise_has_the_standard_deviation_that_it_says(name):
    made = series(Cell(name, 0.03, 0.0), np.random.default_rng(1), 20_000, 16)
    # The fourth moment of Student t3 is infinite.
    assert np.std(made) == pytest.approx(0.03, rel=0.1 if name == "Student t3" else 0.02)
    assert np.mean(made) == pytest.approx(0.0, abs=3e-4)
    assert np.corrcoef(made[:, 0], made[:, 1])[0, 1] == pytest.approx(0.0, abs=0.03)


@pytest.mark.parametrize("rho", [0.5, 0.9])
def test_autocorrelated_noise_is_stationary_and_correlates_as_it_says(rho):
    made = series(Cell("AR(1)", 0.03, 0.0, rho), np.random.default_rng(1), 20_000, 16)
    assert np.std(made, axis=0) == pytest.approx(np.full(16, 0.03), rel=0.03)
    assert np.corrcoef(made[:, 8], made[:, 9])[0, 1] == pytest.approx(rho, abs=0.02)


@pytest.mark.parametrize(
    ("found", "promise"),
    [
        (Found(Cell("normal", 0.03, 0.0), suites=500, failed_suites=5), True),
        (Found(Cell("normal", 0.03, 0.0), suites=500, failed_suites=6), False),
        (Found(Cell("AR(1)", 0.03, 0.0, 0.9), failed=20, passed=1980), True),
        (Found(Cell("AR(1)", 0.03, 0.0, 0.9), failed=21, passed=1979), False),
        (Found(Cell("normal", 0.03, 0.05), failed=1800, undecided=200), True),
        (Found(Cell("normal", 0.03, 0.05), failed=1799, undecided=201), False),
        (Found(Cell("normal", 0.01, 0.05), failed=1899, undecided=101), False),
        (Found(Cell("two modes", 0.03, 0.1), failed=1960, undecided=40), True),
        (Found(Cell("two modes", 0.03, 0.1), failed=1959, undecided=41), False),
        (Found(Cell("AR(1)", 0.03, 0.05, 0.9), passed=100, undecided=1900), True),
        (Found(Cell("AR(1)", 0.03, 0.05, 0.9), passed=101, undecided=1899), False),
        (Found(Cell("AR(1)", 0.03, 0.1, 0.9), passed=11, undecided=1989), False),
    ],
)
def test_a_promise_is_kept_or_broken_at_its_bound(found, promise):
    assert kept(found) == promise


@pytest.mark.parametrize("rho", [-0.6, 0.97])
def test_other_correlations_raise_no_false_alarm_of_note(rho):
    """A negative one narrows nothing; one near 1 is a level that wanders."""
    found = simulate(Cell("AR(1)", 0.03, 0.0, rho), 400, seed=3)
    assert found.failed <= 0.03 * 400


def test_the_command_prints_the_table_and_fails_for_a_broken_promise(capsys, monkeypatch):
    cell = Cell("normal", 0.03, 0.0)
    for failed, code in ((0, Exit.PASS), (9, Exit.REGRESSION)):
        monkeypatch.setattr(promises, "simulated", lambda failed=failed, **_: [Found(cell, failed, 1, 0, 10, failed)])
        assert main(["gate", "--promises"]) == code
        told = capsys.readouterr()
        assert "| normal, 3% |" in told.out
        assert bool(told.err) == bool(failed)
    assert main(["gate", "--promises", "--calibrate"]) == Exit.USAGE


def test_chunks_add_up(monkeypatch):
    monkeypatch.setattr(promises, "AT_A_TIME", 200)
    (found,) = simulated([Cell("normal", 0.01, 0.0)], suites=3)
    assert (found.comparisons, found.suites) == (600, 3)
