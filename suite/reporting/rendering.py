"""From runs to files: builds the charts once, passes them to the renderers, lists what is left out or doubtful."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from suite.errors import StoreError, UsageError, unknown
from suite.reporting import selfcheck
from suite.reporting.charts.against_length import QUANTITIES, Quantity, against_length
from suite.reporting.charts.bounds import io_bounds
from suite.reporting.charts.crossover_chart import crossover
from suite.reporting.charts.durations import durations
from suite.reporting.charts.kept import kept
from suite.reporting.charts.palette import assign
from suite.reporting.charts.roofline import floors, roofline
from suite.reporting.charts.series import Styles
from suite.reporting.charts.speedups import heatmap, speedup
from suite.reporting.charts.sweeps import sweeps
from suite.reporting.charts.tradeoffs import pareto
from suite.reporting.data import summary
from suite.reporting.data.content import Content, Panel
from suite.reporting.data.crossings import crossings
from suite.reporting.data.differences import changes, differences
from suite.reporting.data.frame import Row, Run, clean, normalise, read
from suite.reporting.data.groups import Group, gather
from suite.reporting.renderers import documents, picture
from suite.reporting.renderers import page as pages

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from suite.store.paths import AnyPath

FORMATS = ("html", "png")
# format -> the file that it is written to; pictures have a folder a format
FILES = {"html": "index.html", "md": "report.md", "latex": "report.tex"}
KNOWN = (*FILES, *picture.FORMATS)
MOST_PICTURES = 48
# Which charts are drawn first when there are more than MOST_PICTURES.
ORDER = (
    "time",
    "roofline",
    "crossover",
    "change",
    "heatmap",
    "gbs",
    "memory",
    "pareto",
    "energy",
    "sweep",
    "speedup",
    "tflops",
    "tokens",
    "bytes",
    "durations",
    "kept",
    "floors",
)


@dataclass(frozen=True)
class Rendered:
    """What was written, and what a reader should be told: doubtful figures, charts without data, pictures left out.

    texts:  Markdown and LaTeX
    faults: what the report's check of itself found; a report that has one is not to be believed
    """

    page: Path | None
    pictures: tuple[Path, ...]
    texts: tuple[Path, ...]
    notes: tuple[str, ...]
    faults: tuple[str, ...]


def report(
    runs: AnyPath | Sequence[AnyPath],
    out: AnyPath,
    baseline: str | None = None,
    formats: Sequence[str] = FORMATS,
    title: str | None = None,
) -> Path:
    """Render stored runs into the folder `out`; returns the page's path, or the folder when no page is wanted.

    formats: html, png, svg, pdf, md, latex
    baseline: `operator/implementation`; by default one is chosen from the data
    Raises TypeError for what is no path, StoreError for a run that cannot be read and UsageError for an unknown
    baseline or format.
    """
    paths = [runs] if isinstance(runs, str | PathLike) else runs
    if not isinstance(paths, Sequence) or not all(isinstance(path, str | PathLike) for path in paths):
        raise TypeError(f"report(runs, out): runs must be paths of run folders, got {runs!r:.80}")
    if not isinstance(out, str | PathLike):
        raise TypeError(f"report(runs, out): out must be the path of a folder, got {type(out).__name__}")
    if isinstance(formats, str):
        raise TypeError(f"report(formats={formats!r}): formats must be a list of names, such as ['html']")
    rendered = render(read(paths), out, baseline, formats, title)
    return rendered.page or Path(out)


def figure(run: AnyPath, kind: str = "time", setting: str | int = 0) -> Figure:
    """One chart of a run's report, as a matplotlib figure.

    kind:    the chart's kind, one of ORDER
    setting: its setting, a part of that which no other has ("decode"), or its number in the report
    Raises UsageError for a setting or chart that the run does not have, with those that it has.
    """
    content = prepare(read([run]))
    panels = [panel for panel in content.panels if panel.charts]
    titles = [panel.group.setting.title for panel in panels]
    if not panels:
        raise UsageError(f"{run} has no chart: no case of it has a time")
    if isinstance(setting, int):
        if not 0 <= setting < len(panels):
            raise UsageError(f"setting {setting}: the run has {len(panels)}, counted from 0: {'; '.join(titles)}")
        panel = panels[setting]
    else:
        alike = [at for at, title in enumerate(titles) if setting in (title, *title.split(" · "))]
        if len(alike) != 1:
            raise unknown("setting", setting, titles)
        panel = panels[alike[0]]
    found = {chart.kind: chart for chart in reversed(panel.charts)}
    if kind not in found:
        raise unknown("chart of this setting", kind, found)
    return picture.compose(found[kind], footer(content.runs, content.rows, panel.group.setting.mode))


def render(
    runs: Sequence[Run],
    out: AnyPath,
    baseline: str | None = None,
    formats: Sequence[str] = FORMATS,
    title: str | None = None,
) -> Rendered:
    """Like `report`, for runs that are already read; returns every path and note."""
    _check(runs, formats)
    content = prepare(runs, baseline, title)
    notes = [*content.doubts, *_without_data(content.panels, baseline)]
    folder = _folder(Path(out))
    pictures, left_out = draw(content, folder, [name for name in formats if name in picture.FORMATS])
    if left_out:
        notes.append(
            f"{len(left_out)} charts have no picture, the page has them all; left out: "
            f"{', '.join(left_out[:4])}{', …' if len(left_out) > 4 else ''}"
        )
    written = {name: _write(folder / FILES[name], name, content) for name in formats if name in FILES}
    texts = tuple(path for name, path in written.items() if name != "html")
    found = selfcheck.faults(content.rows, content.panels)
    return Rendered(written.get("html"), pictures, texts, tuple(notes), tuple(found))


def prepare(runs: Sequence[Run], baseline: str | None = None, title: str | None = None) -> Content:
    """What a report shows, before any of it is drawn. UsageError for a baseline that no run has a time of."""
    rows = normalise(runs)
    groups = gather(rows)
    _check_baseline(baseline, groups)
    styles = assign((row["name"] for row in rows), (row["variant"] for row in rows))
    panels = _distinct([panel_of(group, runs, styles, baseline) for group in groups])
    changed = differences(rows, runs) if len(runs) > 1 else []
    return Content(title or _title(runs), runs, rows, panels, summary.doubts(rows, runs), changed)


def panel_of(group: Group, runs: Sequence[Run], styles: Styles, baseline: str | None) -> Panel:
    """A group's charts, time against T first; those without data are left out."""
    met, bounds = crossings(group, runs), io_bounds(group, runs, styles)
    over_T = [
        against_length(group, quantity, styles, met, bounds) for quantity in QUANTITIES if _serves(group, quantity)
    ]
    found = [over_T[0], *changes(group, runs, styles), crossover(group, met, styles), over_T[1]]
    found += [speedup(group, baseline, styles), heatmap(group, baseline), roofline(group, runs, styles)]
    found += [
        pareto(group, styles),
        *over_T[2:],
        *sweeps(group, runs, styles),
        durations(group, styles),
        kept(group, styles),
    ]
    charts = [chart for chart in [*found, *floors(group, runs, styles)] if chart]
    return Panel(group, tuple(charts), tuple(met))


def _serves(group: Group, quantity: Quantity) -> bool:
    return quantity.serves(group.setting.pass_)


def _write(path: Path, name: str, content: Content) -> Path:
    """The page or the tables, as a file."""
    text = pages.page(content) if name == "html" else documents.WRITERS[name](content)
    path.write_text(text, encoding="utf-8")
    return path


def _distinct(panels: Sequence[Panel]) -> list[Panel]:
    """The panels with slugs that differ even where settings differ only in characters that a file name can't have."""
    seen: Counter[str] = Counter()
    found = []
    for panel in panels:
        charts = []
        for chart in panel.charts:
            seen[chart.slug] += 1
            again = f"-{seen[chart.slug]}" if seen[chart.slug] > 1 else ""
            charts.append(replace(chart, slug=chart.slug + again))
        found.append(replace(panel, charts=tuple(charts)))
    return found


def _check(runs: Sequence[Run], formats: Sequence[str]) -> None:
    if not runs:
        raise UsageError("no run to report on; name at least one run folder")
    for name in formats:
        if name not in KNOWN:
            raise unknown("format", name, KNOWN)
    if not formats:
        raise UsageError(f"no format to write; choose from {', '.join(KNOWN)}")


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


def _without_data(panels: Sequence[Panel], baseline: str | None) -> list[str]:
    """Which kinds of chart some groups lack, in words."""
    timed = [panel for panel in panels if panel.group.points]
    notes = []
    kinds = {quantity.kind: quantity for quantity in QUANTITIES if quantity.due}
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


def draw(
    content: Content, folder: Path, formats: Sequence[str], most: int = MOST_PICTURES
) -> tuple[tuple[Path, ...], list[str]]:
    """Draws the first `most` charts, a folder a format; returns the paths and the titles of those left out."""
    charts = [(chart, panel.group.setting.mode) for panel in content.panels for chart in panel.charts]
    ranked = sorted(charts, key=lambda pair: ORDER.index(pair[0].kind))
    paths = []
    for name in formats:
        (folder / name).mkdir(exist_ok=True)
        for chart, mode in ranked[:most]:
            paths.append(folder / name / f"{chart.slug}.{name}")
            picture.draw(chart, paths[-1], footer(content.runs, content.rows, mode))
    left_out = ranked[most:] if formats else []
    return tuple(paths), [f"{chart.title} ({chart.subtitle})" for chart, _ in left_out]


def footer(runs: Sequence[Run], rows: Sequence[Row], mode: str, most: int = 3) -> list[str]:
    """The source of a picture, one line per run: machine, date, commit, timer, L2 policy, the records' hash."""
    lines = []
    for i, run in enumerate(runs[:most]):
        timed = [row for row in rows if row["run"] == i and row["mode"] == mode and row["timer"]]
        how = sorted({f"{row['timer']} timer, L2 {row['l2']}" for row in timed}) or ["nothing timed"]
        commit = f"commit {run.commit}" if run.commit else "no commit"
        digest = f"records sha256 {run.digest}" if run.digest else ""
        parts = (run.device, run.date, commit, clean("; ".join(how), 90), digest)
        lines.append(" · ".join(part for part in parts if part))
    return lines + ([f"and {len(runs) - most} more runs"] if len(runs) > most else [])
