"""The keeper: whatever a worker does, its end is told as it was, and nothing that it started is left."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from suite.discovery import ROOT
from suite.running import process
from suite.running.messages import Disconnected
from suite.running.process import WorkerProcess

MODULE = "tests.suite.running.ending"
# Far beyond what any of this takes: the tests wait for what comes.
PATIENCE_S = 300.0


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def gone(pid: int) -> bool:
    """Whether a process ends, as long as that may take."""
    end = time.monotonic() + PATIENCE_S
    while alive(pid) and time.monotonic() < end:
        time.sleep(0.02)
    return not alive(pid)


def started(way: str, path: Path) -> WorkerProcess:
    return WorkerProcess(MODULE, [way, str(path)], {})


@pytest.mark.parametrize(
    ("way", "how"),
    [
        ("exits", "exit code 7"),
        ("aborts", "signal SIGABRT"),
        ("is killed", "signal SIGKILL"),
        ("ends its group", "signal SIGTERM"),
        ("lets a fork hold all", "exit code 7"),
    ],
)
def test_a_worker_that_ends_is_seen_at_once_and_takes_all_with_it(tmp_path: Path, way: str, how: str) -> None:
    worker = started(way, tmp_path / "pid")
    with pytest.raises(Disconnected):
        worker.channel.receive(PATIENCE_S)
    assert worker.how_it_ended() == how
    child = int((tmp_path / "pid").read_text())
    assert not alive(child), "its keeper ends last"
    worker.kill()


@pytest.mark.parametrize("way", ["waits", "stops", "stops its keeper", "interrupts its keeper", "forks in Python"])
def test_a_worker_that_is_ended_takes_all_with_it(
    tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    worker = started(way, tmp_path / "pid")
    assert worker.channel.receive(PATIENCE_S) is not None
    child = int((tmp_path / "pid").read_text())
    assert alive(child)
    if way == "stops its keeper":
        monkeypatch.setattr(process, "KILL_S", 0.2)
    worker.kill()
    assert gone(child)
    assert "does not die" not in capsys.readouterr().err


def test_a_worker_that_becomes_another_program_is_found_out(tmp_path: Path) -> None:
    worker = started("becomes another program", tmp_path / "pid")
    with pytest.raises(Disconnected):
        worker.channel.receive(PATIENCE_S)
    assert worker.how_it_ended() == "closing its channel while it was still running"
    worker.kill()
    assert gone(int((tmp_path / "pid").read_text()))


RUNNER = """
import sys, time
from pathlib import Path
from suite.running.process import WorkerProcess
worker = WorkerProcess("MODULE", ["waits", sys.argv[1]], {})
print(worker.channel.receive(300), flush=True)
time.sleep(9999)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nothing_survives_a_runner_that_is_killed(tmp_path: Path, how: signal.Signals) -> None:
    words = [sys.executable, "-c", RUNNER.replace("MODULE", MODULE), str(tmp_path / "pid")]
    runner = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE)
    assert runner.stdout is not None
    assert b"waits" in runner.stdout.readline()
    child = int((tmp_path / "pid").read_text())
    assert alive(child)
    runner.send_signal(how)
    runner.communicate()
    assert gone(child)
