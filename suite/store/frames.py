"""A run as a pandas DataFrame."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from suite.store.reading import Record, read_records
from suite.store.schema import Key

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from suite.store.paths import AnyPath

_NULLABLE = {bool: "boolean", int: "Int64"}


def load(run: AnyPath) -> pd.DataFrame:
    """A run's records, one row each, one column a field; the key's columns first. StoreError as in `read_records`."""
    if not isinstance(run, str | PathLike):
        raise TypeError(f"load(run): run must be the path of a run's folder, got {type(run).__name__}")
    return frame_of(read_records(run))


def frame_of(records: Sequence[Record]) -> pd.DataFrame:
    """Records as a frame: integers and booleans stay what they are in columns that not every record has."""
    import pandas as pd

    names = dict.fromkeys([*Key._fields, *(name for record in records for name in record)])
    return pd.DataFrame({name: _column([record.get(name) for record in records]) for name in names})


def _column(values: list[Any]) -> pd.Series:
    import pandas as pd

    kinds = {type(value) for value in values}
    held = kinds - {type(None)}
    if len(kinds) == 2 and len(held) == 1 and (dtype := _NULLABLE.get(next(iter(held)))):
        return pd.Series(values, dtype=dtype)
    if held <= {int, float, bool, str} and len(held) <= 1:
        return pd.Series(values)
    if held == {int, float}:
        return pd.Series(values, dtype="float64")
    return pd.Series(values, dtype="object")
