"""What a sweep holds: the GPU's lock, and its clocks."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from suite.discovery import ROOT
from suite.errors import UsageError
from suite.telemetry import gpu_lock, locked_clocks
from suite.telemetry.clocks import BASE
from suite.telemetry.nvml import Gpu
from tests.suite.telemetry.fakes import NO_PERMISSION, NOT_SUPPORTED, FakeNvml

LOCK, RESET = "nvmlDeviceSetGpuLockedClocks", "nvmlDeviceResetGpuLockedClocks"
HOLD = """
import sys, time
from pathlib import Path
from suite.telemetry import gpu_lock
with gpu_lock("U", folder=Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """A process that holds the lock."""
    words = [sys.executable, "-c", HOLD, str(tmp_path), "--flag"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_holder_is_refused_and_told_who_the_first_is(holder, tmp_path: Path) -> None:
    start = time.monotonic()
    words = rf"GPU U is in use by pid {holder.pid}: -c {tmp_path} --flag; wait until it ends, or .* --gpu"
    with pytest.raises(UsageError, match=words), gpu_lock("U", folder=tmp_path):
        pass
    assert time.monotonic() - start < 1
    with gpu_lock("V", folder=tmp_path):
        pass


def test_a_lock_goes_with_its_holder(holder, tmp_path: Path) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with gpu_lock("U", folder=tmp_path):
        assert f"pid {os.getpid()}" in (tmp_path / "subquad-U.lock").read_text()


def test_waiting_for_a_holder(holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: holder.kill() or holder.wait())
    with gpu_lock("U", folder=tmp_path, wait_s=30):
        pass


def test_it_can_be_taken_again_and_by_any_user(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        for _ in range(2):
            with gpu_lock("U", folder=tmp_path):
                pass
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "subquad-U.lock").stat().st_mode) == 0o666


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "subquad-U.lock").symlink_to(tmp_path / "victim")
    with pytest.raises(UsageError, match="cannot lock the GPU by"), gpu_lock("U", folder=tmp_path):
        pass
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize(("mhz", "limits"), [(1500, (1500, 1500)), (None, (BASE, BASE))])
def test_clocks_are_locked_inside_the_block(mhz: int | None, limits: tuple[int, int]) -> None:
    nvml = FakeNvml()
    with locked_clocks(Gpu(nvml, "handle"), mhz):
        assert nvml.locked == limits
        assert RESET not in nvml.asked
    assert nvml.locked is None


def test_the_base_clock_is_nvmls_symbol() -> None:
    pynvml = pytest.importorskip("pynvml")
    assert pynvml.NVML_CLOCK_LIMIT_ID_TDP == BASE


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
def test_clocks_are_reset_whatever_happens(error: type[BaseException]) -> None:
    nvml = FakeNvml()
    with pytest.raises(error), locked_clocks(Gpu(nvml, "handle")):
        raise error
    assert nvml.locked is None


def test_sigterm_resets_the_clocks() -> None:
    nvml, before = FakeNvml(), signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended, locked_clocks(Gpu(nvml, "handle")):
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM
    assert nvml.locked is None
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (NO_PERMISSION, r"locking at 1500 MHz needs root \(CAP_SYS_ADMIN\)"),
        (NOT_SUPPORTED, "does not let its clocks be locked"),
        (2, "failed: Not Found; `nvidia-smi -q -d SUPPORTED_CLOCKS`"),
    ],
)
def test_what_can_not_be_locked_says_why_in_one_line(code: int, words: str) -> None:
    nvml = FakeNvml(refuses={LOCK: code})
    with pytest.raises(UsageError, match=words) as raised, locked_clocks(Gpu(nvml, "handle"), 1500):
        raise AssertionError("not reached")
    assert "\n" not in str(raised.value)
    assert RESET not in nvml.asked
