"""Roofs: the ceilings of a device for one dtype, and the line segments that draw them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from suite.reporting.charts.model import Axis, Ceiling, CeilingKind
from suite.reporting.charts.scales import LINE, figure, size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.reporting.data.frame import Run

# The copy ceiling of a cache is drawn when it exceeds main memory's by this factor.
CACHE_MATTERS = 1.2


@dataclass(frozen=True)
class Roof:
    """What bounds a run of one dtype: bandwidth and matrix throughput, 0 where one is not known, and their labels."""

    kind: CeilingKind
    gbs: float
    slope: str
    tflops: float
    flat: str


def roofs_of(run: Run, dtype: str) -> list[Roof]:
    """The roof of main memory, that of a cache where it matters, and the datasheet's."""
    ceilings, sheet = run.part("ceilings"), run.part("datasheet")
    matmul = _number(ceilings.get("matmul"), dtype, "tflops")
    flat = f"matrix product: {figure(matmul)} TFLOP/s"
    found = [Roof("measured", gbs, slope, matmul, flat) for gbs, slope in _memories(ceilings)]
    if matmul and not found:
        found = [Roof("measured", 0.0, "", matmul, flat)]
    gbs, tflops, clock = _number(sheet, "gbs"), _number(sheet, "tflops", dtype), _number(sheet, "clock_mhz")
    if gbs or tflops:
        dense = f"datasheet: {figure(tflops)} TFLOP/s, dense{f', {clock:,.0f} MHz' if clock else ''}"
        found.append(Roof("datasheet", gbs, f"datasheet: {figure(gbs)} GB/s", tflops, dense))
    return found


def _number(tree: Any, *keys: str) -> float:
    """The number at the end of a path of keys, 0 where a key or the number is absent."""
    for key in keys:
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return float(tree) if isinstance(tree, int | float) and tree > 0 else 0.0


def _memories(ceilings: Mapping[str, Any]) -> list[tuple[float, str]]:
    """The memory ceiling, of the largest copy or a faster read; then the fastest copy where a cache makes it matter."""
    pairs = [(_number(each, "bytes"), _number(each, "gbs")) for each in ceilings.get("copy") or ()]
    known = sorted(pair for pair in pairs if all(pair))
    if not known:
        return []
    (moved, gbs), (cached, cache_gbs) = known[-1], max(known, key=lambda each: each[1])
    read_gbs = _number(ceilings.get("read"), "gbs")
    memory = (gbs, f"copy of {size(moved)}: {figure(gbs)} GB/s")
    if read_gbs > gbs:
        memory = (read_gbs, f"reads of {size(_number(ceilings.get('read'), 'bytes'))}: {figure(read_gbs)} GB/s")
    if cache_gbs <= CACHE_MATTERS * memory[0]:
        return [memory]
    return [memory, (cache_gbs, f"copy of {size(cached)}: {figure(cache_gbs)} GB/s")]


def segments(roofs: Sequence[Roof], x: Axis, y: Axis, run: str) -> list[Ceiling]:
    """Slopes up to their ridge, one flat part a kind; a datasheet's labels lie above, measured ones then below."""
    suffix = f" ({run})" if run else ""
    has_sheet = any(roof.kind == "datasheet" for roof in roofs)
    found = []
    for roof in roofs:
        above = roof.kind == "datasheet" or not has_sheet
        if not roof.gbs:
            continue
        start, end = max(x.low, y.low / roof.gbs * 1000), min(x.high, (roof.tflops or y.high) / roof.gbs * 1000)
        if start < end:
            ends = (start * roof.gbs / 1000, end * roof.gbs / 1000)
            found.append(Ceiling(roof.slope + suffix, (start, end), ends, roof.kind, above))
    for kind in dict.fromkeys(roof.kind for roof in roofs if roof.tflops):
        # Under the fastest bandwidth of its kind the flat part begins first.
        roof = max((roof for roof in roofs if roof.kind == kind), key=lambda roof: roof.gbs)
        start = min(max(roof.tflops / roof.gbs * 1000 if roof.gbs else x.low, x.low), x.high)
        above = roof.kind == "datasheet" or not has_sheet
        ends = (roof.tflops, roof.tflops)
        found.append(Ceiling(roof.flat + suffix, (start, x.high), ends, roof.kind, above, at_end=True))
    return found


def covered(ceilings: Sequence[Ceiling], y: Axis, steps: int = 40) -> list[tuple[float, float]]:
    """Places that ceilings and their labels cover, for labels of points to keep clear of."""
    beside = (y.high / y.low) ** (LINE / 2)
    found = []
    for ceiling in ceilings:
        (x0, x1), (y0, y1) = ceiling.x, ceiling.y
        for step in range(steps + 1):
            part = step / steps
            px, py = x0 * (x1 / x0) ** part, y0 * (y1 / y0) ** part
            found += [(px, py), (px, py * beside if ceiling.above else py / beside)]
    return found
