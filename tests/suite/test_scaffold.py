"""The skeleton of an operator passes its own tests as written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from suite.discovery import ROOT
from suite.errors import UsageError
from suite.scaffold import TEMPLATES, write_skeleton


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty checkout beside this one, with this suite."""
    for name in ("suite", "pyproject.toml"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("kernels", "baselines", "tests"):
        (tmp_path / name).mkdir()
    for path in ("kernels/__init__.py", "baselines/__init__.py", "tests/conftest.py"):
        (tmp_path / path).write_text((ROOT / path).read_text())
    return tmp_path


def run(checkout: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(checkout), **variables}
    return subprocess.run([sys.executable, *words], cwd=checkout, env=environment, capture_output=True, text=True)


def test_skeleton_passes_as_written(checkout: Path) -> None:
    written = write_skeleton("toy_scan", checkout)
    assert len(written) == len(TEMPLATES)
    pytest_words = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist")
    baseline = run(checkout, *pytest_words, "tests/baselines")
    assert baseline.returncode == 0, baseline.stdout
    kernel = run(checkout, *pytest_words, "-k", "33", "tests/kernels", TRITON_INTERPRET="1")
    assert kernel.returncode == 0, kernel.stdout
    assert "4 passed" in kernel.stdout


def test_skeleton_is_formatted(checkout: Path) -> None:
    paths = [str(path) for path in write_skeleton("toy_scan", checkout) if path.suffix == ".py"]
    for words in (["check"], ["format", "--check"]):
        done = run(checkout, "-m", "ruff", *words, *paths)
        assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", ["Toy", "toy-scan", "for", "1st", ""])
def test_names_that_are_refused(checkout: Path, name: str) -> None:
    with pytest.raises(UsageError, match="snake_case"):
        write_skeleton(name, checkout)


def test_an_operator_of_a_family_is_not_written_again(checkout: Path) -> None:
    (checkout / "kernels" / "family" / "toy_scan").mkdir(parents=True)
    with pytest.raises(UsageError, match="kernels/family/toy_scan exists; choose another name"):
        write_skeleton("toy_scan", checkout)
    assert not (checkout / "kernels" / "toy_scan").exists()


def test_nothing_is_overwritten(checkout: Path) -> None:
    first = write_skeleton("toy_scan", checkout)[1]
    first.write_text("mine")
    with pytest.raises(UsageError, match="kernels/toy_scan exists"):
        write_skeleton("toy_scan", checkout)
    assert first.read_text() == "mine"
