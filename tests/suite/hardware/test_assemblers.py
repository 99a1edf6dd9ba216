"""Which ptxas is told of, and that the one that a variable names is the one that compiles."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.errors import UsageError
from suite.hardware import assemblers
from suite.hardware.environment import describe
from suite.running.process import WorkerProcess
from suite.store.environments import environment_fault


@pytest.fixture(autouse=True)
def none_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in assemblers.VARIABLES.values():
        monkeypatch.delenv(variable, raising=False)


def ptxas(folder: Path, version: str = "13.4.27") -> Path:
    path = folder / "ptxas"
    path.write_text(f"#!/bin/sh\necho 'Cuda compilation tools, release {version.rpartition('.')[0]}, V{version}'\n")
    path.chmod(0o755)
    return path


def test_triton_brings_two_with_full_versions() -> None:
    found = assemblers.assemblers()
    assert set(found) == {"ptxas", "ptxas-blackwell"}
    for each in found.values():
        assert len(each.version.split(".")) == 3
        assert not each.given
    assert assemblers.given() is None
    assert assemblers.variables() == {}
    assert assemblers.version_for(90) == found["ptxas"].version
    assert assemblers.version_for(100) == found["ptxas-blackwell"].version


@pytest.mark.parametrize(("name", "capability", "other"), [("ptxas", 90, 100), ("ptxas-blackwell", 100, 90)])
def test_a_variable_names_another_for_its_architectures(
    name: str, capability: int, other: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = assemblers.version_for(other)
    monkeypatch.setenv(assemblers.VARIABLES[name], str(ptxas(tmp_path)))
    assert assemblers.version_for(capability) == "13.4.27"
    assert assemblers.version_for(other) == before
    assert assemblers.given() == f"{name} 13.4.27"


def test_without_triton_s_word_the_architecture_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.backends.nvidia import compiler

    monkeypatch.delattr(compiler, "get_ptxas")
    monkeypatch.setenv("TRITON_PTXAS_BLACKWELL_PATH", str(ptxas(tmp_path)))
    assert assemblers.version_for(120) == "13.4.27"
    assert assemblers.version_for(90) == assemblers.assemblers()["ptxas"].version


def test_a_triton_that_brings_none_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.backends.nvidia import compiler

    def refuse(arch: int) -> None:
        raise RuntimeError("Cannot find ptxas")

    monkeypatch.setattr(assemblers, "_bundled", lambda name: None)
    monkeypatch.setattr(compiler, "get_ptxas", refuse)
    assert assemblers.assemblers() == {}
    assert assemblers.version_for(90) is None


@pytest.mark.parametrize("what", ["absent", "folder", "fails", "says nothing"])
def test_a_named_file_that_is_no_ptxas_is_refused(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tool"
    if what == "folder":
        path.mkdir()
    elif what != "absent":
        path.write_text(f"#!/bin/sh\n{'exit 1' if what == 'fails' else 'echo hello'}\n")
        path.chmod(0o755)
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(path))
    with pytest.raises(UsageError, match=rf"TRITON_PTXAS_PATH={path}: this file does not run as ptxas"):
        assemblers.assemblers()
    with pytest.raises(UsageError, match="TRITON_PTXAS_PATH"):
        WorkerProcess("suite.running.worker", [], {})


def test_a_run_s_environment_tells_all_and_a_named_one_makes_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = describe("cpu")
    assert before["versions"]["ptxas"] == assemblers.assemblers()["ptxas"].version
    assert "ptxas" not in before["fingerprint"]
    monkeypatch.setenv("TRITON_PTXAS_PATH", str(ptxas(tmp_path)))
    after = describe("cpu")
    assert after["versions"]["ptxas"] == "13.4.27"
    assert after["fingerprint"] == {**before["fingerprint"], "ptxas": "ptxas 13.4.27"}
    assert environment_fault({"schema": "1.3", **after}) is None


def test_workers_have_the_file_that_was_named_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = ptxas(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_PTXAS_PATH", "./ptxas")
    assert assemblers.variables() == {"TRITON_PTXAS_PATH": str(path)}
