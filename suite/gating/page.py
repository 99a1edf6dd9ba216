"""The gate's report as one self-contained HTML page: the verdicts, and each case's rounds drawn."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from statistics import median
from typing import TYPE_CHECKING, Any

from suite.gating.report import ORDER, told_source
from suite.store.text import one_line

if TYPE_CHECKING:
    from suite.gating.report import CaseVerdict, Evidence, Report

Figure = dict[str, Any]


@dataclass(frozen=True)
class Card:
    """One case in one mode: its verdicts, the worst first, and the id of its figure where it has one."""

    case_id: str
    mode: str
    verdicts: tuple[CaseVerdict, ...]
    figure: str


def page(report: Report) -> str:
    """The whole page as text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    from suite.reporting.renderers.page import policy

    environment = Environment(
        loader=PackageLoader("suite.gating", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    cards = _cards(report.cases)
    figures = {card.figure: figure_of(card.verdicts) for card in cards if card.figure}
    style = files("suite.reporting.renderers").joinpath("page.css").read_text(encoding="utf-8")
    scripts = [*([get_plotlyjs()] if figures else []), _asset("page.js")]
    return environment.get_template("page.html.j2").render(
        report=report,
        sources=[one_line(told_source(each)) for each in (report.base, report.candidate)],
        cards=cards,
        figures=figures,
        quiet=[each for each in report.sorted_cases if each.evidence is None and each not in report.changes],
        text=one_line,
        percent=lambda ratio: "" if ratio is None else f"{ratio - 1:+.1%}",
        style=Markup(style + _asset("page.css")),
        scripts=[Markup(script) for script in scripts],
        policy=policy(scripts),
    )


def _cards(cases: Sequence[CaseVerdict]) -> list[Card]:
    """Cases that changed or were timed, what fails first."""
    grouped: dict[tuple[str, str], list[CaseVerdict]] = {}
    for each in cases:
        grouped.setdefault((each.case_id, each.mode), []).append(each)
    cards = []
    for (case_id, mode), verdicts in grouped.items():
        ordered = tuple(sorted(verdicts, key=_rank))
        drawn = any(each.evidence for each in verdicts)
        if drawn or ordered[0].decision.verdict not in ("same", "unchanged"):
            cards.append(Card(case_id, mode, ordered, f"rounds-{len(cards)}" if drawn else ""))
    return sorted(cards, key=lambda card: _rank(card.verdicts[0]))


def _rank(each: CaseVerdict) -> int:
    return ORDER.index(each.decision.verdict)


def figure_of(verdicts: Iterable[CaseVerdict]) -> Figure:
    """What the page's script draws: points by series, interval and margin, all in per cent of the time before."""
    timed = next(each for each in verdicts if each.evidence)
    decision, evidence = timed.decision, timed.evidence
    assert evidence is not None

    def percent(ratio: float | None) -> float | None:
        return None if ratio is None else 100 * (ratio - 1)

    return {
        "series": _paired(evidence) if evidence.paired else _apart(evidence),
        "x": "round" if evidence.paired else "launch",
        "ratio": percent(decision.ratio),
        "low": percent(decision.lower),
        "high": percent(decision.upper),
        "margin": None if decision.margin is None else 100 * decision.margin,
    }


def _paired(evidence: Evidence) -> list[dict[str, Any]]:
    """Each round's change; rounds that confirm are a series of their own."""
    changes = [100 * (after / before - 1) for before, after in zip(evidence.before, evidence.after, strict=True)]
    numbers = list(range(1, len(changes) + 1))
    cut = evidence.fresh or len(changes)
    named = [("rounds", slice(0, cut)), ("fresh rounds, to confirm", slice(cut, None))]
    return [{"name": name, "x": numbers[part], "y": changes[part]} for name, part in named if changes[part]]


def _apart(evidence: Evidence) -> list[dict[str, Any]]:
    """The replicates of each run."""
    level = median(evidence.before)
    sides = ("baseline", evidence.before), ("candidate", evidence.after)
    return [
        {"name": name, "x": list(range(1, len(side) + 1)), "y": [100 * (each / level - 1) for each in side]}
        for name, side in sides
    ]


def _asset(name: str) -> str:
    return files("suite.gating").joinpath(name).read_text(encoding="utf-8")
