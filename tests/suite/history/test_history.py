"""The command: runs of many commits become series, and say which commits to blame."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from suite.cli import main
from suite.errors import UsageError
from suite.history.series import gather
from tests.suite.store.runs import change_environment, failed, record, write_run

COMMITS = 30


def make_runs(root: Path, step_at: int = 20, ratio: float = 1.05, **device: Any) -> Path:
    """A run of each commit: one case has a step, another has none."""
    rng = np.random.default_rng(3)
    for i in range(COMMITS):
        times = {"C64": 2.0 * (ratio if i >= step_at else 1.0), "C32": 3.0}
        records = [
            record(name, time_ms=float(ms * np.exp(rng.normal(0, 0.003))), **{"tunable.chunk": int(name[1:])})
            for name, ms in times.items()
        ]
        run = write_run(root / f"{i:03d}", records, **device)
        commit, created = f"{i:04x}" + "0" * 36, f"2026-01-{i + 1:02d}T00:00:00+00:00"
        change_environment(run, commit=commit, created=created)
    return root


def test_the_step_and_its_commit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = make_runs(tmp_path / "runs")
    assert main(["history", str(runs)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "30 runs of 30 commits, 2 series" in out[0]
    (row,) = [line.split("\t") for line in out if line.startswith("slower")]
    assert row[1].endswith("_C64")
    assert float(row[3]) == pytest.approx(1.05, abs=0.005)
    assert row[4] == "0014000000"
    assert main(["history", str(runs), "--fail"]) == 1
    assert main(["history", str(runs), "--fail", "--impl", "retention/triton_chunk", "--op", "retention"]) == 1


def test_faster_is_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(make_runs(tmp_path / "runs", ratio=0.9)), "--fail"]) == 0
    assert "faster\t" in capsys.readouterr().out


def test_json_has_points_and_changes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", str(make_runs(tmp_path / "runs")), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    by_case = {each["case_id"][-3:]: each for each in found["series"]}
    assert [step["at"] for step in by_case["C64"]["steps"]] == [20]
    assert by_case["C32"]["steps"] == by_case["C32"]["drifts"] == []
    assert set(by_case["C32"]["points"][0]) == {"commit", "created", "ms", "low", "high"}


def test_runs_of_one_commit_are_one_point(tmp_path: Path) -> None:
    for i, ms in enumerate((1.0, 1.2, 5.0)):
        write_run(tmp_path / str(i), [record("C64", time_ms=ms)])
    (series,) = gather([tmp_path]).series
    (point,) = series.points
    assert point.ms == 1.2
    assert (point.low < 1.0, point.high > 5.0) == (True, True)


def test_machines_are_kept_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", [record()])
    write_run(tmp_path / "b", [record()], device="Other CPU")
    with pytest.raises(UsageError, match=r"2 machines; choose one with --machine: Other CPU.*Test CPU"):
        gather([tmp_path])
    assert gather([tmp_path], "other").machine.startswith("Other CPU")
    assert main(["history", str(tmp_path), "--machine", "H200"]) == 2
    assert "no run of a machine like 'H200'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"torch": "2.14.0"}, r"torch 2\.13\.0.*torch 2\.14\.0"), ({"threads": 8}, "threads 2.*threads 8")],
)
def test_whatever_of_the_fingerprint_differs_is_another_machine(
    changed: dict[str, Any], said: str, tmp_path: Path
) -> None:
    write_run(tmp_path / "a", [record()])
    write_run(tmp_path / "b", [record()], **changed)
    with pytest.raises(UsageError, match=said):
        gather([tmp_path])
    assert gather([tmp_path], said.partition(".*")[2].replace("\\", "")).runs == 1


def test_what_was_not_timed_makes_no_point(tmp_path: Path) -> None:
    checked = record("C64", kind="check", mode="", time_ms=None, samples=None, ci_low_ms=None, ci_high_ms=None)
    write_run(tmp_path / "a", [record("C64", time_ms=2.0), checked, failed("C32", **{"tunable.chunk": 32})])
    (series,) = gather([tmp_path]).series
    assert [point.ms for point in series.points] == [2.0]


def test_few_commits_are_said_to_be_few(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_run(tmp_path / "a", [record()])
    assert main(["history", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "no change" in out
    assert "1 of 1 series have fewer than 6 commits" in out


def test_a_damaged_run_is_passed_over_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_run(tmp_path / name, [record()])
    (tmp_path / "a" / "records.jsonl").write_text('{"case_id"\n{}\n')
    assert main(["history", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert "1 run of 1 commit" in told.out
    assert "a/records.jsonl" in told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no/such/folder"], "no/such/folder does not exist"),
        (["."], "no run in ."),
        ([".", "--alpha", "2"], "between 0 and 1"),
        (["runs", "--op", "retentoin"], "unknown operator of these runs 'retentoin'; did you mean 'retention'?"),
        (["runs", "--impl", "retention/naive"], "unknown implementation of these runs 'retention/naive'"),
    ],
)
def test_what_is_wrong_is_said(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    if words[0] == "runs":
        write_run(tmp_path / "runs", [record()])
    assert main(["history", *words]) == 2
    assert said in capsys.readouterr().err


def in_order(root: Path, times: list[float], commits: list[str] | None = None, **device: Any) -> Path:
    for i, ms in enumerate(times):
        run = write_run(root / f"{i:03d}", [record("C64", time_ms=ms)], **device)
        commit = commits[i] if commits else f"{i:04x}" + "0" * 36
        change_environment(run, commit=commit, created=f"2026-01-{i + 1:02d}T00:00:00+00:00")
    return root


@pytest.mark.parametrize(
    ("levels", "code"),
    [((1.0, 1.1), 1), ((1.0, 1.1, 1.0), 0), ((1.0, 0.8, 0.9), 1), ((1.1, 1.0), 0), ((1.0,), 0)],
    ids=["slower", "mended", "faster and lost again", "faster", "same"],
)
def test_what_fails_is_slower_than_it_has_been(levels: tuple[float, ...], code: int, tmp_path: Path) -> None:
    times = [level * (1 + 0.001 * (i % 3)) for level in levels for i in range(9)]
    assert main(["history", str(in_order(tmp_path / "runs", times)), "--fail"]) == code


def test_a_drift_fails_too(tmp_path: Path) -> None:
    times = [1.0 + 0.006 * i + 0.001 * (i % 3) for i in range(28)]
    assert main(["history", str(in_order(tmp_path / "runs", times)), "--fail"]) == 1


def test_uncommitted_changes_are_not_their_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commits = [f"{i:04x}" + "0" * 36 for i in range(10)]
    commits += [f"{commits[-1]}-dirty", *(f"{i:04x}" + "0" * 36 for i in range(20, 24))]
    times = [1.0 + 0.001 * (i % 3) for i in range(10)] + [1.3, 1.3, 1.301, 1.3, 1.301]
    assert main(["history", str(in_order(tmp_path / "runs", times, commits))]) == 0
    (row,) = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line.startswith("slower")]
    assert row[4] == "0009000000-dirty"


def test_a_machine_s_own_name_chooses_it(tmp_path: Path) -> None:
    write_run(tmp_path / "a", [record()], torch="2.1")
    write_run(tmp_path / "b", [record()], torch="2.10")
    for name in ("Test CPU, torch 2.1", "Test CPU, torch 2.10"):
        assert gather([tmp_path], name).machine == name
