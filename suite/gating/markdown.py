"""The gate's report as Markdown, for a step summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from suite.gating.report import row_of, told_source
from suite.store.text import in_markdown

if TYPE_CHECKING:
    from suite.gating.report import Report

# A step summary holds 1 MiB; the table is cut long before, and says so.
MOST_ROWS = 500
LONGEST_CELL = 400


def markdown(report: Report) -> str:
    """The outcome, the machine, what differs between the environments, a table of changes, and how to do it again."""
    lines = ["## Gate", "", f"**{_cell(report.headline)}**", ""]
    lines += [f"Baseline {_cell(told_source(report.base))}, candidate {_cell(told_source(report.candidate))}.", ""]
    if report.machine:
        lines += [f"Measured on {_cell(report.machine)}.", ""]
    if report.mismatches:
        lines += ["Environments differ:", "", *(f"- {_cell(str(each))}" for each in report.mismatches), ""]
    lines += [*(f"- {_cell(note)}" for note in report.notes), ""] if report.notes else []
    lines += _table(report)
    if report.reproduce:
        lines += ["How to reproduce:", "", *(f"    {line}" for line in report.reproduce.splitlines()), ""]
    return "\n".join(lines).rstrip() + "\n"


def _table(report: Report) -> list[str]:
    rows = report.changes
    if not rows:
        return []
    lines = ["| verdict | case | mode | metric | reason |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(_cell(cell) for cell in row_of(each))} |" for each in rows[:MOST_ROWS]]
    if len(rows) > MOST_ROWS:
        lines += ["", f"{len(rows) - MOST_ROWS} more rows are in the JSON report."]
    return [*lines, ""]


def _cell(text: str) -> str:
    """Untrusted text for one cell of a Markdown table: no line break, no markup."""
    flat = " ".join(text.split())
    cut = flat if len(flat) <= LONGEST_CELL else f"{flat[:LONGEST_CELL]}…"
    return in_markdown(cut)
