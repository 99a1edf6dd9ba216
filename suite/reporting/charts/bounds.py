"""The I/O lower bound of an operator, which no code can be faster than, as a line in the chart of times."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from suite.reporting.charts.model import Owner, Series, Style
from suite.reporting.charts.scales import figure
from suite.reporting.charts.series import Styles, named
from suite.roof import memory_gbs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.reporting.data.frame import Run
    from suite.reporting.data.groups import Group


def io_bounds(group: Group, runs: Sequence[Run], styles: Styles) -> list[Series]:
    """A dashed line an operator that states a bound: its bytes over the memory bandwidth of the first run measured.

    Only floors of that run's architecture count: the bound depends on how much a multiprocessor holds.
    """
    used = sorted({point.run for point in group.points})
    if not used or used[0] >= len(runs):
        return []
    run = runs[used[0]]
    llc = run.part("device").get("llc_bytes")
    bounds: dict[str, dict[int, float]] = {}
    names: dict[str, str] = {}
    for floor in group.floors:
        if floor.io_bound_bytes > 0 and floor.arch == run.part("device").get("arch"):
            gbs = memory_gbs(dict(run.part("ceilings")), floor.io_bound_bytes, llc if isinstance(llc, int) else 0)
            if gbs:
                names.setdefault(floor.operator, floor.name)
                bounds.setdefault(floor.operator, {})[floor.T] = floor.io_bound_bytes / gbs / 1e6
    return [_line(operator, bound, named(styles, names[operator])) for operator, bound in bounds.items()]


def _line(operator: str, bound: dict[int, float], looks: Style) -> Series:
    name = f"{operator}: I/O lower bound, constant 1"
    lengths = sorted(bound)
    return Series(
        name=name,
        x=tuple(float(T) for T in lengths),
        y=tuple(bound[T] for T in lengths),
        style=replace(looks, dash="dash", marker="cross"),
        text=tuple(f"{name}\nT = {T:,}\n{figure(bound[T])} ms at the memory bandwidth, computed" for T in lengths),
        owner=Owner(name, operator),
        last_only=True,
    )
