"""The gallery: pictures of the runs in results/, one folder per run, and the page that shows them.

>>> from tempfile import TemporaryDirectory
>>> with TemporaryDirectory() as folder:
...     rebuild("results", folder).readme.name
'README.md'
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from suite.errors import UsageError
from suite.reporting.data.frame import read
from suite.reporting.data.sentences import main_panels, sentences
from suite.reporting.renderers import picture
from suite.reporting.renderers.page import machine
from suite.reporting.rendering import footer, prepare
from suite.store.text import in_markdown as escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from suite.reporting.data.content import Content

# The charts that stand for a run: of each pass the setting with the longest T.
KINDS = ("time", "crossover", "memory", "gbs", "roofline", "heatmap")
# Runs made here, which git ignores.
LOCAL = "local"
HEAD = """# Reports

This folder shows the charts of the runs in [results/](../results/README.md). `subquad report --gallery` writes the
charts and this page. `subquad report results/MACHINE/RUN` renders the whole page of a run, with every case, status and
reason. Reports of local runs go to `local/`, which git ignores.
"""


@dataclass(frozen=True)
class Gallery:
    """What was written; `lost` are pictures that README.md shows but the gallery did not write."""

    readme: Path
    pictures: tuple[Path, ...]
    lost: tuple[str, ...]


def rebuild(results: str | Path, reports: str | Path) -> Gallery:
    """Draw every run below `results/MACHINE/` again; what the last gallery drew of runs that are gone goes.

    UsageError without a run.
    """
    folders = list(stored(Path(results)))
    if not folders:
        raise UsageError(f"no run lies below {results}/MACHINE/; move one there, or name a run to report on")
    target = Path(reports)
    readme = target / "README.md"
    before = _shown(readme)
    pictures: list[Path] = []
    parts = [HEAD]
    for folder in folders:
        place = target / folder.parent.name / folder.name
        content = prepare(read([folder]))
        drawn = _draw(content, place)
        pictures += drawn
        parts.append(_section(content, folder, [path.relative_to(target) for path in drawn]))
    for name in before - {path.relative_to(target).as_posix() for path in pictures}:
        (target / name).unlink(missing_ok=True)
    readme.write_text("\n".join(parts), encoding="utf-8")
    return Gallery(readme, tuple(pictures), tuple(_lost(target, pictures)))


def stored(results: Path) -> Iterator[Path]:
    """The runs kept, a folder a machine, in the order of their names."""
    for environment in sorted(results.glob("*/*/environment.json")):
        if environment.parent.parent.name != LOCAL:
            yield environment.parent


def chosen(content: Content) -> Content:
    """The report with the charts alone that stand for it."""
    panels = [
        replace(panel, charts=tuple(chart for chart in panel.charts if chart.kind in KINDS))
        for panel, _ in main_panels(content.panels)
    ]
    return replace(content, panels=panels)


def _draw(content: Content, place: Path) -> list[Path]:
    place.mkdir(parents=True, exist_ok=True)
    paths = []
    for panel in chosen(content).panels:
        for chart in panel.charts:
            paths.append(place / f"{chart.slug}.png")
            picture.draw(chart, paths[-1], footer(content.runs, content.rows, panel.group.setting.mode))
    return paths


def _section(content: Content, folder: Path, pictures: Sequence[Path]) -> str:
    """A run's part of the page: what it says in words, then its pictures."""
    titles = {chart.slug: chart for panel in chosen(content).panels for chart in panel.charts}
    lines = [f"## {folder.parent.name}/{folder.name}", "", escape(machine(content.runs[0])), ""]
    lines += [f"- {escape(each)}" for each in sentences(content.rows, content.panels, content.runs)] + [""]
    for path in pictures:
        chart = titles[path.stem]
        lines += [f"![{escape(f'{chart.title}, {chart.subtitle}')}]({path.as_posix()})", ""]
    return "\n".join(lines)


def _shown(readme: Path) -> set[str]:
    """The pictures of the gallery that wrote the page, as it names them; what others put beside them is theirs."""
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    return {name for name in re.findall(r"\]\(([^)\s]+\.png)\)", text) if not name.startswith(("/", "../"))}


def _lost(target: Path, written: Iterable[Path]) -> Iterator[str]:
    """What the repository's README shows from this folder, and is not there."""
    readme = target.parent / "README.md"
    known = {path.relative_to(target.parent).as_posix() for path in written}
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    for name in re.findall(rf"\(({re.escape(target.name)}/[^)\s]+\.png)\)", text):
        if name not in known:
            yield name
