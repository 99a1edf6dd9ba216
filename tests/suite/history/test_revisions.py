"""History of revisions that are compiled: which ones, what changed, and what the command says."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from suite.cli import main
from suite.cli.history import sparkline
from suite.errors import UsageError
from suite.history import revisions
from suite.history.revisions import commits_of, static_history
from suite.problem import Case, Problem
from suite.static.model import Launch, Prediction, Profile
from suite.static.tasks import Task

CASE = Case("retention", "triton_chunk", Problem())


def git(root: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    return subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository whose kernels change at the second and at the fourth of five commits."""
    git(tmp_path, "init", "-q", "-b", "main")
    (tmp_path / "kernels").mkdir()
    for i, us in enumerate((100, 120, 120, 90, 90)):
        (tmp_path / "kernels" / "us.txt").write_text(f"{us}\n")
        (tmp_path / "other.txt").write_text(f"{i}\n")
        git(tmp_path, "add", "-A")
        git(tmp_path, "commit", "-q", "-m", f"Commit {i}")
    return tmp_path


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Profiles as the revision's file says; what was asked for."""
    asked = list[str]()

    def take(tasks: Sequence[Task], **_: Any) -> list[Profile]:
        found = []
        for task in tasks:
            us = (Path(task.root) / "kernels" / "us.txt").read_text().strip()
            asked.append(us)
            launch = Launch("kernel", (1, 1, 1), predicted=Prediction(ms=float(us) / 1e3))
            found.append(Profile(task.case.case_id, task.arch, launches=(launch,)))
        return found

    monkeypatch.setattr(revisions, "take_profiles", take)
    return asked


def test_revisions_whose_kernels_did_not_change_are_not_compiled(root: Path, compiled: list[str]) -> None:
    found = static_history(commits_of("HEAD~4..HEAD", root), [Task(CASE, "sm_90")], root=root)
    name = f"{CASE.case_id} sm_90"
    assert [each.cases[name].predicted_ms for each in found] == [0.1, 0.12, 0.12, 0.09, 0.09]
    assert [each.subject for each in found] == [f"Commit {i}" for i in range(5)]
    assert compiled == ["100", "120", "90"]


def test_the_command_says_what_changed_where(
    root: Path, compiled: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("commits_of", "static_history"):
        monkeypatch.setattr(f"suite.history.revisions.{name}", _at(getattr(revisions, name), root))
    words = ["history", "--op", "retention", "--impl", "triton_chunk", "--pass", "fwd", "--shape", "T=1024"]
    assert main([*words, "--static", "HEAD~4.."]) == 0
    out = capsys.readouterr().out
    assert "\t▃██▁▁\t100.0\t90.0\t0.90" in out
    second, fourth = git(root, "rev-parse", "HEAD~3")[:10], git(root, "rev-parse", "HEAD~1")[:10]
    steps = [line.split("\t") for line in out.splitlines() if line.startswith((second, fourth))]
    assert [(step[0], step[2], step[3]) for step in steps] == [
        (second, "100.0 -> 120.0 us (x1.20)", "Commit 1"),
        (fourth, "120.0 -> 90.0 us (x0.75)", "Commit 3"),
    ]


def _at(function: Any, root: Path) -> Any:
    return lambda *args, **words: function(*args, **{**words, "root": root})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("main", "write two revisions"),
        ("..main", "write two revisions"),
        ("main...HEAD", "write two revisions"),
        ("main..HEAD", "has no commit that main lacks"),
        ("nowhere..main", "nowhere"),
    ],
)
def test_what_is_no_range_is_said(given: str, said: str, root: Path) -> None:
    with pytest.raises(UsageError, match=said):
        commits_of(given, root)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--batch", "4"], "--batch goes with --static; of stored runs choose by --op and --impl"),
        (["--static", "HEAD..HEAD", "runs"], "leave out runs and --machine"),
        (["--static", "HEAD~1..HEAD", "--op", "softmax_attention", "--impl", "naive"], "none of our kernels"),
        (["--static", "HEAD~1..HEAD", "--fail"], "--fail is of stored runs; `subquad static --base REV` judges"),
        (["--static", "HEAD~1..HEAD", "--alpha", "0.1"], "--alpha is of stored runs"),
    ],
)
def test_flags_that_do_not_go_together(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["history", *words]) == 2
    assert said in capsys.readouterr().err


def test_sparklines() -> None:
    assert sparkline([1.0, 2.0, None, 1.5]) == "▁█ ▅"
    assert sparkline([3.0, 3.0]) == "▁▁"
    assert sparkline([None]) == " "
