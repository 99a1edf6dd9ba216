"""From runs to files: builds the charts once, hands them to the renderers, says what is left out or doubtful."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from suite.errors import StoreError, UsageError, unknown
from suite.reporting import page as pages
from suite.reporting import png, summary
from suite.reporting.against_length import QUANTITIES, Styles, against_length, speedup
from suite.reporting.frame import Row, Run, clean, read, tidy
from suite.reporting.groups import Group, gather
from suite.reporting.palette import assign
from suite.reporting.roofline import floors, roofline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.reporting.charts import Chart

FORMATS = ("html", "png")
MOST_PNGS = 48
# Which charts are drawn first when there are more than MOST_PNGS.
PNG_ORDER = ("time", "roofline", "speedup", "gbs", "tflops", "memory", "tokens", "floors")


@dataclass(frozen=True)
class Rendered:
    """What was written, and what a reader should be told: doubtful figures, charts without data, PNGs left out."""

    page: Path | None
    pngs: tuple[Path, ...]
    notes: tuple[str, ...]


def report(
    runs: str | Path | Sequence[str | Path],
    out: str | Path,
    baseline: str | None = None,
    formats: Sequence[str] = FORMATS,
    title: str | None = None,
) -> Path:
    """Render stored runs into the folder `out`; returns the page's path, or the PNGs' folder when no page is wanted.

    baseline is `operator/implementation`; by default one is chosen from the data. Raises StoreError for a run that can
    not be read and UsageError for an unknown baseline or format.
    """
    paths = [runs] if isinstance(runs, str | Path) else list(runs)
    rendered = render(read(paths), out, baseline, formats, title)
    return rendered.page or Path(out) / "png"


def render(
    runs: Sequence[Run],
    out: str | Path,
    baseline: str | None = None,
    formats: Sequence[str] = FORMATS,
    title: str | None = None,
) -> Rendered:
    """Like `report`, for runs that are already read; returns every path and note."""
    _check(runs, formats)
    rows = tidy(runs)
    groups = gather(rows)
    _check_baseline(baseline, groups)
    styles = assign((row["name"] for row in rows), (row["variant"] for row in rows))
    panels = _distinct([pages.Panel(group, charts_of(group, runs, styles, baseline)) for group in groups])
    notes = [*summary.doubts(rows, runs), *_without_data(panels, baseline)]
    folder = _folder(Path(out))
    pngs, left_out = _draw(panels, runs, rows, folder / "png") if "png" in formats else ([], [])
    if left_out:
        notes.append(
            f"{len(left_out)} of {len(left_out) + len(pngs)} charts have no PNG, the page has them all; left out: "
            f"{', '.join(left_out[:4])}{', …' if len(left_out) > 4 else ''}"
        )
    path = None
    if "html" in formats:
        path = folder / "index.html"
        text = pages.page(title or _title(runs), runs, rows, panels, summary.doubts(rows, runs))
        path.write_text(text, encoding="utf-8")
    return Rendered(path, tuple(pngs), tuple(notes))


def charts_of(group: Group, runs: Sequence[Run], styles: Styles, baseline: str | None) -> tuple[Chart, ...]:
    """A group's charts, time against T first; those without data are left out."""
    quantities = [quantity for quantity in QUANTITIES if quantity.serves(group.setting.pass_)]
    over_T = [against_length(group, quantity, styles) for quantity in quantities]
    found = [over_T[0], speedup(group, baseline, styles), *over_T[1:], roofline(group, runs, styles)]
    return tuple(chart for chart in [*found, *floors(group, runs, styles)] if chart)


def _distinct(panels: Sequence[pages.Panel]) -> list[pages.Panel]:
    """The panels with slugs that differ even where settings differ only in characters that a file name can't have."""
    seen: Counter[str] = Counter()
    found = []
    for panel in panels:
        charts = []
        for chart in panel.charts:
            seen[chart.slug] += 1
            again = f"-{seen[chart.slug]}" if seen[chart.slug] > 1 else ""
            charts.append(replace(chart, slug=chart.slug + again))
        found.append(pages.Panel(panel.group, tuple(charts)))
    return found


def _check(runs: Sequence[Run], formats: Sequence[str]) -> None:
    if not runs:
        raise UsageError("no run to report on; name at least one run folder")
    for name in formats:
        if name not in FORMATS:
            raise unknown("format", name, FORMATS)
    if not formats:
        raise UsageError(f"no format to write; choose from {', '.join(FORMATS)}")


def _check_baseline(baseline: str | None, groups: Sequence[Group]) -> None:
    if baseline is None:
        return
    timed = {point.name for group in groups for point in group.points}
    if baseline not in timed:
        raise unknown("baseline", baseline, timed)


def _folder(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot write a report to {out}: {error.strerror}; choose another folder with --out"
        ) from error
    return out


def _title(runs: Sequence[Run]) -> str:
    return f"subquad: {', '.join(dict.fromkeys(run.device for run in runs))}"


def _without_data(panels: Sequence[pages.Panel], baseline: str | None) -> list[str]:
    """Which kinds of chart some groups lack, in words."""
    timed = [panel for panel in panels if panel.group.points]
    notes = []
    kinds = {quantity.kind: quantity for quantity in QUANTITIES}
    for kind in (*kinds, "roofline"):
        due = [p for p in timed if kind not in kinds or kinds[kind].serves(p.group.setting.pass_)]
        lacking = [p for p in due if all(chart.kind != kind for chart in p.charts)]
        if lacking:
            notes.append(f"no {kind} chart for {len(lacking)} of {len(due)} settings: no record there has its figures")
    if baseline:
        lacking = [p for p in timed if all(chart.kind != "speedup" for chart in p.charts)]
        if lacking:
            notes.append(
                f"no speed-up chart for {len(lacking)} of {len(timed)} settings: nothing shares a T with "
                f"{clean(baseline)}"
            )
    if not timed:
        notes.append("no timed case has a time: nothing was measured that could be drawn")
    return notes


def _draw(
    panels: Sequence[pages.Panel], runs: Sequence[Run], rows: Sequence[Row], folder: Path
) -> tuple[list[Path], list[str]]:
    """Draws the first MOST_PNGS charts; returns the paths and the titles of those left out."""
    charts = [(chart, panel.group.setting.mode) for panel in panels for chart in panel.charts]
    ranked = sorted(charts, key=lambda pair: PNG_ORDER.index(pair[0].kind))
    folder.mkdir(exist_ok=True)
    paths = []
    for chart, mode in ranked[:MOST_PNGS]:
        paths.append(folder / f"{chart.slug}.png")
        png.draw(chart, paths[-1], footer(runs, rows, mode))
    return paths, [f"{chart.title} ({chart.subtitle})" for chart, _ in ranked[MOST_PNGS:]]


def footer(runs: Sequence[Run], rows: Sequence[Row], mode: str, most: int = 3) -> list[str]:
    """Where a PNG's figures come from, a line a run: machine, date, commit, timer, L2 policy, the records' hash."""
    lines = []
    for i, run in enumerate(runs[:most]):
        timed = [row for row in rows if row["run"] == i and row["mode"] == mode and row["timer"]]
        how = sorted({f"{row['timer']} timer, L2 {row['l2']}" for row in timed}) or ["nothing timed"]
        commit = f"commit {run.commit}" if run.commit else "no commit"
        digest = f"records sha256 {run.digest}" if run.digest else ""
        parts = (run.device, run.date, commit, clean("; ".join(how), 90), digest)
        lines.append(" · ".join(part for part in parts if part))
    return lines + ([f"and {len(runs) - most} more runs"] if len(runs) > most else [])
