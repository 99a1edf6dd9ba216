"""The analysis as Markdown: every figure comes from the records."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from suite.analysis.comparisons import Contest, contests
from suite.analysis.entries import Entry
from suite.analysis.floors import Standing, rank_correlation, standings
from suite.analysis.losses import Loss, losses
from suite.store.text import in_plain_cell, one_line

UNKNOWN = "-"
# Losses that are listed; the rest is counted.
MOST = 40
ALONE = "No problem has both a time of ours and a time of a peer."


def page(found: Sequence[Entry], environments: Sequence[tuple[str, Mapping[str, Any]]], notes: str = "") -> str:
    """The whole analysis. environments: (name, environment.json) of each run; notes: a person's own, put first."""
    met, lost = contests(found), losses(found)
    parts = [
        "# Analysis",
        _machines(environments),
        notes.strip(),
        _section("Ours against each peer", _contests(met)),
        _section("Times against static floors", _standings(found, standings(found))),
        _section("Where a peer is faster", _losses(lost) if any(each.ratios for each in met) else ALONE),
        _section("What has no time", _statuses(found)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(title: str, text: str) -> str:
    return f"## {title}\n{text}"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(map(in_plain_cell, line))} |" for line in lines)


def _machines(environments: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    def line(name: str, environment: Mapping[str, Any]) -> str:
        told = environment.get("fingerprint") or {}
        software = ", ".join(f"{key} {told[key]}" for key in ("driver", "cuda", "torch", "triton") if told.get(key))
        commit, day = str(environment.get("commit") or "unknown")[:12], str(environment.get("created") or "")[:10]
        return one_line(f"- `{name}`: {told.get('device', 'unknown device')}, {software}; commit {commit}, {day}")

    return "\n".join(line(name, environment) for name, environment in environments)


def _number(value: float, form: str = "{:.2f}") -> str:
    return UNKNOWN if math.isnan(value) else form.format(value)


def _contests(found: Sequence[Contest]) -> str:
    if not found:
        return ALONE
    rows = [
        (
            each.operator,
            each.pass_,
            each.rival,
            f"{_number(each.mean)}x",
            _range(each.ratios),
            f"{each.won} of {len(each.ratios)}",
            str(each.refused),
            each.reason or UNKNOWN,
        )
        for each in found
    ]
    columns = (
        "operator",
        "pass",
        "peer",
        "peer time over ours",
        "minimum to maximum",
        "ours faster",
        "not served",
        "why",
    )
    return f"Geometric means over the problems that both serve; above 1, ours is faster.\n\n{table(columns, rows)}"


def _range(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.2f} to {max(ratios):.2f}" if ratios else UNKNOWN


def _standings(found: Sequence[Entry], known: Sequence[Standing]) -> str:
    if not known:
        return "No case has a static profile. `subquad static --run RUN` adds the profiles."
    rows = [
        (
            each.operator,
            each.pass_,
            str(each.cases),
            _number(each.above[0]),
            _range(each.above),
            _number(each.roof_pct, "{:.0f}"),
            str(each.launches),
            _number(each.traffic),
            _number(each.counted),
            _number(each.rank),
        )
        for each in known
    ]
    columns = (
        "operator",
        "pass",
        "cases",
        "time over floor",
        "minimum to maximum",
        "% of roofline, median",
        "launches",
        "traffic, x compulsory",
        "counted bytes over floor bytes",
        "rank correlation",
    )
    kernels = [each for each in found if each.status == "ok" and each.origin in ("ours", "peer")]
    over_all = _number(rank_correlation(kernels))
    said = f"Only our implementations are listed. Over all kernels, floors and times have rank correlation {over_all}."
    return f"{said}\n\n{table(columns, rows)}"


def _losses(lost: Sequence[Loss]) -> str:
    if not lost:
        return "No peer is faster on a problem that both serve."
    rows = [
        (
            each.ours.problem,
            each.ours.implementation,
            f"{each.ours.time_ms:.4f}",
            each.peer.implementation,
            f"{each.peer.time_ms:.4f}",
            f"{each.ratio:.2f}",
            "; ".join(each.why),
        )
        for each in lost[:MOST]
    ]
    columns = ("problem", "ours", "ms", "peer", "ms", "ours over peer", "what the profiles say")
    more = f"\n\nAnd {len(lost) - MOST} more." if len(lost) > MOST else ""
    return table(columns, rows) + more


def _statuses(found: Sequence[Entry]) -> str:
    counts = Counter((each.name, each.status, each.reason.partition("\n")[0]) for each in found if each.status != "ok")
    if not counts:
        return "Every case has a time."
    rows = [(name, status, str(count), reason) for (name, status, reason), count in counts.most_common()]
    return table(("implementation", "status", "cases", "reason"), rows)
