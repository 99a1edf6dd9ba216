"""Reading what ncu prints: its raw page as CSV, its list of metrics, its messages.

The raw page is one row a kernel launch under a row of names and one of units:

    "ID","Process ID","Process Name","Host Name","Kernel Name",…,"CC","dram__bytes_read.sum",…
    "","","","","",…,"","byte",…
    "0","4242","python3","127.0.0.1","chunk_fwd_kernel",…,"9.0","134,217,728",…

Lines that begin with `==` are messages and may stand anywhere, as may lines that the profiled program prints.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# Units -> what one of them is in bytes, milliseconds, hertz, or plain counts.
_PREFIXES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_TIMES = {
    "nsecond": 1e-6,
    "ns": 1e-6,
    "usecond": 1e-3,
    "us": 1e-3,
    "µs": 1e-3,
    "msecond": 1.0,
    "ms": 1.0,
    "second": 1e3,
    "s": 1e3,
}
_COUNTED = ("byte", "inst", "hz", "Hz", "warp", "cycle", "sector", "request", "op", "thread")
UNITS: Mapping[str, float] = {
    "": 1.0,
    "%": 1.0,
    "inst/warp": 1.0,
    "warp/cycle": 1.0,
    "inst/cycle": 1.0,
    "ratio": 1.0,
    **_TIMES,
    **{prefix + unit: factor for unit in _COUNTED for prefix, factor in _PREFIXES.items()},
}
# What stands in a cell of a metric that could not be collected.
_ABSENT = ("", "n/a", "nan", "(!) n/a", "(!) nan", "no data")
_MESSAGE = re.compile(r"^==(ERROR|WARNING|PROF)==\s*(.*)$")
_METRIC = re.compile(r"^[a-z][a-z0-9]*__\w+")
_UNKNOWN_METRIC = re.compile(r"Failed to find metric (?:regex:\^)?([A-Za-z0-9_]+)")
FIRST, NAME = "ID", "Kernel Name"


@dataclass(frozen=True)
class Launch:
    """One launch: its kernel's name, its metrics in bytes, milliseconds or counts, and why others are absent."""

    name: str
    values: Mapping[str, float]
    absent: Mapping[str, str]


def launches(text: str) -> list[Launch]:
    """The launches of a raw page, in the order they ran; empty when there is no table."""
    rows = list(_table(text))
    if len(rows) < 2:
        return []
    names, units = rows[0], rows[1]
    metrics = [i for i, name in enumerate(names) if "__" in name]
    return [_launch(row, names, units, metrics) for row in rows[2:]]


def _table(text: str) -> Iterator[list[str]]:
    """Rows of the CSV, from its header on; what is no row of it is passed over."""
    width = 0
    for row in csv.reader(text.splitlines()):
        if not width and row[:1] == [FIRST] and NAME in row:
            width = len(row)
        if width and len(row) == width:
            yield row


def _launch(row: list[str], names: list[str], units: list[str], metrics: list[int]) -> Launch:
    values: dict[str, float] = {}
    absent: dict[str, str] = {}
    for i in metrics:
        if row[i].strip().lower() in _ABSENT:
            absent[names[i]] = "not collected"
        elif units[i] not in UNITS:
            absent[names[i]] = f"in a unit that is not known, {units[i]!r}"
        elif (value := _number(row[i])) is None:
            absent[names[i]] = f"no number: {row[i][:40]!r}"
        else:
            values[names[i]] = value * UNITS[units[i]]
    return Launch(row[names.index(NAME)], values, absent)


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def metrics_of(text: str) -> set[str]:
    """Base names that `ncu --query-metrics` lists."""
    return {found[0] for line in text.splitlines() if (found := _METRIC.match(line))}


def messages(text: str, kind: str) -> list[str]:
    """ncu's own lines of a kind: ERROR, WARNING or PROF."""
    found = (_MESSAGE.match(line.strip()) for line in text.splitlines())
    return [each[2] for each in found if each and each[1] == kind]


def unknown_metric(text: str) -> str | None:
    """The metric that ncu says it does not have, or None."""
    found = (_UNKNOWN_METRIC.search(line) for line in messages(text, "ERROR"))
    return next((each[1] for each in found if each), None)
