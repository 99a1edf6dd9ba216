"""`subquad static` from its flags to its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from suite.cli import main
from suite.discovery import ROOT
from suite.errors import UsageError
from suite.static.revisions import commit_of, files_of

PLUGIN = str(Path(__file__).parent / "plugin.py")
SHAPE = [
    "--op",
    "double",
    "--seq-len",
    "1024",
    "--head-dim",
    "64",
    "--heads",
    "2",
    "--pass",
    "fwd",
    "--no-issued",
    "--jobs",
    "1",
]


def static(*words: str) -> int:
    return main(["static", "--load", PLUGIN, *SHAPE, *words])


def test_json_statuses_and_every_tunable(capsys: pytest.CaptureFixture[str]) -> None:
    """What can not be captured is told and is no failure."""
    assert static("--impl", "triton,by_value,rereading", "--all-configs", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["case_id"].removeprefix("double/").partition("/")[0], row["status"]) for row in rows] == [
        ("triton", "ok"), ("rereading", "ok"), ("rereading", "ok"), ("by_value", "unsupported"),
    ]  # fmt: skip
    assert [row["case_id"].rpartition("_")[2] for row in rows[1:3]] == ["reads-3", "reads-1"]
    assert rows[0]["static.traffic_ratio"] == 1.0
    assert rows[0]["launches"][0]["binary"]["mix"]["ldg_64"] == 1


def test_what_does_not_build_fails_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert static("--impl", "unfinished") == 1
    out = capsys.readouterr().out
    assert "compile_error: unfinished_kernel: CompilationError" in out
    assert "not_written_yet is not defined" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arch", "sm_70"], "unknown architecture 'sm_70'"),
        (["--gpu", "NVIDIA H777"], "NVIDIA H200"),
        (["--impl", "no_such"], "unknown implementation 'no_such'"),
        (["--jobs", "0"], "give an integer of at least 1"),
        (["--base", "no-such-revision"], "no revision 'no-such-revision'"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert static(*words) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert message in err


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom suite.cli import main\n"
        "try:\n    main(['static', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'triton', 'pandas', 'plotly', 'numpy', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "--all-configs" in done.stdout


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    for text in ("first", "second"):
        (tmp_path / "file.txt").write_text(text)
        git(tmp_path, "add", "file.txt")
        git(tmp_path, "-c", "user.name=n", "-c", "user.email=e@example.org", "commit", "-q", "-m", text)
    (tmp_path / "file.txt").write_text("not committed")
    return tmp_path


def test_another_revision_lies_in_a_folder_of_its_own(repository: Path) -> None:
    with files_of("HEAD~1", repository) as folder:
        assert (folder / "file.txt").read_text() == "first"
    assert not folder.exists()
    assert (repository / "file.txt").read_text() == "not committed"
    assert len(commit_of("HEAD", repository)) == 40


def test_a_folder_outside_of_git_has_no_revisions(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no revision 'HEAD'"):
        commit_of("HEAD", tmp_path)
