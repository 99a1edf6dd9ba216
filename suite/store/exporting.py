"""A run's records as CSV, Parquet or one JSON array, or in the format of pytest-benchmark."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from suite.errors import UsageError
from suite.requirement import Requirement
from suite.store.frames import frame_of
from suite.store.paths import AnyPath, run_folder, unwritable
from suite.store.reading import Record, read_environment, read_records
from suite.store.text import in_spreadsheet

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Format = Literal["csv", "parquet", "json", "pytest-benchmark"]
NEEDS = {
    "parquet": Requirement("pyarrow", "pyarrow", ">=15"),
    "pytest-benchmark": Requirement("pytest_benchmark", "pytest-benchmark", ">=5.0"),
}


def export(run: AnyPath, to: Format, out: Path | None = None) -> Path:
    """Write a run's records and return the file's path.

    out: where to write; `records.<format>` in the run's folder by default, `benchmark.json` for pytest-benchmark
    Lists and objects become JSON strings in CSV and Parquet; text that a spreadsheet would take for a formula gets an
    apostrophe before it in CSV. Raises StoreError when the run cannot be read or the file
    not written, UsageError when a format needs a library that is not installed.
    """
    if to in NEEDS and (lacking := NEEDS[to].missing()):
        raise UsageError(f"--to {to}: {lacking}")
    target = out or run_folder(run) / ("benchmark.json" if to == "pytest-benchmark" else f"records.{to}")
    if to == "pytest-benchmark":
        from suite.store.benchmarks import benchmarks_of

        return _written(target, lambda draft: _dump(benchmarks_of(read_environment(run), read_records(run)), draft))
    records = read_records(run)
    return _written(target, lambda draft: _write(records, to, draft))


def _written(target: Path, write: Callable[[Path], None]) -> Path:
    """The target, written as a draft first, so that a failure leaves what was there."""
    draft = target.with_name(f".{target.name}.new")
    try:
        write(draft)
        draft.replace(target)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise unwritable(target, error) from error
    return target


def _write(records: Sequence[Record], to: Format, path: Path) -> None:
    if to == "json":
        _dump(records, path)
        return
    if to == "csv":
        safe = [{in_spreadsheet(name): _cell(value) for name, value in record.items()} for record in records]
        frame_of([flat(record) for record in _uniform(safe)]).to_csv(path, index=False)
    else:
        frame_of([flat(record) for record in _uniform(records)]).to_parquet(path, index=False)


def _cell(value: Any) -> Any:
    """The value for a spreadsheet: text is no formula, and a number stays one, whatever else its column holds."""
    return in_spreadsheet(value) if isinstance(value, str) else value


def _dump(data: Any, path: Path) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, allow_nan=False, indent=1) + "\n", encoding="utf-8")


def flat(record: Record) -> Record:
    """The record with lists and objects as JSON strings."""
    return {name: _text(value) if isinstance(value, list | dict) else value for name, value in record.items()}


def _uniform(records: Sequence[Record]) -> list[Record]:
    """Records whose columns of several types, such as an axis that is a number or a word, are text."""
    kinds: dict[str, set[type]] = {}
    for record in records:
        for name, value in record.items():
            if value is not None:
                kinds.setdefault(name, set()).add(type(value))
    mixed = {name for name, held in kinds.items() if len(held) > 1 and held != {int, float}}
    return [{name: _text(value) if name in mixed else value for name, value in record.items()} for record in records]


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)
