"""The page's tables that are written out: static profile, ceilings beside the datasheet, environment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.dtypes import SHORT
from suite.reporting.charts.scales import figure, size
from suite.reporting.data.frame import TEXT, Row, Run, clean


@dataclass(frozen=True)
class Cell:
    """A cell's text, the value it sorts by, and the longer text that it stands for."""

    text: str
    value: float | str
    title: str = ""


@dataclass(frozen=True)
class Table:
    """Column names and rows; `numeric` tells which columns align right."""

    columns: tuple[str, ...]
    numeric: tuple[bool, ...]
    rows: tuple[tuple[Cell, ...], ...]


COUNTS = (
    "T",
    "K",
    "V",
    "static.launches",
    "static.registers",
    "static.spill_bytes",
    "static.shared_bytes",
    "static.dots",
    "static.dots_replicated",
)
STATIC = {
    "static.arch": "arch",
    "name": "case",
    "pass": "pass",
    "dtype": "dtype",
    "T": "T",
    "K": "K",
    "V": "V",
    "tunables": "tunables",
    "status": "status",
    "static.launches": "launches",
    "static.registers": "registers",
    "static.spill_bytes": "spills, bytes",
    "static.shared_bytes": "shared, bytes",
    "static.occupancy": "occupancy",
    "static.hgmma": "HGMMA",
    "static.hmma": "HMMA",
    "static.dots": "dots",
    "static.dots_replicated": "replicated dots",
    "static.dots_ratio": "dots, executed / needed",
    "static.traffic_bytes": "traffic, bytes",
    "static.traffic_ratio": "traffic / compulsory",
    "static.kept_bytes": "kept for backward, bytes",
    "static.intermediate_bytes": "intermediates, bytes",
    "static.io_bound_bytes": "I/O lower bound, bytes",
    "static.predicted_ms": "predicted, ms",
    "static.predicted_low_ms": "at least, ms",
    "static.predicted_high_ms": "at most, ms",
    "static.predicted_bound": "predicted bound",
    "static.predicted_reason": "not predicted",
    "static.floor_ms": "floor, ms",
    "static.floor_memory_ms": "memory, ms",
    "static.floor_compute_ms": "compute, ms",
    "static.floor_special_ms": "special functions, ms",
    "static.floor_bound": "floor bound",
    "static.floor_gpu": "floor of GPU",
    "static.floor_source": "ceilings from",
    "static.hash": "binary",
    "reason": "reason",
}


def static(rows: Sequence[Row]) -> Table:
    """The static profile, by architecture; empty where there is none."""
    found = [_static_row(row) for row in rows if row["kind"] == "static"]
    shown = sorted(found, key=_static_order)
    return table(shown, STATIC, keep=("name", "status"))


def _static_row(row: Row) -> Row:
    dtype = SHORT.get(row["dtype"], row["dtype"])
    return row | {"dtype": dtype, "static.hash": str(row.get("static.hash") or "")[:12]}


def _static_order(row: Row) -> tuple[str, str, str, int]:
    return str(row["static.arch"]), row["name"], row["pass"], row["T"]


def table(rows: Sequence[Row], columns: Mapping[str, str], keep: Sequence[str]) -> Table:
    """Rows under their columns; those that nothing fills are left out, but for the ones to keep."""
    cells = {name: [_cell(name, row.get(name)) for row in rows] for name in columns}
    filled = [name for name in columns if name in keep or any(cell.text for cell in cells[name])]
    numeric = tuple(any(isinstance(cell.value, float) for cell in cells[name]) for name in filled)
    lines = tuple(zip(*(cells[name] for name in filled), strict=True))
    return Table(tuple(columns[name] for name in filled), numeric, lines)


def _cell(name: str, value: Any) -> Cell:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return Cell("", "")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return Cell(f"{value:,.0f}" if name in COUNTS else _measured(value), float(value))
    text = clean(value, 160 if name == "reason" else 48)
    full = clean(value, TEXT * 4)
    return Cell(text, text, full if full != text else "")


def _measured(value: float) -> str:
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else figure(value)


def ceilings(run: Run) -> list[tuple[str, str, str]]:
    """(what, measured here, datasheet) of every ceiling that the run has; an earlier one may lack some."""
    found, sheet = run.part("ceilings"), run.part("datasheet")
    sheet_gbs, sheet_tflops = sheet.get("gbs"), sheet.get("tflops") or {}
    copies = [each for each in found.get("copy") or () if isinstance(each, Mapping)]
    rows = []
    for each in copies:
        largest = each is copies[-1]
        what = f"copy of {size(float(each.get('bytes') or 0))}"
        rows.append((what, _span(each, "gbs", "GB/s"), _sheet(sheet_gbs if largest else None, "GB/s")))
    if read := _mapping(found.get("read")):
        what = f"reads of {size(float(read.get('bytes') or 0))}"
        rows.append((what, _span(read, "gbs", "GB/s"), _sheet(sheet_gbs, "GB/s")))
    matmul = found.get("matmul") or {}
    for dtype in dict.fromkeys((*matmul, *sheet_tflops)):
        measured = _span(matmul.get(dtype) or {}, "tflops", "TFLOP/s")
        rows.append((f"matrix product, {clean(dtype)}", measured, _sheet(sheet_tflops.get(dtype), "TFLOP/s")))
    gops = _sheet(sheet.get("special_gops"), "10^9/s")
    return rows + [
        (what, _span(each, name, unit), gops if name == "gops" else "–") for what, each, name, unit in _others(found)
    ]


def _others(found: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any], str, str]]:
    """(what, ceiling, its field, unit) of those beside copy and matrix product."""
    l2, special, launch = (_mapping(found.get(name)) for name in ("l2", "special", "launch"))
    rows = [(f"reads of {size(float(l2.get('bytes') or 0))} in the last-level cache", l2, "gbs", "GB/s")] if l2 else []
    rows += [(f"special function, {clean(special.get('function'))}", special, "gops", "10^9/s")] if special else []
    return rows + [(f"launch, {clean(how)}", _mapping(each), "us", "us") for how, each in launch.items()]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _span(each: Mapping[str, Any], name: str, unit: str) -> str:
    if not each.get(name):
        return "not measured"
    low, high = each.get("low"), each.get("high")
    spread = f" ({figure(low)} to {figure(high)})" if low and high else ""
    return f"{figure(each[name])} {unit}{spread}"


def _sheet(value: Any, unit: str) -> str:
    return f"{figure(float(value))} {unit}" if value else "–"


def environment(run: Run) -> list[tuple[str, str]]:
    """The environment as (name, value), nested objects flattened; ceilings and datasheet have their own table."""
    shown = {key: value for key, value in run.environment.items() if key not in ("ceilings", "datasheet", "absent")}
    rows = [(clean(key), clean(value, TEXT)) for key, value in _flat(shown)]
    absent = [each for each in run.environment.get("absent") or () if isinstance(each, Mapping)]
    return rows + [(f"absent: {clean(each.get('module'))}", clean(each.get("reason"), TEXT)) for each in absent]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list | tuple):
            found.append((f"{prefix}{key}", " ".join(str(each) for each in value)))
        elif value not in (None, ""):
            found.append((f"{prefix}{key}", value))
    return found
