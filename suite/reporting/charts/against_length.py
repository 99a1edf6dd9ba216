"""Charts over T: time, memory, throughput, bandwidth and energy of one group, and where lines end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from suite.reporting.charts.model import Annotation, Axis, Chart, Series
from suite.reporting.charts.scales import figure, length, length_axis, log_axis, place
from suite.reporting.charts.series import Styles, along, alt_text, by_last, hover, length_label, line
from suite.reporting.data.crossings import distinct

if TYPE_CHECKING:
    from suite.reporting.data.crossings import Crossing
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Point


@dataclass(frozen=True)
class Quantity:
    """Something drawn against T: its field of a Point, words for it, and the passes it makes sense for.

    ends: whether a line shows where memory or time ran out
    due:  whether every timed case has it, so that a chart without it is a fault
    """

    kind: str
    field: str
    title: str
    axis: str
    unit: str
    note: str
    decode: bool | None = None
    ends: bool = False
    due: bool = True

    def serves(self, pass_: str) -> bool:
        return self.decode is None or self.decode == (pass_ == "decode")


QUANTITIES = (
    Quantity("time", "time_ms", "Time", "time, ms", "ms", "Median; the band is p20 to p80.", ends=True),
    Quantity(
        "memory",
        "memory_mib",
        "Peak memory",
        "memory beyond inputs, MiB",
        "MiB",
        "Peak memory beyond the inputs. A logarithmic axis cannot show 0.",
        ends=True,
    ),
    Quantity(
        "gbs",
        "gbs",
        "Bandwidth",
        "GB/s",
        "GB/s",
        "Compulsory bytes over the median time: each input read once, each output written once.",
        decode=True,
    ),
    Quantity(
        "bytes",
        "kib_token",
        "Bytes per token",
        "compulsory KiB per token",
        "KiB",
        "Bytes that the step of one token must move: a recurrent state is read and written, a cache is read.",
        decode=True,
    ),
    Quantity(
        "tflops",
        "tflops",
        "Throughput",
        "TFLOP/s",
        "TFLOP/s",
        "Algorithm FLOPs over the median time. Algorithm FLOPs depend on the problem, not on the code.",
        decode=False,
    ),
    Quantity("tokens", "tokens_per_s", "Tokens", "tokens/s", "tokens/s", "Tokens over the median time.", decode=True),
    Quantity(
        "energy",
        "energy_j_token",
        "Energy per token",
        "energy, J per token",
        "J per token",
        "Over a saturated window of at least 2 s; idle power is not subtracted.",
        due=False,
    ),
)
# What a line's end says; any other status says itself.
ENDS = {"oom": "OOM", "timeout": "time-out"}


def against_length(
    group: Group, quantity: Quantity, styles: Styles, met: Sequence[Crossing] = (), bounds: Sequence[Series] = ()
) -> Chart | None:
    """A quantity over T, log-log, one line an implementation; None when no point has it.

    met, bounds: the group's crossings, ringed in the chart of time, and computed lines to draw with it
    """
    lines = {
        label: [point for point in points if getattr(point, quantity.field) > 0]
        for label, points in group.lines.items()
    }
    series = [_series(group, points, quantity, styles) for points in lines.values() if points]
    if not series:
        return None
    ends = _ends(group, series) if quantity.ends else []
    more = [*ends, *(bounds if quantity.kind == "time" else ())]
    extent = [value for each in [*series, *more] for value in (*each.y, *each.low, *each.high)]
    x = length_axis(length_label(group), (value for each in [*series, *more] for value in each.x))
    y = log_axis(quantity.axis, extent)
    return Chart(
        kind=quantity.kind,
        slug=f"{quantity.kind}_{group.setting.slug}",
        title=f"{quantity.title} against {'context' if group.setting.pass_ == 'decode' else 'sequence'} length",
        subtitle=group.setting.title,
        x=x,
        y=y,
        series=(*by_last(series), *more),
        annotations=tuple(_notes(group, x, y, series, ends, met if quantity.kind == "time" else ())),
        caption=f"{quantity.note} {_left_out(group) if quantity.kind == 'time' else ''}".strip(),
        alt=alt_text(quantity.title, quantity.unit, by_last(series)) + _ends_told(ends),
    )


def _series(group: Group, points: list[Point], quantity: Quantity, styles: Styles) -> Series:
    banded = quantity.kind == "time" and all(p.p20_ms > 0 and p.p80_ms > 0 for p in points)
    facts = "" if quantity.kind == "time" else quantity.unit

    def value(point: Point) -> float:
        return getattr(point, quantity.field)

    return line(
        group,
        points,
        styles,
        lambda p: p.T,
        value,
        lambda p: hover(p, f"{figure(value(p))} {facts}") if facts else hover(p),
        low=tuple(point.p20_ms for point in points) if banded else (),
        high=tuple(point.p80_ms for point in points) if banded else (),
    )


def _ends(group: Group, series: Sequence[Series]) -> list[Series]:
    """From a line's last point on to the T at which it failed: the frontier of what this device can do."""
    failed: dict[str, tuple[int, str]] = {}
    last = {each.owner.label: each for each in series}
    for failure in sorted(group.failures, key=lambda failure: failure.T):
        done = last.get(failure.label)
        if done and failure.status != "unsupported" and done.x[-1] < failure.T:
            failed.setdefault(failure.label, (failure.T, failure.status))
    found = []
    for label, (T, status) in failed.items():
        each = last[label]
        said = f"{label}\nno time from T = {T:,}: {status}"
        found.append(
            replace(
                each,
                x=(each.x[-1], float(T)),
                y=(each.y[-1], each.y[-1]),
                text=("", said),
                low=(),
                high=(),
                style=replace(each.style, dash="dot", marker="x"),
                listed=False,
                last_only=True,
                name=ENDS.get(status, status),
            )
        )
    return found


def _ends_told(ends: Sequence[Series]) -> str:
    return "".join(f" {each.owner.label} ends before T = {each.x[-1]:,.0f}: {each.name}." for each in ends)


def _notes(
    group: Group, x: Axis, y: Axis, series: Sequence[Series], ends: Sequence[Series], met: Sequence[Crossing]
) -> list[Annotation]:
    """Rings where linear lines become the faster ones, and what ended a line."""
    wanted = [
        Annotation(meeting.T, meeting.value, f"T ≈ {figure(meeting.T)}", ring=True, of=labels)
        for labels, meeting in distinct(each for each in met if {each.linear, each.quadratic} <= group.shown)
    ]
    wanted += [Annotation(each.x[-1], each.y[-1], each.name, of=(each.owner.label,)) for each in ends]
    return place(wanted, x, y, along([*series, *ends]))


def _left_out(group: Group, most: int = 4) -> str:
    """What failed in this group, by implementation and status; what is unsupported here is in the tables alone."""
    lengths: dict[tuple[str, str], list[int]] = {}
    for failure in group.failures:
        if failure.status != "unsupported":
            lengths.setdefault((failure.label, failure.status), []).append(failure.T)
    if not lengths:
        return ""
    parts = [f"{name} at T = {_range(found)} ({status})" for (name, status), found in list(lengths.items())[:most]]
    rest = f" and {len(lengths) - most} more, see the table of cases" if len(lengths) > most else ""
    return f"Without a time: {'; '.join(parts)}{rest}."


def _range(lengths: Iterable[int]) -> str:
    known = sorted(set(lengths))
    return length(known[0]) if len(known) == 1 else f"{length(known[0])} to {length(known[-1])}"
