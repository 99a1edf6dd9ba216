"""Profiles as rows of text, for the tables of `subquad static`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from suite.problem import split_case_id
from suite.static.model import Dots, Floor, Launch, Prediction, Profile, dots_of_all
from suite.store.text import in_plain_cell, one_line

CASE_COLUMNS = (
    "case",
    "arch",
    "status",
    "launches",
    "registers",
    "spills B",
    "shared KiB",
    "occupancy",
    "tensor",
    "dots",
    "traffic MB",
    "eager MB",
    "x compulsory",
    "re-read x",
    "peak MiB",
    "kept MiB",
    "exec/alg",
    "predicted us",
    "by",
    "floor us",
    "bound",
    "for",
)
LAUNCH_COLUMNS = (
    "kernel",
    "grid",
    "warps",
    "stages",
    "registers",
    "spills B",
    "local B",
    "shared KiB",
    "blocks/SM",
    "occupancy",
    "limit",
    "waves",
    "tensor",
    "dots",
    "x dots",
    "LDG 128",
    "LDG less",
    "TMA",
    "MUFU",
    "instructions",
    "traffic MB",
    "predicted us",
    "by",
    "binary",
    "configuration",
    "status",
)
NONE = "-"
MARKDOWN_COLUMNS = (
    "implementation",
    "problem",
    "GPU",
    "launches",
    "x compulsory",
    "re-read x",
    "exec/alg",
    "registers",
    "spills B",
    "tensor",
    "dots",
    "predicted us",
    "floor us",
)


def case_row(profile: Profile) -> list[str]:
    """One profile in CASE_COLUMNS."""
    columns = {name.removeprefix("static."): value for name, value in profile.columns().items()}

    def shown(name: str, form: str = "{}", scale: float = 1) -> str:
        value = columns.get(name)
        return NONE if value is None else form.format(value / scale if scale != 1 else value)

    cells = [profile.case_id, profile.arch, profile.status, shown("launches"), shown("registers"), shown("spill_bytes")]
    cells += [shown("shared_bytes", "{:.1f}", 1024), shown("occupancy", "{:.1%}"), _tensor(profile.launches)]
    cells += [_dots(dots_of_all(profile.launches))[0]]
    cells += [shown("traffic_bytes", "{:.1f}", 1e6), shown("eager_bytes", "{:.1f}", 1e6)]
    cells += [shown("traffic_ratio", "{:.2f}"), shown("issued_reread", "{:.2f}"), shown("peak_bytes", "{:.1f}", 2**20)]
    cells += [shown("kept_bytes", "{:.1f}", 2**20)]
    cells += [f"{profile.flops_exec / profile.flops_alg:.2f}" if profile.flops_alg else NONE]
    return cells + [*_predicted(profile.predicted), *_floor(profile.floor)]


def markdown(profiles: Sequence[Profile]) -> str:
    """All profiles as one Markdown table, and below it why any of them is not ok."""
    rows = [MARKDOWN_COLUMNS, ("---",) * len(MARKDOWN_COLUMNS), *map(_markdown_row, profiles)]
    table = "\n".join(f"| {' | '.join(map(in_plain_cell, row))} |" for row in rows)
    told = "\n".join(f"- {one_line(note)}" for note in notes(profiles))
    return f"{table}\n\n{told}" if told else table


def _markdown_row(profile: Profile) -> list[str]:
    cells = dict(zip(CASE_COLUMNS, case_row(profile), strict=True))
    *names, problem = split_case_id(profile.case_id)
    where = profile.floor.gpu if profile.floor else profile.arch
    launches = cells["launches"] if profile.status == "ok" else profile.status
    return ["/".join(names), problem, where, launches, *(cells[name] for name in MARKDOWN_COLUMNS[4:])]


def _predicted(predicted: Prediction | None) -> list[str]:
    """Microseconds, and what bounds them."""
    if predicted is None or predicted.ms is None:
        return [NONE] * 2
    return [f"{predicted.ms * 1e3:.1f}", predicted.bound]


def _floor(floor: Floor | None) -> list[str]:
    if floor is None:
        return [NONE] * 3
    return [f"{floor.ms * 1e3:.1f}", floor.bound, f"{floor.gpu} ({floor.source})"]


def _tensor(launches: Sequence[Launch]) -> str:
    paths = {launch.binary.tensor_path for launch in launches if launch.binary}
    return "+".join(sorted(paths - {"none"})) or ("none" if paths else NONE)


def _dots(dots: Dots | None) -> tuple[str, str]:
    """Replicated products of all, and executed FLOPs over needed ones."""
    if dots is None or dots.reason:
        return NONE, NONE
    return dots.share, NONE if dots.ratio is None else f"{dots.ratio:.2f}"


def launch_rows(launches: Sequence[Launch]) -> Iterator[list[str]]:
    """Launches in LAUNCH_COLUMNS."""
    for launch in launches:
        yield _launch_row(launch)


def _launch_row(launch: Launch) -> list[str]:
    grid = "x".join(map(str, launch.grid))
    binary, residency = launch.binary, launch.residency
    if binary is None or residency is None:
        empty = [NONE] * (len(LAUNCH_COLUMNS) - 4)
        return [launch.kernel, grid, *empty, launch.config, launch.status]
    narrow = sum(binary.mix[f"ldg_{width}"] for width in (8, 16, 32, 64))
    waves = NONE if residency.waves is None else f"{residency.waves:.2f}"
    return [
        launch.kernel,
        grid,
        str(launch.warps),
        str(launch.stages),
        str(binary.registers),
        str(binary.spill_bytes),
        str(binary.stack_bytes),
        f"{launch.shared_bytes / 1024:.1f}",
        str(residency.blocks),
        f"{residency.occupancy:.1%}",
        residency.limit,
        waves,
        binary.tensor_path,
        *_dots(launch.dots),
        str(binary.mix["ldg_128"]),
        str(narrow),
        str(binary.mix["tma"]),
        str(binary.mix["mufu"]),
        str(binary.instructions),
        f"{launch.traffic_bytes / 1e6:.1f}",
        *_predicted(launch.predicted),
        binary.hash[:12],
        launch.config,
        launch.status,
    ]


def explanation(profile: Profile) -> Iterator[str]:
    """Why each launch takes its predicted time, as lines of text; none where it was not asked for."""
    for launch in profile.launches:
        predicted, why = launch.predicted, launch.explained
        if predicted is None or predicted.ms is None or why is None:
            continue
        us = predicted.ms * 1e3
        yield f"\n{launch.kernel}: {us:.1f} us predicted, bound by {predicted.bound}"
        busy = ", ".join(f"{name} {share:.0%}" for name, share in predicted.busy.items() if share >= 0.005)
        yield f"  busy: {busy}"
        place = f" ({why.lines})" if why.lines else ""
        issued = sum(why.instructions.values())
        yield f"  main loop: {why.loop}{place}"
        yield f"    {why.trips:.0f} trips, {why.cycles:.0f} cycles and {issued} instructions of a warp each"
        yield f"    {', '.join(f'{kind} {count}' for kind, count in why.instructions.items())}"
        yield "  longest waits, cycles a trip:"
        for stall in why.waits:
            where = f"  {stall.line}" if stall.line else ""
            maker = f", of {stall.maker}" if stall.maker else ""
            place = f"0x{stall.address:04x} {stall.instruction}"
            yield f"    {stall.cycles:8.1f}  {place}: for {stall.waits_for}{maker}{where}"
        parts = [f"{name} {ms * 1e3:.1f} us ({ms / predicted.ms - 1:+.0%})" for name, ms in why.what_ifs.items()]
        yield f"  what if: {', '.join(parts)}"


def notes(profiles: Sequence[Profile]) -> Iterator[str]:
    """Why cases are not ok, or lack issued traffic, dots or a prediction: one line a reason, with its cases."""
    found: dict[str, list[str]] = {}
    for profile in profiles:
        case = f"{profile.case_id} {profile.arch}"
        if profile.reason:
            found.setdefault(f"{profile.status}: {profile.reason}", []).append(case)
        if profile.issued and profile.issued.reason:
            found.setdefault(f"issued traffic not counted: {profile.issued.reason}", []).append(case)
        predicted = profile.predicted
        if predicted and predicted.reason:
            found.setdefault(f"time not predicted: {predicted.reason}", []).append(case)
        for note in predicted.notes if predicted else ():
            found.setdefault(f"time predicted, but {note}", []).append(case)
        dots = dots_of_all(profile.launches)
        if dots and dots.reason:
            found.setdefault(f"dots not read: {dots.reason}", []).append(case)
    for reason, cases in found.items():
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        yield f"{cases[0]}{more}: {reason}"
