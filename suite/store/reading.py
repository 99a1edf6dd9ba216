"""Reading a run: every intact row, and file and line of what is not.

Example::

    records = read_records("results/local/latest")
    records, errors = read_records("results/local/latest", strict=False)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from suite.errors import StoreError
from suite.store.encoding import decode
from suite.store.paths import ENVIRONMENT, RECORDS, AnyPath, run_folder, unreadable
from suite.store.schema import Key, fault, record_key, version_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Record = dict[str, Any]


@overload
def read_records(run: AnyPath, *, strict: Literal[True] = True) -> list[Record]: ...
@overload
def read_records(run: AnyPath, *, strict: Literal[False]) -> tuple[list[Record], list[StoreError]]: ...
def read_records(run: AnyPath, *, strict: bool = True) -> list[Record] | tuple[list[Record], list[StoreError]]:
    """The records of a run in the order they were written, one a key: the last one.

    strict: raise StoreError for the first line that is wrong, with file and line; otherwise return every intact row
            and the errors beside
    A torn last line, which a killed sweep leaves, is no error: it was never announced.
    """
    path = run_folder(run) / RECORDS
    rows: list[Record] = []
    errors: list[StoreError] = []
    for row in scan(path):
        if not isinstance(row, StoreError):
            rows.append(row)
        elif strict:
            raise row
        else:
            errors.append(row)
    records = latest(rows)
    return records if strict else (records, errors)


def scan(path: Path) -> Iterator[Record | StoreError]:
    """Each line of a results file as its record, or as the error that it is, named by file and line."""
    for number, line, complete in _lines(path):
        try:
            row = decode(line)
            wrong = fault(row)
        except ValueError as error:
            row, wrong = {}, f"is not JSON ({error})"
        if wrong is None:
            yield row
        elif complete:
            yield StoreError(f"{path}:{number}: the line {wrong}; restore or delete it")


def _lines(path: Path) -> Iterator[tuple[int, bytes, bool]]:
    """Number, bytes and completeness of each line that is not blank."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line, line.endswith(b"\n")
    except OSError as error:
        raise unreadable(path, error) from error


def latest(rows: Iterable[Record]) -> list[Record]:
    """One record a key, the last; each where its key first stood."""
    return list({record_key(row): row for row in rows}.values())


def done_keys(run: AnyPath) -> set[Key]:
    """Keys of the records that a run already has, whatever their status: what `--resume` need not measure again."""
    return {record_key(record) for record in read_records(run)}


def read_environment(run: AnyPath) -> dict[str, Any]:
    """A run's environment.json; StoreError when it is damaged or of a newer major schema."""
    path = run_folder(run) / ENVIRONMENT
    try:
        environment = decode(path.read_bytes())
    except OSError as error:
        raise unreadable(path, error) from error
    except ValueError as error:
        raise StoreError(f"{path} is not JSON ({error}); restore it, or measure again") from error
    if not isinstance(environment, dict):
        raise StoreError(f"{path} is no JSON object; restore it, or measure again")
    if wrong := version_fault(environment.get("schema")) or _fingerprint_fault(environment):
        raise StoreError(f"{path} {wrong}")
    return environment


def _fingerprint_fault(environment: dict[str, Any]) -> str | None:
    fits = isinstance(environment.get("fingerprint"), dict)
    return None if fits else "has no object 'fingerprint'; restore it, or measure again"
