"""The page: one self-contained HTML file that opens from disk, offline, in light and dark."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from suite.ceilings import warning
from suite.reporting.data import casedata, summary
from suite.reporting.data.differences import difference_table
from suite.reporting.data.frame import TEXT, clean
from suite.reporting.data.sentences import sentences
from suite.reporting.renderers import tables
from suite.reporting.renderers.interactive import figure
from suite.reporting.renderers.packing import packed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from suite.reporting.charts.model import Chart, Owner
    from suite.reporting.data.content import Content, Panel
    from suite.reporting.data.frame import Run

SCRIPTS = ("unpack.js", "charts.js", "cases.js", "detail.js")


def page(content: Content) -> str:
    """The whole page as text."""
    rows, runs, panels = content.rows, content.runs, content.panels
    drawn = [panel for panel in panels if panel.charts]
    environment = Environment(
        loader=PackageLoader("suite.reporting.renderers", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = [get_plotlyjs(), _script()]
    cases = casedata.cases_of(rows)
    return environment.get_template("page.html.j2").render(
        title=clean(content.title, 120),
        machines=[machine(run) for run in runs],
        sentences=sentences(rows, panels, runs, content.changed),
        doubts=content.doubts,
        panels=[(panel, _packed_figures(panel)) for panel in drawn],
        facets=_facets(drawn),
        owners=_owners(drawn),
        crowded=any(not each.shown for panel in drawn for chart in panel.charts for each in _all_owners(chart)),
        crossing_columns=summary.CROSSINGS,
        crossings=summary.crossing_rows(panels),
        differences=difference_table(content.changed),
        counts=summary.counts(rows),
        reasons=summary.reasons(rows),
        cases=packed({"rows": len(cases), "columns": casedata.columns(cases, runs), "block": casedata.BLOCK}),
        details=[packed(block) for block in casedata.details(cases, runs)],
        static=tables.static(rows),
        runs=[
            {
                "name": run.name,
                "ceilings": tables.ceilings(run),
                "warning": clean(warning(run.part("ceilings")), TEXT),
                "environment": tables.environment(run),
            }
            for run in runs
        ],
        source=_source(runs),
        style=Markup(_asset("page.css")),
        scripts=[Markup(script) for script in scripts],
        policy=policy(scripts),
    )


def _packed_figures(panel: Panel) -> str:
    """The panel's figures. What hovering says is held by its lines, since charts of one panel share most of them."""
    figures = {chart.slug: figure(chart) for chart in panel.charts}
    lines: dict[str, int] = {}

    def places(text: str | list[str]) -> list[Any]:
        if isinstance(text, list):
            return [places(each) for each in text]
        return [lines.setdefault(line, len(lines)) for line in text.split("<br>")]

    for trace in (trace for each in figures.values() for trace in each["data"] if "hovertext" in trace):
        trace["hovertext"] = places(trace["hovertext"])
    return packed({"lines": list(lines), "figures": figures})


def machine(run: Run) -> str:
    """One line: device, driver, versions, date, commit."""
    fingerprint = run.part("fingerprint")
    versions = [
        f"{name} {clean(fingerprint[name])}" for name in ("driver", "cuda", "torch", "triton") if fingerprint.get(name)
    ]
    commit = f"commit {run.commit}" if run.commit else run.no_commit
    return " · ".join(part for part in (run.device, *versions, run.date, commit) if part)


def _source(runs: Sequence[Run]) -> str:
    named = [f"{run.name} (records.jsonl sha256 {run.digest})" if run.digest else run.name for run in runs]
    return ", ".join(named)


def _asset(name: str) -> str:
    return files("suite.reporting.renderers").joinpath(name).read_text(encoding="utf-8")


def _script() -> str:
    """The page's own scripts as one, with names of their own."""
    return '(() => {\n"use strict";\n' + "\n".join(_asset(name) for name in SCRIPTS) + "})();\n"


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


def _owners(panels: Sequence[Panel]) -> dict[str, list[str]]:
    """Operators and machines with a line somewhere: they are selected within charts."""
    owners = [owner for panel in panels for chart in panel.charts for owner in _all_owners(chart)]
    found = {
        "operator": sorted({each.operator for each in owners if each.operator}),
        "device": sorted({each.machine for each in owners if each.machine}),
    }
    return {name: values for name, values in found.items() if len(values) > 1}


def _all_owners(chart: Chart) -> list[Owner]:
    return [each.owner for each in chart.series] + [row.owner for row in (chart.heat.rows if chart.heat else ())]
