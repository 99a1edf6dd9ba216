"""Writing a run: an environment written once, and records appended one write each.

Example::

    with create("results/local/tonight", environment) as writer:
        writer.append(record)
"""

from __future__ import annotations

import fcntl
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.errors import StoreError
from suite.store.encoding import begins, plain, sealed
from suite.store.environments import environment_fault
from suite.store.paths import ENVIRONMENT, LOCK, RECORDS, AnyPath, run_folder, unwritable
from suite.store.reading import MEND_LINE, opened, read_environment
from suite.store.schema import SCHEMA, fault

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

_BLOCK = 65536


class Writer:
    """The one writer of a run. A record that `append` returned from survives the death of this process.

    Made by `create` and `open_for_append`. Holds a lock on the run until it is closed or the process ends.
    """

    def __init__(self, folder: Path, lock: int) -> None:
        self.folder = folder
        self.path = folder / RECORDS
        self._lock = lock
        self._file = -1
        _open.add(self)

    def append(self, record: Mapping[str, Any]) -> None:
        """Store a record by a single write. Its schema is this writer's; NaN and infinities become null.

        Raises StoreError, and leaves the file as it was, when the record does not fit the schema or the disk does not
        take it.
        """
        row = plain({"schema": SCHEMA, **record}, "record")
        if wrong := fault(row):
            raise StoreError(f"the record of {row.get('case_id')} {wrong}; nothing was written to {self.path}")
        line = sealed(row | {"schema": SCHEMA})
        if self._file < 0:
            raise StoreError(f"{self.path} is closed; open it again with --resume")
        size = os.fstat(self._file).st_size
        try:
            written = os.write(self._file, line)
        except OSError as error:
            self._cut(size)
            raise StoreError(f"cannot append to {self.path}: {error.strerror}; disk full?") from error
        if written != len(line):
            self._cut(size)
            raise StoreError(f"cannot append to {self.path}: {written} of {len(line)} bytes were taken; disk full?")

    def close(self) -> None:
        """Release the run. Closing twice is harmless."""
        _open.discard(self)
        for descriptor in (self._file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._lock = -1

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _cut(self, size: int) -> None:
        """Take a half-written record away. Where even that fails, close: a next record would be glued to the half."""
        try:
            if os.fstat(self._file).st_size != size:
                os.ftruncate(self._file, size)
        except OSError:
            self.close()

    def _start(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        try:
            self._file = os.open(self.path, flags, 0o666)
            self._mend()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def _mend(self) -> None:
        """Remove a torn last line; a whole one that lacks only its newline gets it. StoreError for anything else."""
        end = os.fstat(self._file).st_size
        tail = b""
        while end > 0 and b"\n" not in tail:
            start = max(0, end - _BLOCK)
            tail = os.pread(self._file, end - start, start) + tail
            end = start
        torn = tail[tail.rfind(b"\n") + 1 :]
        if not torn:
            return
        if opened(torn, fault)[1] is None:
            os.write(self._file, b"\n")
        elif begins(torn):
            os.ftruncate(self._file, os.fstat(self._file).st_size - len(torn))
        else:
            raise StoreError(f"{self.path} ends in a line that was changed after it was written; {MEND_LINE}")


def create(path: AnyPath, environment: Mapping[str, Any]) -> Writer:
    """Start a run in a new or empty folder; StoreError when one is there already or the folder can not be written."""
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    writer = Writer(folder, _locked(folder))
    try:
        if (folder / ENVIRONMENT).exists() or _size(folder / RECORDS):
            raise StoreError(f"{folder} already holds a run; continue it with --resume, or choose another --out")
        # The environment comes last: a folder that has it is a run, whenever this process is killed.
        writer._start()
        write_environment(folder, environment)
    except BaseException:
        writer.close()
        raise
    return writer


def open_for_append(path: AnyPath) -> Writer:
    """Continue a run: a torn last line is removed, everything else stays; StoreError when it is no run or in use."""
    folder = run_folder(path)
    read_environment(folder)
    writer = Writer(folder, _locked(folder))
    try:
        writer._start()
    except BaseException:
        writer.close()
        raise
    return writer


def write_environment(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write environment.json so that it is there whole or not at all. Its schema is this writer's.

    Raises StoreError, and leaves what was there, when it does not fit the schema or can not be written.
    """
    values = plain({"schema": SCHEMA, **environment}, ENVIRONMENT)
    target, draft = folder / ENVIRONMENT, folder / f".{ENVIRONMENT}.new"
    if wrong := environment_fault(values):
        raise StoreError(f"the environment {wrong}; nothing was written to {target}")
    try:
        with draft.open("wb") as file:
            file.write(sealed(values | {"schema": SCHEMA}))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error


def _locked(folder: Path) -> int:
    path = folder / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StoreError(f"{folder} is being written by another process; wait, or choose another --out") from error
    except OSError as error:
        os.close(descriptor)
        raise StoreError(f"cannot lock {path}: {error.strerror}; choose a local disk with --out") from error
    return descriptor


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


_open: weakref.WeakSet[Writer] = weakref.WeakSet()


def _let_go() -> None:
    # A forked child shares the lock's description: it would hold the run after its parent's death.
    for writer in list(_open):
        writer.close()


os.register_at_fork(after_in_child=_let_go)
