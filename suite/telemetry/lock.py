"""One lock per GPU, machine wide: two sweeps on one GPU would measure each other.

Example::

    with gpu_lock(uuid):      # for the life of the sweep
        ...

The lock is the kernel's (flock), on a file in /tmp named after the GPU, so it is gone when its holder is, however that
ended. The file stays: removing it would let two processes hold two locks of one name.
"""

from __future__ import annotations

import fcntl
import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suite.errors import UsageError

FOLDER = Path("/tmp")
POLL_S = 0.5


@contextmanager
def gpu_lock(uuid: str, *, wait_s: float = 0.0, folder: Path = FOLDER) -> Iterator[None]:
    """Hold the GPU's lock inside the block.

    wait_s: how long to wait for another holder. UsageError names the holder when it does not let go, and says why the
    lock's file cannot be opened.
    """
    path = folder / f"subquad-{uuid}.lock"
    descriptor = _open(path)
    try:
        _take(descriptor, uuid, wait_s)
        _sign(descriptor)
        yield
    finally:
        os.close(descriptor)


def _open(path: Path) -> int:
    # Without O_CREAT first: in a sticky folder the kernel refuses to create what another user has there already.
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            return _create(path, flags)
    except OSError as error:
        raise UsageError(f"cannot lock the GPU by {path}: {error.strerror}; ask its owner to remove it") from error


def _create(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return os.open(path, flags)
    # Whatever the umask: every user's sweep must be able to take this lock.
    os.fchmod(descriptor, 0o666)
    return descriptor


def _take(descriptor: int, uuid: str, wait_s: float) -> None:
    end = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= end:
                holder = os.pread(descriptor, 500, 0).decode(errors="replace").strip() or "a process that did not sign"
                raise UsageError(
                    f"GPU {uuid} is in use by {holder}; wait until it ends, or take another one with --gpu"
                ) from None
            time.sleep(POLL_S)


def _sign(descriptor: int) -> None:
    line = f"pid {os.getpid()}: {shlex.join(sys.argv)}".replace("\n", " ")[:400]
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{line}\n".encode(errors="replace"), 0)
