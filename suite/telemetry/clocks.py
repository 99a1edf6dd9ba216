"""Locked clocks: the SM clock held at one frequency while a sweep runs, and always released afterwards.

Only ever called when a user asks (`--lock-clocks`): it changes the machine for everyone on it.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from suite.errors import UsageError
from suite.telemetry.nvml import Gpu

# NVML's symbol for the board's base clock (NVML_CLOCK_LIMIT_ID_TDP), given as lower and upper limit.
BASE = 0xFFFFFF01
NO_PERMISSION, NOT_SUPPORTED = 4, 3


@contextmanager
def locked_clocks(gpu: Gpu, mhz: int | None = None) -> Iterator[None]:
    """Lock the SM clock at `mhz`, or at the board's base clock, inside the block, and reset it whatever happens there.

    SIGTERM ends the block like an exception, so that it resets too; nothing can after SIGKILL: then `nvidia-smi -rgc`
    does. UsageError when this user may not, or the GPU cannot.
    """
    limit = BASE if mhz is None else mhz
    try:
        gpu.nvml.nvmlDeviceSetGpuLockedClocks(gpu.handle, limit, limit)
    except gpu.nvml.NVMLError as error:
        raise UsageError(_why(error, mhz)) from error
    try:
        with _terminating():
            yield
    finally:
        gpu.nvml.nvmlDeviceResetGpuLockedClocks(gpu.handle)


def _why(error: Exception, mhz: int | None) -> str:
    at = "the base clock" if mhz is None else f"{mhz} MHz"
    code = getattr(error, "value", None)
    if code == NO_PERMISSION:
        return f"--lock-clocks: locking at {at} needs root (CAP_SYS_ADMIN); run as root, or remove the flag"
    if code == NOT_SUPPORTED:
        return "--lock-clocks: this GPU does not let its clocks be locked; remove the flag"
    return f"--lock-clocks: locking at {at} failed: {error}; `nvidia-smi -q -d SUPPORTED_CLOCKS` lists the clocks"


@contextmanager
def _terminating() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
