"""The table of all cases as columns, and the details of each row, in blocks that the page unpacks when needed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from suite.dtypes import SHORT
from suite.reporting.data.frame import TEXT, clean
from suite.reporting.data.reproducing import command, loads
from suite.reporting.renderers.packing import sane, short

if TYPE_CHECKING:
    from suite.reporting.data.frame import Row, Run

# column of a row -> heading
CASES = {
    "operator": "operator",
    "implementation": "implementation",
    "origin": "origin",
    "axes": "axes",
    "pass": "pass",
    "dtype": "dtype",
    "B": "B",
    "T": "T",
    "H": "H",
    "K": "K",
    "V": "V",
    "tunables": "tunables",
    "kind": "kind",
    "mode": "timing",
    "launch": "launch",
    "status": "status",
    "time_ms": "ms",
    "p20_ms": "p20",
    "p80_ms": "p80",
    "memory_mib": "MiB",
    "tflops": "TFLOP/s",
    "gbs": "GB/s",
    "roof_pct": "% of roofline",
    "bound": "bound",
    "profile.dram_bytes": "DRAM counted, bytes",
    "profile.dram_ratio": "counted / compulsory",
    "telemetry.energy_j_token": "J per token",
    "error": "worst error",
    "approximation_error": "approximation error",
    "reason": "reason",
}
COUNTS = {"B", "T", "H", "K", "V", "launch", "profile.dram_bytes"}
# Columns that a reader can filter by a choice of their values.
CHOICES = ("run", "operator", "pass", "dtype", "status")
KEPT = {"operator", "implementation", "pass", "T", "status", "time_ms", "reason"}
BLOCK = 500
# Samples kept in a page, of all records together; a record keeps at least LEAST of its own.
MOST_SAMPLES, LEAST = 400_000, 8


def cases_of(rows: Sequence[Row]) -> list[Row]:
    """The timed and checked rows; the record of each has the `static.*` figures of the same case's profile beside.

    A case that was profiled for several architectures has those of the first.
    """
    profiles: dict[tuple[int, str], dict[str, Any]] = {}
    for row in rows:
        if row["kind"] == "static" and row["case_id"]:
            figures = {name: value for name, value in row["record"].items() if name.startswith("static.")}
            profiles.setdefault((row["run"], row["case_id"]), figures)
    cases = [row for row in rows if row["kind"] != "static"]
    if not profiles:
        return cases
    return [row | {"record": profiles.get((row["run"], row["case_id"]), {}) | row["record"]} for row in cases]


def columns(rows: Sequence[Row], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The columns that some row fills: `{name, label, kind, choose, values}`, texts as `{words, at}`.

    kind: text, count or figure, which tells how a value is written; a missing figure is null
    """
    found = [_text("case", "", [clean(row["case_id"], 400) for row in rows])]
    if len(runs) > 1:
        found.append(_text("run", "run", [clean(runs[row["run"]].name) for row in rows]))
    for name, label in CASES.items():
        values = [row.get(name, math.nan) for row in rows]
        if name in COUNTS or all(isinstance(value, int | float) for value in values):
            each = _figures(name, label, values)
        else:
            each = _text(name, label, [_word(name, value) for value in values])
        if name in KEPT or _filled(each):
            found.append(each)
    return found


def _word(name: str, value: Any) -> str:
    return clean(SHORT.get(value, value) if name == "dtype" else value, TEXT if name == "reason" else 80)


def _figures(name: str, label: str, values: Iterable[Any]) -> dict[str, Any]:
    kept = [float(f"{value:.6g}") if value == value else None for value in values]
    return {"name": name, "label": label, "kind": "count" if name in COUNTS else "figure", "values": kept}


def _text(name: str, label: str, values: Sequence[str]) -> dict[str, Any]:
    words = {word: i for i, word in enumerate(dict.fromkeys(values))}
    at = [words[value] for value in values]
    return {"name": name, "label": label, "kind": "text", "choose": name in CHOICES, "words": list(words), "at": at}


def _filled(column: dict[str, Any]) -> bool:
    if column["kind"] == "text":
        words = set(column["words"])
        # What is the same in all rows and was never chosen tells nothing.
        return bool(words - {""}) and (column["name"] not in ("kind", "origin") or len(words) > 1)
    return any(value is not None for value in column["values"])


def details(rows: Sequence[Row], runs: Sequence[Run]) -> Iterable[dict[str, Any]]:
    """Blocks of BLOCK rows: what a record holds beyond the table, by field, null where a record has none.

    `samples` are thinned evenly where there are many records; `command` is the line that measures the record again
    """
    most = max(LEAST, MOST_SAMPLES // max(1, len(rows)))
    plugins = [loads(run.environment.get("argv")) for run in runs]
    for start in range(0, len(rows), BLOCK):
        part = [_detail(row, plugins[row["run"]], most) for row in rows[start : start + BLOCK]]
        fields = dict.fromkeys(name for each in part for name in each)
        yield {name: [each.get(name) for each in part] for name in fields}


def _detail(row: Row, plugins: Sequence[str], most: int) -> dict[str, Any]:
    record: dict[str, Any] = row["record"]
    kept = {str(name): sane(value) for name, value in record.items() if name not in CASES and not _blank(value)}
    samples = record.get("samples")
    if isinstance(samples, list | tuple) and samples:
        drawn = [short(each, 4) if isinstance(each, float) else each for each in thinned(samples, most)]
        kept |= {"samples": sane(drawn), "samples_taken": len(samples)}
    return kept | {"command": clean(command(row, plugins), 2000)}


def _blank(value: Any) -> bool:
    return isinstance(value, str | list | tuple | dict) and not value


def thinned(values: Sequence[Any], most: int) -> list[Any]:
    """At most `most` of the values, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return list(values)
    step = (len(values) - 1) / (most - 1)
    return [values[round(i * step)] for i in range(most)]
