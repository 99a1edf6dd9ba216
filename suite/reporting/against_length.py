"""Charts over T: time, memory, throughput, bandwidth and speed-up of one group."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from suite.reporting.charts import Annotation, Ceiling, Chart, Series, Style
from suite.reporting.crossings import crossings, distinct
from suite.reporting.frame import clean
from suite.reporting.scales import figure, length_axis, log_axis, place

if TYPE_CHECKING:
    from suite.reporting.groups import Group, Point

Styles = Mapping[tuple[str, str], Style]


@dataclass(frozen=True)
class Quantity:
    """Something drawn against T: its field of a Point, words for it, and the passes it makes sense for."""

    kind: str
    field: str
    title: str
    axis: str
    unit: str
    note: str
    decode: bool | None = None

    def serves(self, pass_: str) -> bool:
        return self.decode is None or self.decode == (pass_ == "decode")


QUANTITIES = (
    Quantity("time", "time_ms", "Time", "time, ms", "ms", "Median; the band is p20 to p80."),
    Quantity("memory", "memory_mib", "Peak memory", "memory over inputs, MiB", "MiB",
             "Rise of peak memory over the inputs. A rise of 0 has no place on a logarithmic axis."),
    Quantity("tflops", "tflops", "Throughput", "TFLOP/s", "TFLOP/s",
             "Algorithm FLOPs over the median time: they depend on the problem, not on the code.", decode=False),
    Quantity("gbs", "gbs", "Bandwidth", "GB/s", "GB/s",
             "Compulsory bytes over the median time: each input read once, each output written once.", decode=True),
    Quantity("tokens", "tokens_per_s", "Tokens", "tokens/s", "tokens/s", "Tokens over the median time."),
)  # fmt: skip


def against_length(group: Group, quantity: Quantity, styles: Styles) -> Chart | None:
    """A quantity over T, log-log, one line an implementation; None when no point has it."""
    lines = {
        label: [point for point in points if getattr(point, quantity.field) > 0]
        for label, points in group.lines().items()
    }
    series = tuple(_series(label, points, quantity, styles) for label, points in lines.items() if points)
    if not series:
        return None
    extent = [value for each in series for value in (*each.y, *each.low, *each.high)]
    x = length_axis(_length_label(group), (value for each in series for value in each.x))
    y = log_axis(quantity.axis, extent)
    return Chart(
        kind=quantity.kind,
        slug=f"{quantity.kind}_{group.setting.slug}",
        title=f"{quantity.title} against {'context' if group.setting.pass_ == 'decode' else 'sequence'} length",
        subtitle=group.setting.title,
        x=x,
        y=y,
        series=by_last(series),
        annotations=tuple(_rings(group, x, y, series)) if quantity.kind == "time" else (),
        caption=f"{quantity.note} {_left_out(group) if quantity.kind == 'time' else ''}".strip(),
        alt=_alt(quantity.title, quantity.unit, series),
    )


def by_last(series: Sequence[Series]) -> tuple[Series, ...]:
    """Series ordered as their lines end, highest first, so that a legend reads like the chart."""
    return tuple(sorted(series, key=lambda each: (-each.x[-1], -each.y[-1])))


def hover(point: Point, *facts: str) -> str:
    """What hovering says of a point: name, T, tunables, time with its band, and facts."""
    band = f" (p20 {figure(point.p20_ms)}, p80 {figure(point.p80_ms)})" if math.isfinite(point.p20_ms) else ""
    head = [point.label, f"T = {point.T:,}" + (f", {point.tunables}" if point.tunables else "")]
    return "\n".join([*head, f"{figure(point.time_ms)} ms{band}", *facts])


def _series(label: str, points: list[Point], quantity: Quantity, styles: Styles) -> Series:
    banded = quantity.kind == "time" and all(p.p20_ms > 0 and p.p80_ms > 0 for p in points)
    facts = "" if quantity.kind == "time" else quantity.unit
    values = tuple(float(getattr(point, quantity.field)) for point in points)
    return Series(
        name=label,
        x=tuple(float(point.T) for point in points),
        y=values,
        style=styles[points[0].name, points[0].variant],
        text=tuple(
            hover(p, f"{figure(value)} {facts}") if facts else hover(p) for p, value in zip(points, values, strict=True)
        ),
        low=tuple(point.p20_ms for point in points) if banded else (),
        high=tuple(point.p80_ms for point in points) if banded else (),
    )


def _rings(group: Group, x, y, series: Sequence[Series]) -> list[Annotation]:
    found = distinct(crossings(group))
    wanted = [Annotation(each.T, each.value, f"T ≈ {figure(each.T)}", ring=True) for each in found]
    return place(wanted, x, y, along(series))


def along(series: Iterable[Series], steps: int = 8) -> list[tuple[float, float]]:
    """The points of lines, and places between them that are evenly spaced on logarithmic axes."""
    found = []
    for each in series:
        points = list(zip(each.x, each.y, strict=True))
        found += points
        for (x0, y0), (x1, y1) in pairwise(points) if each.line else ():
            parts = [step / steps for step in range(1, steps)]
            found += [(x0 * (x1 / x0) ** part, y0 * (y1 / y0) ** part) for part in parts]
    return found


def _length_label(group: Group) -> str:
    return "context length T" if group.setting.pass_ == "decode" else "sequence length T, tokens"


def _left_out(group: Group, most: int = 4) -> str:
    """What failed in this group, by implementation and status; what is unsupported here is in the tables alone."""
    lengths: dict[tuple[str, str], list[int]] = {}
    for failure in group.failures:
        if failure.status != "unsupported":
            lengths.setdefault((failure.name, failure.status), []).append(failure.T)
    if not lengths:
        return ""
    parts = [f"{name} at T = {_range(found)} ({status})" for (name, status), found in list(lengths.items())[:most]]
    rest = f" and {len(lengths) - most} more, see the table of cases" if len(lengths) > most else ""
    return f"Without a time: {'; '.join(parts)}{rest}."


def _range(lengths: Sequence[int]) -> str:
    return f"{lengths[0]:,}" if len(lengths) == 1 else f"{min(lengths):,} to {max(lengths):,}"


def _alt(title: str, unit: str, series: Sequence[Series], most: int = 12) -> str:
    parts = [
        f"{each.name}: {figure(each.y[0])} {unit} at T = {each.x[0]:,.0f}"
        + (f" to {figure(each.y[-1])} {unit} at T = {each.x[-1]:,.0f}" if len(each.x) > 1 else "")
        for each in series[:most]
    ]
    more = f"; and {len(series) - most} more" if len(series) > most else ""
    return f"{title} against T on logarithmic axes. {'; '.join(parts)}{more}."


def baseline_of(group: Group, asked: str | None) -> str | None:
    """The implementation that others are compared with: the one asked for, or, where none was, what a user has now.

    That is a quadratic implementation before a linear one, a peer or plain PyTorch before ours, then the one with most
    lengths, then the fastest at the longest. None when the one asked for has no time in this group.
    """
    lines = group.lines()
    if asked is not None:
        return asked if any(points[0].name == asked for points in lines.values()) else None

    def rank(points: list[Point]) -> tuple[bool, bool, int, float]:
        return points[0].quadratic, points[0].origin != "ours", len(points), -points[-1].time_ms

    return max(lines.values(), key=rank)[0].name if lines else None


def speedup(group: Group, asked: str | None, styles: Styles) -> Chart | None:
    """The baseline's time over each implementation's, at each T that both have; None without a baseline."""
    name = baseline_of(group, asked)
    if name is None:
        return None
    shown = clean(name)
    base = {(p.run, p.T): p.time_ms for p in group.points if p.name == name and _plain(p, group, name)}
    series = []
    for label, points in group.lines().items():
        shared = [(p, base[p.run, p.T] / p.time_ms) for p in points if (p.run, p.T) in base]
        if not shared or points[0].name == name:
            continue
        series.append(
            Series(
                name=label,
                x=tuple(float(p.T) for p, _ in shared),
                y=tuple(ratio for _, ratio in shared),
                style=styles[points[0].name, points[0].variant],
                text=tuple(hover(p, f"{figure(ratio)} times as fast as {shown}") for p, ratio in shared),
            )
        )
    if not series:
        return None
    x = length_axis(_length_label(group), (value for each in series for value in each.x))
    # The reference's label goes to the end at which lines are farther from it.
    first, last = (min(abs(math.log(each.y[i])) for each in series) for i in (0, -1))
    reference = Ceiling(shown, (x.low, x.high), (1.0, 1.0), "reference", at_end=last > first)
    chosen = "" if asked else " (chosen from the data: choose another with --baseline)"
    return Chart(
        kind="speedup",
        slug=f"speedup_{group.setting.slug}",
        title=f"Speed-up over {shown}",
        subtitle=group.setting.title,
        x=x,
        y=log_axis("speed-up, times", [1.0, *(value for each in series for value in each.y)]),
        series=by_last(series),
        ceilings=(reference,),
        caption=f"Time of {shown}{chosen} over time of each implementation at the same T; above 1 is faster.",
        alt=_alt(f"Speed-up over {shown}", "times", series),
    )


def _plain(point: Point, group: Group, name: str) -> bool:
    """Whether a point is of its implementation's first variant in that run: the one at default axes, if measured."""
    return point.variant == min(p.variant for p in group.points if p.name == name and p.run == point.run)
