"""Rooflines: attained TFLOP/s over arithmetic intensity, under what this device can do (Williams et al. 2009)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suite.reporting.charts.model import Annotation, Axis, Ceiling, Chart, Series
from suite.reporting.charts.roofs import Roof, covered, roofs_of, segments
from suite.reporting.charts.scales import figure, length, log_axis, place
from suite.reporting.charts.series import Styles, along, by_last, floor_owner, hover, line, listed, named
from suite.reporting.data.frame import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from suite.reporting.data.frame import Run
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Floor, Point

X_LABEL, Y_LABEL = "intensity, FLOP per compulsory byte", "TFLOP/s"
X_COUNTED = "intensity, FLOP per byte: compulsory, or counted"


def roofline(group: Group, runs: Sequence[Run], styles: Styles) -> Chart | None:
    """Points of one group under the ceilings of their runs' devices; None when no point has an intensity."""
    drawn = {label: [p for p in points if p.intensity > 0 and p.tflops > 0] for label, points in group.lines.items()}
    series = [_series(group, points, styles) for points in drawn.values() if points]
    if not series:
        return None
    used = sorted({point.run for point in group.points})
    arches = {runs[run].part("device").get("arch") for run in used}
    counted = [found for points in drawn.values() if (found := _counted_series(group, points, styles))]
    computed = _floor_series(group, [floor for floor in group.floors if floor.arch in arches], styles)
    roofs = {run: roofs_of(runs[run], group.setting.dtype) for run in used}
    everything = [*series, *counted, *computed]
    known = [roof for found in roofs.values() for roof in found]
    x, y = _axes(everything, known, X_COUNTED if counted else X_LABEL)
    names = {run: clean(runs[run].name) if len(used) > 1 else "" for run in used}
    ceilings = [each for run, found in roofs.items() for each in segments(found, x, y, names[run])]
    notes = [*_ends([each for each in series if each.owner.shown]), *_floor_notes(computed)]
    return Chart(
        kind="roofline",
        slug=f"roofline_{group.setting.slug}",
        title=f"Roofline, {group.setting.facets['dtype']}",
        subtitle=group.setting.title,
        x=x,
        y=y,
        series=by_last(everything),
        ceilings=(*ceilings, *_wasted(drawn)),
        annotations=tuple(place(notes, x, y, [*along(everything), *covered(ceilings, y)])),
        caption=_caption(ceilings, bool(counted), bool(computed)),
        alt=_alt(drawn, ceilings),
    )


def floors(group: Group, runs: Sequence[Run], styles: Styles) -> list[Chart]:
    """Where static profiles put cases on devices that were not measured: a chart an architecture."""
    measured = {runs[point.run].part("device").get("arch") for point in group.points}
    charts = []
    for arch, gpu in sorted({(floor.arch, floor.gpu) for floor in group.floors if floor.arch not in measured}):
        found = [floor for floor in group.floors if (floor.arch, floor.gpu) == (arch, gpu)]
        series = _floor_series(group, found, styles)
        x, y = _axes(series, [])
        machine = f"{arch}, {gpu}" if gpu else arch
        charts.append(
            Chart(
                kind="floors",
                slug=f"floors_{arch}_{group.setting.slug}",
                title=f"{_computed_as(found, 'Floors').capitalize()}: {machine}",
                subtitle=" · ".join(text for name, text in group.setting.facets.items() if text and name != "timing"),
                x=x,
                y=y,
                series=by_last(series),
                annotations=tuple(place(_ends(series), x, y, along(series))),
                caption=f"Computed from compiled code for {machine}: no kernel ran. Predicted times come from machine "
                "code; a floor is the shortest time that executed FLOPs and bytes allow.",
                alt=f"Computed for {machine}, not measured: "
                + listed([f"{each.name} up to {figure(max(each.y))} TFLOP/s" for each in series]),
            )
        )
    return charts


def _series(group: Group, points: list[Point], styles: Styles) -> Series:
    return line(
        group,
        points,
        styles,
        lambda p: p.intensity,
        lambda p: p.tflops,
        lambda p: hover(p, *_facts(p)),
        T=tuple(p.T for p in points),
        hollow=True,
    )


def _facts(point: Point) -> list[str]:
    facts = [f"{figure(point.intensity)} FLOP/byte, {figure(point.tflops)} TFLOP/s"]
    if point.roof_pct == point.roof_pct:
        facts.append(f"{figure(point.roof_pct)} % of the roofline")
    facts += [f"bound by {point.bound}"] if point.bound else []
    return facts + ([_wasted_text(point)] if _is_counted(point) else [])


def _is_counted(point: Point) -> bool:
    return point.dram_bytes > 0 and point.flops_alg > 0


def _counted_intensity(point: Point) -> float:
    return point.flops_alg / point.dram_bytes


def _wasted_text(point: Point) -> str:
    ratio = point.intensity / _counted_intensity(point)
    return f"{figure(point.dram_bytes / 1e6)} MB counted at the memory bus, {figure(ratio)} times the compulsory bytes"


def _counted_series(group: Group, points: list[Point], styles: Styles) -> Series | None:
    """The same points at the intensity of the DRAM bytes that a profiler counted; None when none has them."""
    known = [point for point in points if _is_counted(point)]
    if not known:
        return None
    return line(
        group,
        known,
        styles,
        _counted_intensity,
        lambda p: p.tflops,
        lambda p: hover(p, f"{figure(_counted_intensity(p))} FLOP per counted byte", _wasted_text(p)),
        name=f"{known[0].label}: DRAM bytes counted",
        T=tuple(p.T for p in known),
        line=False,
    )


def _wasted(drawn: Mapping[str, list[Point]]) -> list[Ceiling]:
    """A segment from each point to where its counted bytes put it: its length is traffic that was not compulsory."""
    return [
        Ceiling("", (_counted_intensity(p), p.intensity), (p.tflops, p.tflops), "reference", of=label)
        for label, points in drawn.items()
        for p in points
        if _is_counted(p)
    ]


def _floor_series(group: Group, found: Sequence[Floor], styles: Styles) -> list[Series]:
    names: dict[str, list[Floor]] = {}
    for floor in sorted(found, key=lambda floor: (floor.name, floor.T)):
        names.setdefault(floor.name, []).append(floor)
    return [
        Series(
            name=f"{name}: {_computed_as(floors_)}",
            x=tuple(each.intensity for each in floors_),
            y=tuple(each.shown_tflops for each in floors_),
            style=named(styles, name),
            text=tuple(_floor_text(each) for each in floors_),
            owner=floor_owner(group, floors_[0]),
            T=tuple(each.T for each in floors_),
            line=False,
            hollow=True,
        )
        for name, floors_ in names.items()
    ]


def _computed_as(found: Sequence[Floor], floor: str = "floor") -> str:
    """What hollow markers are."""
    kinds = {each.is_predicted for each in found}
    names = {(True,): "predicted", (False,): floor, (False, True): f"predicted or {floor}"}
    return f"{names[tuple(sorted(kinds))]}, not measured"


def _floor_notes(series: Sequence[Series]) -> list[Annotation]:
    """A label on the last marker of each implementation, so that none is taken for a measurement."""
    return [
        Annotation(s.x[-1], s.y[-1], s.name.rpartition(": ")[2], style=s.style, of=(s.owner.label,))
        for s in series
        if s.owner.shown
    ]


def _floor_text(floor: Floor) -> str:
    lines = [f"{floor.name}: {_computed_as([floor])}", f"T = {floor.T:,}, {floor.arch} {floor.gpu}"]
    if floor.is_predicted:
        between = f"{figure(floor.low_ms)} to {figure(floor.high_ms)}"
        lines += [f"predicted {figure(floor.predicted_ms)} ms ({between}), {figure(floor.shown_tflops)} TFLOP/s"]
        lines += [f"predicted to be bound by {floor.predicted_bound}"] if floor.predicted_bound else []
    lines += [f"at least {figure(floor.time_ms)} ms, at most {figure(floor.tflops)} TFLOP/s"]
    lines += [f"the floor is bound by {floor.bound}"] if floor.bound else []
    return "\n".join(line for line in lines if line)


def _ends(series: Sequence[Series]) -> list[Annotation]:
    """T at the first and the last point of every implementation."""
    return [
        Annotation(each.x[i], each.y[i], f"T={length(each.T[i])}", style=each.style, of=(each.owner.label,))
        for each in series
        for i in sorted({len(each.x) - 1, 0}, reverse=True)
    ]


def _axes(series: Sequence[Series], roofs: Sequence[Roof], label: str = X_LABEL) -> tuple[Axis, Axis]:
    """Ranges that hold every point, the ridge of each roof and the flat part of the highest one."""
    xs = [value for each in series for value in each.x]
    ys = [value for each in series for value in each.y] + [roof.tflops for roof in roofs if roof.tflops]
    ridges = [roof.tflops / roof.gbs * 1000 for roof in roofs if roof.gbs and roof.tflops]
    xs = [min(xs) / 2.5, max(xs) * 1.5, *(ridge / 8 for ridge in ridges), *(ridge * 4 for ridge in ridges)]
    return (
        log_axis(label, xs, decades=2),
        log_axis(Y_LABEL, [min(ys) / 2, *ys, max(ys) * 1.6], decades=2),
    )


def _caption(ceilings: Sequence[Ceiling], has_counts: bool, has_floors: bool) -> str:
    kinds = {ceiling.kind for ceiling in ceilings}
    parts = ["Hollow markers: intensity from compulsory bytes."]
    if has_counts:
        parts.append(
            "Filled markers: intensity from counted DRAM bytes; the segment between them is traffic beyond compulsory."
        )
    parts.append("A line joins the points of one implementation over T.")
    parts += ["Solid ceilings were measured on this machine."] if "measured" in kinds else []
    parts += ["Dashed ceilings are from the datasheet."] if "datasheet" in kinds else []
    parts += ["No ceiling is stored for this dtype."] if not kinds else []
    parts += ["Markers without a line are predicted times or floors of the static profile, not measured."] * has_floors
    return " ".join(parts)


def _alt(drawn: Mapping[str, list[Point]], ceilings: Sequence[Ceiling]) -> str:
    best = [(label, max(points, key=lambda p: p.tflops)) for label, points in drawn.items() if points]
    parts = [f"{label} reaches {figure(p.tflops)} TFLOP/s at {figure(p.intensity)} FLOP per byte" for label, p in best]
    roofs = f" Ceilings: {'; '.join(each.label for each in ceilings)}." if ceilings else ""
    return f"TFLOP/s over arithmetic intensity, logarithmic axes. {listed(parts)}{roofs}"
