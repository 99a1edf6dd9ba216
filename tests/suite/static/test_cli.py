"""`subquad static` from its flags to its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from suite.analysis.entries import entries
from suite.cli import main
from suite.discovery import ROOT, discover
from suite.errors import UsageError
from suite.measuring.records import base_record
from suite.problem import Case, Problem
from suite.static.revisions import commit_of, files_of
from suite.store import read_records
from tests.suite.reporting.synthetic import H200, stored

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


@pytest.mark.long
def test_json_statuses_and_every_tunable(capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be captured is told and is no failure."""
    assert static("--impl", "triton,by_value,rereading", "--all-configs", "--json") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["case_id"].removeprefix("double/").partition("/")[0], row["status"]) for row in rows] == [
        ("triton", "ok"),
        ("rereading", "ok"),
        ("rereading", "ok"),
        ("by_value", "unsupported"),
    ]
    assert [row["case_id"].rpartition("_")[2] for row in rows[1:3]] == ["reads-3", "reads-1"]
    assert rows[0]["static.traffic_ratio"] == 1.0
    assert rows[0]["launches"][0]["binary"]["mix"]["ldg_64"] == 1


@pytest.mark.long
def test_what_does_not_build_fails_and_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert static("--impl", "unfinished") == 1
    out = capsys.readouterr().out
    assert "compile_error: unfinished_kernel: CompilationError" in out
    assert "not_written_yet is not defined" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arch", "sm_70"], "no static profile is taken of sm_70"),
        (["--arch", ","], "no architecture is named"),
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
    with pytest.raises(UsageError, match=r"revision 'HEAD' is read with git: .* is in no git repository"):
        commit_of("HEAD", tmp_path)


def gpu_run(folder: Path) -> Path:
    """A run of an H200: three implementations of the plug-in were timed, and one that is gone; one was only checked."""
    registry = discover(load=[PLUGIN])
    operator = registry.operator("double")
    problem = operator.complete(Problem(T=1024, H=2, K=64))
    rows = []
    for name in ("triton", "unfinished", "cpu"):
        case = Case("double", name, problem, (), operator.axes)
        made = operator.implementations[name]
        row = base_record(operator, made, case, kind="timed", mode="cold-events", device="NVIDIA H200")
        rows.append(row | {"status": "ok", "time_ms": 1.0, "timer": "events", "l2": "cold", "samples": [1.0]})
    gone = rows[0] | {"implementation": "gone", "case_id": rows[0]["case_id"].replace("triton", "gone")}
    alone = rows[0] | {"implementation": "wasteful", "case_id": rows[0]["case_id"].replace("triton", "wasteful")}
    return stored([*rows, gone, alone | {"kind": "check", "mode": "cuda"}], folder, **H200)


@pytest.mark.long
def test_profiles_of_what_a_run_timed_are_kept_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = gpu_run(tmp_path / "h200")
    words = ["static", "--load", PLUGIN, "--run", str(run), "--no-issued", "--jobs", "1"]
    assert main(words) == 1, "one of them does not compile"
    told = capsys.readouterr()
    assert "double/gone is not registered here" in told.err
    assert "2 profiles in" in told.out
    rows = {row["implementation"]: row for row in read_records(run) if row["kind"] == "static"}
    assert set(rows) == {"triton", "unfinished"}
    assert (rows["triton"]["device"], rows["triton"]["static.traffic_ratio"]) == ("sm_90", 1.0)
    assert rows["triton"]["static.floor_gpu"] == "NVIDIA H200"
    assert rows["unfinished"]["status"] == "compile_error"
    assert [each.figure("static.launches") for each in entries(read_records(run))][:1] == [1.0]
    assert main(words) == 0
    assert "0 profiles in" in capsys.readouterr().out


def test_a_run_without_a_gpu_has_nothing_to_compile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = stored([], tmp_path / "cpu")
    assert main(["static", "--run", str(run)]) == 2
    assert "no kernel was launched; name a GPU's run" in capsys.readouterr().err
    assert main(["static", "--run", str(run), "--base", "HEAD"]) == 2
    assert "remove --base and --all-configs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--base", "HEAD", "--explain"], "--base does not go with --explain"),
        (["--run", "results/none", "--explain"], "--run does not go with --explain"),
        (["--json", "--format", "md"], "--json does not go with --format md"),
        (["--explain", "--format", "md"], "--format md does not go with --explain"),
    ],
)
def test_a_flag_that_would_do_nothing_beside_another_is_refused(words, told, capsys):
    assert main(["static", "--op", "retention", *words]) == 2
    assert f"{told}: remove one of them" in capsys.readouterr().err
