"""The page: one self-contained HTML file that opens from disk, offline, in light and dark."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from suite.reporting import summary, tables
from suite.reporting.frame import clean
from suite.reporting.interactive import figure

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from suite.reporting.charts import Chart
    from suite.reporting.frame import Row, Run
    from suite.reporting.groups import Group


@dataclass(frozen=True)
class Panel:
    """A group's charts, together on the page."""

    group: Group
    charts: tuple[Chart, ...]


def page(title: str, runs: Sequence[Run], rows: Sequence[Row], panels: Sequence[Panel], doubts: Sequence[str]) -> str:
    """The whole page as text."""
    groups = [panel.group for panel in panels]
    drawn = [panel for panel in panels if panel.charts]
    environment = Environment(
        loader=PackageLoader("suite.reporting", "."), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    scripts = [get_plotlyjs(), _asset("page.js")]
    return environment.get_template("page.html.j2").render(
        title=clean(title, 120),
        machines=[machine(run) for run in runs],
        sentences=summary.sentences(rows, groups),
        doubts=doubts,
        panels=drawn,
        facets=_facets(drawn),
        figures={chart.slug: figure(chart) for panel in drawn for chart in panel.charts},
        crossing_columns=summary.CROSSINGS,
        crossings=summary.crossing_rows(groups, runs),
        counts=summary.counts(rows),
        reasons=summary.reasons(rows),
        cases=tables.cases(rows, runs),
        static=tables.static(rows),
        runs=[
            {"name": run.name, "ceilings": tables.ceilings(run), "environment": tables.environment(run)} for run in runs
        ],
        source=_source(runs),
        style=Markup(_asset("page.css")),
        scripts=[Markup(script) for script in scripts],
        policy=policy(scripts),
    )


def machine(run: Run) -> str:
    """One line: device, driver, versions, date, commit."""
    fingerprint = run.part("fingerprint")
    versions = [
        f"{name} {clean(fingerprint[name])}" for name in ("driver", "cuda", "torch", "triton") if fingerprint.get(name)
    ]
    commit = f"commit {run.commit}" if run.commit else "no commit"
    return " · ".join(part for part in (run.device, *versions, run.date, commit) if part)


def _source(runs: Sequence[Run]) -> str:
    named = [f"{run.name} (records.jsonl sha256 {run.digest})" if run.digest else run.name for run in runs]
    return ", ".join(named)


def _asset(name: str) -> str:
    return files("suite.reporting").joinpath(name).read_text(encoding="utf-8")


def policy(scripts: Iterable[str]) -> str:
    """A content security policy: nothing is fetched, and no script runs but those of this page."""
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{each}'" for each in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:"


def _facets(panels: Sequence[Panel]) -> dict[str, list[str]]:
    """What a reader can select by, with its values in the panels' order; facets with one value need no choice."""
    found: dict[str, dict[str, None]] = {}
    for panel in panels:
        for name, value in panel.group.setting.facets.items():
            found.setdefault(name, {})[value] = None
    return {name: list(values) for name, values in found.items()}
