"""Where the cache folder lies when there is no usable home, and what is told when it cannot be used."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

import pytest

from suite import cachefolder
from suite.ceilings import renew
from suite.cli import main
from suite.errors import StoreError, UsageError


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable, and a temporary directory of our own."""
    for name in ("SUBQUAD_CACHE", "TRITON_HOME", "TORCHINDUCTOR_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    cachefolder._default.cache_clear()


def nobody(*_: object) -> None:
    raise KeyError("getpwuid(): uid not found: 12345")


def test_the_usual_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / ".cache" / "subquad"
    assert cachefolder.cache_folder() == folder
    assert cachefolder.variables() == {"SUBQUAD_CACHE": str(folder)}
    assert not folder.exists()


def test_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for named, folder in (
        ("here", tmp_path / "here"),
        ("~/there", tmp_path / "there"),
        ("", tmp_path / ".cache/subquad"),
    ):
        monkeypatch.setenv("SUBQUAD_CACHE", named)
        # A worker runs in another folder.
        assert cachefolder.variables()["SUBQUAD_CACHE"] == str(folder)


@pytest.mark.parametrize("home", [None, "", "/nonexistent", "relative", "file", "unwritable"])
def test_without_a_usable_home(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    if home == "file":
        (tmp_path / "file").write_text("")
    if home == "unwritable":
        (tmp_path / "unwritable").mkdir()
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode: "unwritable" not in str(path) and access(path, mode))
    if home is not None:
        monkeypatch.setenv("HOME", str(tmp_path / home) if home in ("file", "unwritable") else home)
    folder = tmp_path / "tmp" / f"subquad-{os.getuid()}"
    assert cachefolder.cache_folder() == cachefolder.cache_folder() == folder
    assert (folder.stat().st_mode & 0o777, folder.stat().st_uid) == (0o700, os.getuid())
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(f"caches are in {folder}; set SUBQUAD_CACHE to choose another folder\n")
    assert cachefolder.variables() == {
        "SUBQUAD_CACHE": str(folder),
        "TRITON_HOME": str(folder),
        "TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor"),
    }
    monkeypatch.setenv("TRITON_HOME", "/mine")
    assert "TRITON_HOME" not in cachefolder.variables()


def test_a_temporary_folder_that_is_somebody_elses_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tmp" / f"subquad-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is another user's; set SUBQUAD_CACHE"):
        cachefolder.cache_folder()


@pytest.mark.parametrize("inside", ["", "sub", "sub/sub"])
def test_a_file_is_no_folder(
    inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "file"
    path.write_text("")
    named = str(path / inside)
    monkeypatch.setenv("SUBQUAD_CACHE", named)
    assert main(["device", "--device", "cpu"]) == 2
    assert capsys.readouterr().err == f"subquad: SUBQUAD_CACHE={named}: {path} is a file; name a folder\n"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT])
def test_what_the_disk_refuses_is_one_line(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path / "cache"))

    def refuse(path: Path, *_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(UsageError, match=f"cannot use .*: {os.strerror(number)}; set SUBQUAD_CACHE to a folder"):
        renew({"cache": "ceilings-cpu-1.json"})
    assert list((tmp_path / "cache").iterdir()) == []


def test_damaged_ceilings_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from suite.ceilings import cache

    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path))
    path = cache._path("cpu", {"clocks": cache_clocks(), "uuid": ""})
    path.write_text('{"copy": [')
    with pytest.raises(StoreError, match=f"{path} holds no ceilings .*; delete it"):
        cache.ceilings("cpu", {})


def cache_clocks() -> dict[str, object]:
    from suite.ceilings.clocks import clocks_of

    return clocks_of("cpu")


def test_a_worker_tells_what_the_user_can_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from suite.running.process import measuring_worker

    monkeypatch.setenv("SUBQUAD_CACHE", str(tmp_path))
    worker = measuring_worker("cpu")
    try:
        with pytest.raises(UsageError, match="unknown operator 'nothing'"):
            worker.ask(do="measure", operator="nothing")
        # It is there still.
        assert worker.ask(do="describe", device="cpu")["device"]["kind"] == "cpu"
    finally:
        worker.kill()
