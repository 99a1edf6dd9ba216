"""Writing a run: an environment written once, and records appended one write each.

Example::

    with create("results/local/tonight", environment) as writer:
        writer.append(record)
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.errors import StoreError
from suite.store.columns import SCHEMA
from suite.store.encoding import begins, plain, sealed
from suite.store.environments import environment_fault
from suite.store.paths import ENVIRONMENT, LOCK, PLAN, RECORDS, AnyPath, run_folder, unwritable
from suite.store.reading import MEND_LINE, opened, read_environment
from suite.store.schema import fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_BLOCK = 65536


class Writer:
    """The one writer of a run. A record that `append` returned from survives the death of this process.

    Made by `reserve` and `hold`, which only take the run, and by `create` and `open_for_append`, which start it too.
    Holds a lock on the run until it is closed or the process ends. What `reserve` made and nothing was begun in is
    removed when it is closed.

    made: folders that `reserve` made, the run's own first
    """

    def __init__(self, folder: Path, lock: int, made: Sequence[Path] = ()) -> None:
        self.folder = folder
        self.path = folder / RECORDS
        self._lock = lock
        self._file = -1
        self._made = list(made)
        _open.add(self)

    def begin(self, environment: Mapping[str, Any], plan: Mapping[str, Any] | None = None) -> None:
        """Write the files of a new run. The environment comes last: a folder that has it is a run, whenever this
        process is killed."""
        self._made = []
        self._start()
        if plan is not None:
            _write_document(self.folder, PLAN, plan)
        write_environment(self.folder, environment)

    def go_on(self) -> None:
        """Continue a run: a torn last line is removed, everything else stays."""
        self._start()

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
        if self._made and self._lock >= 0:
            (self.folder / LOCK).unlink(missing_ok=True)
            for folder in self._made:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        self.release()

    def release(self) -> None:
        """Let go of the files, and change none."""
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
    """Start a run in a new or empty folder; StoreError when one is there already or the folder cannot be written."""
    writer = reserve(path)
    try:
        writer.begin(environment)
    except BaseException:
        writer.close()
        raise
    return writer


def reserve(path: AnyPath) -> Writer:
    """Take a new or empty folder for a run; StoreError when a run is there already, or it cannot be written."""
    folder = Path(path)
    made = list(itertools.takewhile(lambda each: not each.exists(), (folder, *folder.parents)))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    return _empty(Writer(folder, _locked(folder), made))


def reserve_fresh(path: AnyPath) -> Writer:
    """Take a folder of this name that nobody has, or with the first number behind it that is free: `name-2`."""
    folder = fresh_folder(path)
    return _empty(Writer(folder, _locked(folder), [folder]))


def fresh_folder(path: AnyPath) -> Path:
    """Make a folder of this name, or of `name-2`, `name-3` where others were quicker. StoreError when it cannot be."""
    wanted = Path(path)
    try:
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in itertools.count(1):
            folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            with contextlib.suppress(FileExistsError):
                folder.mkdir()
                return folder
    except OSError as error:
        raise unwritable(wanted, error) from error
    raise AssertionError("numbers do not end")


def _empty(writer: Writer) -> Writer:
    folder = writer.folder
    if (folder / ENVIRONMENT).exists() or _size(folder / RECORDS):
        writer.release()
        raise StoreError(f"{folder} already holds a run; continue it with --resume, or choose another --out")
    return writer


def hold(path: AnyPath) -> Writer:
    """Take a run that is there, and change nothing yet; StoreError when it is not a run or in use."""
    folder = run_folder(path)
    read_environment(folder)
    return Writer(folder, _locked(folder))


def open_for_append(path: AnyPath) -> Writer:
    """Continue a run: a torn last line is removed, everything else stays; StoreError when it is not a run or in use."""
    writer = hold(path)
    try:
        writer.go_on()
    except BaseException:
        writer.close()
        raise
    return writer


def write_environment(folder: Path, environment: Mapping[str, Any]) -> None:
    """Write environment.json so that it is there whole or not at all. Its schema is this writer's.

    Raises StoreError, and leaves what was there, when it does not fit the schema or cannot be written.
    """
    if wrong := environment_fault(plain({"schema": SCHEMA, **environment}, ENVIRONMENT)):
        raise StoreError(f"the environment {wrong}; nothing was written to {folder / ENVIRONMENT}")
    _write_document(folder, ENVIRONMENT, environment)


def _write_document(folder: Path, name: str, content: Mapping[str, Any]) -> None:
    values = plain({"schema": SCHEMA, **content}, name)
    target, draft = folder / name, folder / f".{name}.new"
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
        writer.release()


os.register_at_fork(after_in_child=_let_go)
