"""What git says of a checkout: its commit, another revision's files, or the reason and the remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from suite.errors import UsageError
from suite.git import Head, commit_of, export, head_of
from suite.hardware.environment import head
from suite.static.revisions import files_of

IDENTITY = ("-c", "user.name=a", "-c", "user.email=a@b")


def git(folder: Path, *words: str) -> None:
    subprocess.run(["git", "-C", str(folder), *IDENTITY, *words], check=True, capture_output=True)


def commit(folder: Path, **files: str) -> None:
    for name, text in files.items():
        (folder / name).write_text(text)
    git(folder, "add", ".")
    git(folder, "commit", "-m", "a")


@pytest.fixture(autouse=True)
def no_repository_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Two commits: `a` holds 1, then 2."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    git(folder, "init")
    commit(folder, a="1")
    commit(folder, a="2")
    return folder


def another_users(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    return checkout


def without_git(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(checkout))
    return checkout


def git_that_does_not_run(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (checkout / "git").write_text("no program")
    (checkout / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(checkout))
    return checkout


def without_repository(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (checkout.parent / "plain").mkdir()
    return checkout.parent / "plain"


def without_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    git(checkout.parent, "init", "empty")
    return checkout.parent / "empty"


def nowhere(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return checkout / "nowhere"


def damaged(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (checkout / ".git" / "config").write_text("[core\n")
    return checkout


BARRED = {
    another_users: "{0} is owned by another user, and git does not read it; run `git config --global --add "
    "safe.directory {0}`",
    without_git: "git is not installed; install it",
    git_that_does_not_run: "git does not run: Exec format error",
    without_repository: "{0} is in no git repository; take a checkout made by `git clone`",
    nowhere: "{0} is not a folder",
    damaged: "bad config line 1 in file ",
}


@pytest.mark.parametrize("bar", BARRED, ids=lambda bar: bar.__name__)
def test_why_there_is_no_commit(bar, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bar(checkout, monkeypatch)
    why = BARRED[bar].format(folder)
    found = head_of(folder)
    assert found.commit == ""
    assert found.why.startswith(why)
    assert "\n" not in found.why
    with pytest.raises(UsageError) as caught:
        commit_of("HEAD", folder)
    assert str(caught.value).startswith(f"revision 'HEAD' is read with git: {why}")


def test_a_repository_without_a_commit(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = without_commit(checkout, monkeypatch)
    why = "has no commit yet; make one by `git commit`"
    assert head_of(folder) == Head("", f"the repository of {folder} {why}")
    with pytest.raises(UsageError, match=f"no revision 'HEAD' in {folder}: the repository {why}"):
        commit_of("HEAD", folder)


def test_a_shallow_clone_says_so_and_the_remedy(checkout: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--depth", "1", f"file://{checkout}", str(shallow))
    assert commit_of("HEAD", shallow) == head_of(checkout).commit
    remedy = "which is a shallow clone: `git fetch --unshallow` brings its history"
    for revision in ("HEAD~1", "nothing"):
        with pytest.raises(UsageError, match=f"no revision '{revision}' in {shallow}, {remedy}"):
            commit_of(revision, shallow)
    git(shallow, "fetch", "--unshallow")
    assert len(commit_of("HEAD~1", shallow)) == 40


@pytest.mark.parametrize("revision", ["nothing", "", "-h", "--all", "HEAD~9", "HEAD:a", "a b", "\n"])
def test_no_such_revision(revision: str, checkout: Path) -> None:
    with pytest.raises(UsageError, match="name a commit, branch or tag of this repository"):
        commit_of(revision, checkout)


def test_another_revisions_files(checkout: Path) -> None:
    (checkout / "part").mkdir()
    (checkout / "part" / "inner").write_text("here")
    (checkout / "link").symlink_to("a")
    (checkout / "run.sh").write_text("")
    (checkout / "run.sh").chmod(0o755)
    commit(checkout, a="3")
    (checkout / "a").write_text("4")
    git(checkout, "add", "a")
    before = subprocess.run(["git", "-C", str(checkout), "status", "--porcelain"], capture_output=True).stdout
    with files_of("HEAD", checkout) as folder:
        assert sorted(path.name for path in folder.rglob("*")) == ["a", "inner", "link", "part", "run.sh"]
        assert (folder / "a").read_text() == (folder / "link").read_text() == "3"
        assert (folder / "run.sh").stat().st_mode & 0o111
    assert not folder.exists()
    with files_of("HEAD~1", checkout) as folder:
        assert [path.name for path in folder.iterdir()] == ["a"]
    with files_of("HEAD", checkout / "part") as folder:
        assert [path.name for path in folder.iterdir()] == ["inner"]
    after = subprocess.run(["git", "-C", str(checkout), "status", "--porcelain"], capture_output=True).stdout
    assert before == after


def test_files_need_no_tar_filter(checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python before 3.10.12 and 3.11.4 has no `extractall(filter=)`."""
    monkeypatch.setitem(sys.modules, "tarfile", None)
    export("HEAD", checkout, tmp_path)
    assert (tmp_path / "a").read_text() == "2"


def test_what_git_cannot_write_is_told(checkout: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"git cannot write the files of HEAD: .*nowhere"):
        export("HEAD", checkout, tmp_path / "nowhere")


def test_a_run_says_why_it_has_no_commit(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from suite.cli.runs import environment_of
    from suite.gating.report import told_source
    from suite.hardware.environment import describe
    from suite.reporting.data.frame import read
    from suite.reporting.renderers.tables import environment
    from suite.store import create
    from suite.store.pairs import pair_runs

    head.cache_clear()
    at = head(without_repository(checkout, monkeypatch))
    found = {**describe("cpu"), "absent": [], "commit": at.commit, "no_commit": at.why}
    values = environment_of(found, "smoke", [], 0)
    assert capsys.readouterr().err == f"note: the records have no commit: {at.why}\n"
    create(tmp_path / "run", values).close()
    run = tmp_path / "run"
    assert ("no_commit", at.why) in environment(read([run])[0])
    assert read([run])[0].no_commit == f"no commit: {at.why}"
    assert told_source(pair_runs(run, run).base) == f"{run} (no commit: {at.why})"
    known = environment_of({**found, "commit": "1" * 40, "no_commit": ""}, "smoke", [], 0)
    assert "no_commit" not in known
    assert capsys.readouterr().err == ""
