"""Reading a run: every intact row, or the file and line of a damaged one.

Example::

    records = read_records("results/local/latest")
    records, errors = read_records("results/local/latest", strict=False)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

from suite.errors import StoreError
from suite.store import rules
from suite.store.encoding import CRC, begins, decode, seal_of
from suite.store.environments import ENVIRONMENT as ENVIRONMENT_RULES
from suite.store.environments import environment_fault
from suite.store.paths import ENVIRONMENT, RECORDS, AnyPath, run_folder, unreadable
from suite.store.schema import SEALED, Key, fault, is_newer, record_key, upgraded, version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

Record = dict[str, Any]
CONVERTED = "ends in CR: another program converted the file; make each CR an LF again, as `tr '\\r' '\\n'` does"
CHANGED = "was changed after it was written: its checksum does not fit"
MEND_LINE = "restore it from a copy, or delete the line and measure that case again with --resume"
MEND_FILE = "restore it from a copy, or measure again"
UPGRADE = "upgrade subquad to read it"


@overload
def read_records(run: AnyPath, *, strict: Literal[True] = True) -> list[Record]: ...
@overload
def read_records(run: AnyPath, *, strict: Literal[False]) -> tuple[list[Record], list[StoreError]]: ...
def read_records(run: AnyPath, *, strict: bool = True) -> list[Record] | tuple[list[Record], list[StoreError]]:
    """The records of a run in the order they were written, one per key: the last one.

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
        row, wrong = opened(line, fault)
        if wrong is None:
            yield upgraded(row)
        elif b"}\r" in line.strip():
            yield StoreError(f"{path}:{number}: the line {CONVERTED}")
        elif complete or not begins(line):
            yield StoreError(f"{path}:{number}: the line {remedied(row, wrong, MEND_LINE)}")


def opened(line: bytes, faults: Callable[[Any], str | None]) -> tuple[Record, str | None]:
    """The object that a stored line holds, without its checksum, and what is wrong with it.

    faults: what is wrong with the parsed object, by its schema
    """
    text = line.strip()
    seal = seal_of(text)
    if seal is False:
        return {}, CHANGED
    try:
        row = decode(text)
    except ValueError as error:
        return {}, f"is not JSON ({error})"
    if type(row) is dict and seal is None and _lacks_seal(row):
        return {}, f"has no checksum at its end, which schema {row['schema']} has: it was changed after it was written"
    wrong = faults(row)
    if wrong is None:
        row.pop(CRC, None)
    return row, wrong


def _lacks_seal(row: Record) -> bool:
    version = version_of(row.get("schema"))
    return version is not None and not is_newer(row["schema"]) and (CRC in row or version >= SEALED)


def remedied(row: Any, wrong: str, mend: str) -> str:
    """What is wrong, and what to do about it; what a later version wrote is good data, which stays."""
    newer = type(row) is dict and is_newer(row.get("schema"))
    return f"{wrong}; {UPGRADE if newer else mend}"


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
    """One record per key, the last; each where its key first stood."""
    return list({record_key(row): row for row in rows}.values())


def done_keys(run: AnyPath) -> set[Key]:
    """Keys of the records that a run already has, whatever their status: what `--resume` need not measure again."""
    return {record_key(record) for record in read_records(run)}


def read_environment(run: AnyPath) -> dict[str, Any]:
    """A run's environment.json; StoreError when it is damaged or of a newer major schema."""
    return read_environment_file(run_folder(run) / ENVIRONMENT)


def read_environment_file(path: Path) -> dict[str, Any]:
    """The environment.json at a path, whether records lie beside it or not. StoreError as of `read_environment`."""
    return rules.without_nulls(ENVIRONMENT_RULES, read_document(path, environment_fault, MEND_FILE))


def read_document(path: Path, faults: Callable[[Any], str | None], mend: str) -> dict[str, Any]:
    """A sealed file of one JSON object. StoreError, which ends with `mend`, when it is damaged or cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    values, wrong = opened(data, faults)
    if wrong is not None:
        raise StoreError(f"{path} {remedied(values, wrong, mend)}")
    return values
