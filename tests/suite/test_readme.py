"""README's own code and commands, as they are printed there; what would take minutes is narrowed by flags behind it."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from suite.cli import main
from suite.discovery import ROOT

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
QUICK = "--seq-len 64 --warmup 1 --rep 5 --no-static --no-report"
# command, by its start -> what is put behind it here, and what it has to say
COMMANDS = {
    "make bench": ("FLAGS=--dry-run", r"\d+ cases of \d+ problems"),
    "make test": ("-n", r"pytest"),
    "subquad bench --load mine.py": (f"{QUICK} --head-dim 16 --pass fwd --out run", r"[1-9]\d* ok"),
    "subquad bench --op linear_attention,softmax_attention": (
        f"{QUICK} --head-dim 16 --impl naive --pass fwd --out run",
        r"2 ok",
    ),
    # Of a GPU: only planned here.
    "subquad bench --preset llama3-8b": ("--dry-run", r"\d+ cases of \d+ problems, 8 launch"),
    "subquad check --device interpret": ("--seq-len 1,63", r"4 ok"),
    "subquad static": ("--impl triton_chunk --pass fwd --no-issued", r"linear_attention/triton_chunk"),
}


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [code for name, code in BLOCK.findall(text) if name == language]


def commands() -> list[str]:
    lines = [line.partition("#")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line]


def start_of(command: str) -> str:
    return next((start for start in COMMANDS if command.startswith(start)), "")


def words_of(command: str) -> list[str]:
    """The words to run, with what is put behind them."""
    return shlex.split(f"{command} {COMMANDS[start_of(command)][0]}")


def test_every_command_of_the_readme_is_run_here() -> None:
    assert len(commands()) >= len(COMMANDS)
    assert {start_of(command) for command in commands()} == set(COMMANDS), "say here how a new command is narrowed"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a reader stands: an empty folder, with the environment's programs at hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme(command: str, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`subquad` is main() here, which starts in no time; `make` is that of this checkout."""
    (folder / "mine.py").write_text(blocks("python")[0])
    program, *words = words_of(command)
    if program == "subquad":
        code = main(words)
    else:
        code = subprocess.run([program, "-C", str(ROOT), *words], check=False).returncode
    told = "".join(capfd.readouterr())
    assert code == 0, told
    assert re.search(COMMANDS[start_of(command)][1], told), told


def test_the_readme_adds_an_implementation(folder: Path) -> None:
    (folder / "other.py").write_text(blocks("python")[1])
    # In a process of its own: the implementation would stay in the registry of this one.
    done = subprocess.run(
        [sys.executable, "-m", "suite", "list", "--load", "other.py"],
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
    )
    assert "linear_attention\tmine\tours" in done.stdout, done.stderr


def test_the_table_of_the_readme_is_that_of_its_run(capsys: pytest.CaptureFixture[str]) -> None:
    from suite.cli.results import print_results
    from suite.reporting.data.frame import read

    (shown,) = re.findall(
        r"^```\n(linear_attention .*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL
    )
    print_results(read([ROOT / "results" / "amd-epyc-2c" / "cpu"])[0])
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in shown.splitlines() if line.split() not in printed] == []
