"""Runs as a report reads them: every column is present, numbers are numbers, names are short enough to print."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from suite.axes import named
from suite.problem import STANDARD
from suite.store.columns import SHOWN

if TYPE_CHECKING:
    from suite.store.paths import AnyPath

NAME, TEXT = 44, 300
LARGEST = 1e300
Row = dict[str, Any]
# What a damaged record has where a text is missing; "" otherwise.
MISSING = {"kind": "timed"}
TEXTS = {name: MISSING.get(name, "") for name, kind in SHOWN.items() if kind == "string"}
FIGURES = tuple(name for name, kind in SHOWN.items() if kind in ("int", "float"))
# Name, value where a record has none, kind and the size it follows, of each standard axis.
_AXES = tuple(
    (name, 0 if axis.kind == "size" and axis.required else axis.default, axis.kind, axis.follows)
    for name, axis in STANDARD.items()
)


@dataclass(frozen=True)
class Run:
    """A stored run: its name, records (columns of docs/records.md), environment, and its records file's hash."""

    name: str
    frame: pd.DataFrame
    environment: Mapping[str, Any]
    digest: str = ""

    def part(self, name: str) -> Mapping[str, Any]:
        """An object of the environment, such as `device` or `ceilings`; empty where it is absent."""
        found = self.environment.get(name)
        return found if isinstance(found, Mapping) else {}

    @property
    def device(self) -> str:
        """The device's name, or "unknown device"."""
        return clean(self.part("device").get("name") or self.part("fingerprint").get("device") or "unknown device")

    @property
    def commit(self) -> str:
        """The commit, twelve digits of it."""
        revision, dash, dirty = str(self.environment.get("commit") or "").partition("-")
        return clean(revision[:12] + dash + dirty)

    @property
    def no_commit(self) -> str:
        """ "no commit", with the reason where the run knows it."""
        why = str(self.environment.get("no_commit") or "")
        return clean(f"no commit: {why}" if why else "no commit", TEXT)

    @property
    def date(self) -> str:
        """The day on which the run was made, ISO 8601."""
        return clean(str(self.environment.get("created") or "")[:10])


def read(paths: Sequence[AnyPath]) -> list[Run]:
    """The stored runs at these paths; two folders of one name get their parent's name too. Raises StoreError."""
    from suite.store import load, read_environment

    folders = [Path(path) for path in paths]
    names = [folder.resolve().name for folder in folders]
    runs = []
    for folder, name in zip(folders, names, strict=True):
        label = name if names.count(name) == 1 else f"{folder.resolve().parent.name}/{name}"
        frame, environment = load(folder), read_environment(folder)
        runs.append(Run(label, frame, environment, _digest(folder / "records.jsonl")))
    return runs


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


def clean(value: object, limit: int = NAME) -> str:
    """One printable line of at most `limit` characters; the middle of a longer one is left out."""
    text = str(value)[: 4 * limit]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " for c in text)
    text = text.strip()
    if len(text) <= limit:
        return text
    return f"{text[: limit - limit // 3 - 1]}…{text[-(limit // 3) :]}"


def normalise(runs: Sequence[Run]) -> list[Row]:
    """All records as plain rows: every column of TEXTS and FIGURES, the groups `static.*` and `profile.*`, and:

    the standard axes, sizes as Problem defaults them and 0 where a record has none;
    run: the run's index; name: operator/implementation; tunables: `chunk 64`; axes: own axes off their default;
    variant: what sets a line apart from others of its implementation; linear, quadratic: by tags; machine: the device's
    name; settings: tunables by name; error: the worst of `check`; record: the record as it was read.
    """
    rows: list[Row] = []
    for i, run in enumerate(runs):
        for row in map(_normalise, _records(run.frame)):
            variant = [row["axes"], clean(run.name) if len(runs) > 1 else ""]
            name = f"{row['operator']}/{row['implementation']}"
            own = {"run": i, "machine": run.device, "name": name}
            rows.append(row | own | {"variant": " · ".join(part for part in variant if part)})
    return rows


def _records(frame: pd.DataFrame) -> list[Row]:
    """A frame's rows as dicts of plain Python values, without those that are missing."""
    columns = {str(name): frame[name].astype(object).tolist() for name in frame.columns}
    rows = zip(*columns.values(), strict=True)
    return [{name: v for name, v in zip(columns, row, strict=True) if not _missing(v)} for row in rows]


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def _normalise(record: Row) -> Row:
    row: Row = {name: value for name, value in record.items() if name.startswith(("static.", "profile."))}
    row |= {name: str(record.get(name, default)) for name, default in TEXTS.items()}
    row |= {name: _number(record.get(name)) for name in FIGURES}
    row["launch"] = 0 if math.isnan(row["launch"]) else int(row["launch"])
    for name, absent, kind, follows in _AXES:
        value = record.get(name, absent)
        if kind == "size":
            # A size that is no number is 0.
            size = value if type(value) is int else _number(value)
            row[name] = int(size) if size == size else 0
        else:
            row[name] = value is True if kind == "flag" else str(value)
        if follows and not row[name]:
            row[name] = row[follows]
    tags = record.get("tags")
    words = tags if isinstance(tags, list | tuple) else ()
    tunables = _named(record, "tunable.")
    return row | {
        "record": record,
        "error": _worst(record.get("check")),
        "linear": "linear" in words,
        "quadratic": "quadratic" in words,
        "settings": tuple(tunables),
        "tunables": clean(", ".join(f"{name} {value}" for name, value in tunables)),
        "axes": clean(", ".join(_off_default(record, row))),
    }


def _worst(check: Any) -> float:
    """The largest error of a check's outputs and gradients; NaN where there is none."""
    values = check.values() if isinstance(check, dict) else ()
    return max((error for value in values if (error := _number(value)) == error), default=math.nan)


def _number(value: Any) -> float:
    """A finite number as a float, NaN for anything else."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST
    return float(value) if known else math.nan


def _named(record: Row, group: str) -> list[tuple[str, Any]]:
    """Fields of a group such as `tunable.`; an integer that a column with gaps made a float is an integer again."""
    return [
        (name[len(group) :], int(value) if isinstance(value, float) and value.is_integer() else value)
        for name, value in record.items()
        if name.startswith(group)
    ]


def _off_default(record: Row, row: Row) -> list[str]:
    """Own axes as ids write them: what a problem's id has behind the standard axes. A default is left out there."""
    given = _named(record, "axis.")
    if not given:
        return []
    axes = {name: row[name] for name in STANDARD}
    standard = "_".join(text for name, axis in STANDARD.items() if (text := axis.token(axes[name], axes)))
    own = row["problem_id"].removeprefix(f"{row['operator']}/{standard}") + "_"
    return [token for name, value in given if f"_{(token := named(name, value))}_" in own]


def by(rows: Iterable[Row], *columns: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by their values in some columns, in the order of first appearance."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[column] for column in columns), []).append(row)
    return found
