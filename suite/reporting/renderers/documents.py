"""A report as text: Markdown for a pull request, LaTeX for a paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.reporting.charts.scales import figure, length
from suite.reporting.data import summary
from suite.reporting.data.differences import difference_table
from suite.reporting.data.frame import clean
from suite.reporting.data.sentences import sentences
from suite.reporting.renderers.page import machine
from suite.store.text import in_markdown as escape

if TYPE_CHECKING:
    from pandas import DataFrame

    from suite.reporting.data.content import Content, Panel
    from suite.reporting.data.groups import Group

# What LaTeX would take as its own.
LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
    }
)
MOST_LINES, MOST_CROSSINGS, MOST_CHANGES = 40, 60, 100


@dataclass(frozen=True)
class Grid:
    """Times of one setting in ms: an implementation a row, a T a column; `best`: the places of each column's least."""

    title: str
    lengths: tuple[int, ...]
    names: tuple[str, ...]
    cells: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]]


def grid(group: Group) -> Grid:
    """The times of a group; a case without one says its status."""
    lines = sorted(group.lines.items(), key=lambda item: (-item[1][-1].T, item[1][-1].time_ms))[:MOST_LINES]
    lengths = tuple(sorted({point.T for _, points in lines for point in points}))
    failed = {(each.label, each.T): each.status for each in group.failures}
    times = [{point.T: point.time_ms for point in points} for _, points in lines]
    cells = tuple(
        tuple(figure(time[T]) if T in time else failed.get((label, T), "") for T in lengths)
        for (label, _), time in zip(lines, times, strict=True)
    )
    least = {T: min(time[T] for time in times if T in time) for T in lengths}
    best = {(i, j) for i, time in enumerate(times) for j, T in enumerate(lengths) if time.get(T) == least[T]}
    return Grid(group.setting.title, lengths, tuple(label for label, _ in lines), cells, frozenset(best))


def markdown(content: Content) -> str:
    """Sentences, doubts, the times of each setting, crossings and, of several runs, what changed."""
    lines = [f"## {escape(content.title)}", "", *(f"{escape(machine(run))}  " for run in content.runs), ""]
    lines += [f"- {escape(each)}" for each in _said(content)] + [""]
    if content.doubts:
        lines += ["Before you believe this:", "", *(f"- {escape(each)}" for each in content.doubts), ""]
    for panel in _timed(content):
        found = grid(panel.group)
        cells = [_bold(found, i) for i in range(len(found.names))]
        lines += [f"### {escape(found.title)}", "", "Median time in ms by T; the fastest is in bold.", ""]
        lines += table(("implementation", *map(length, found.lengths)), cells, ":--", "--:") + [""]
    crossings = summary.crossing_rows(content.panels, MOST_CROSSINGS)
    if crossings:
        rows = [[escape(cell) for cell in row] for row in crossings]
        lines += ["### From which T linear is faster and needs less memory", "", *table(summary.CROSSINGS, rows), ""]
    if content.changed:
        found_ = difference_table(content.changed[:MOST_CHANGES])
        rows = [[escape(cell.text) for cell in row] for row in found_.rows]
        lines += ["### What changed", "", *table(found_.columns, rows), ""]
    return "\n".join(lines).rstrip() + "\n"


def _said(content: Content) -> list[str]:
    return sentences(content.rows, content.panels, content.runs, content.changed)


def _timed(content: Content) -> list[Panel]:
    return [panel for panel in content.panels if panel.group.points]


def _bold(found: Grid, row: int) -> list[str]:
    cells = [f"**{c}**" if (row, j) in found.best else escape(c) for j, c in enumerate(found.cells[row])]
    return [escape(found.names[row]), *cells]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], first: str = "---", rest: str = "---") -> list[str]:
    """A Markdown table's lines. Cells are escaped already; first, rest: how columns align."""
    rule = [first] + [rest] * (len(columns) - 1)
    return [f"| {' | '.join(row)} |" for row in (columns, rule, *rows)]


def latex(content: Content) -> str:
    """A table a setting, and one of the crossings, for a document with the packages booktabs and graphicx."""
    from pandas import DataFrame

    parts = [f"% {clean(content.title, 120)}", *(f"% {clean(machine(run), 200)}" for run in content.runs)]
    for i, panel in enumerate(_timed(content)):
        found = grid(panel.group)
        rows = [(name, *cells) for name, cells in zip(found.names, found.cells, strict=True)]
        frame = DataFrame(rows, columns=["implementation", *(f"T = {length(T)}" for T in found.lengths)])
        bold = {(row, column + 1) for row, column in found.best}
        caption = f"Median time in ms, the fastest in bold: {found.title}."
        parts.append(_tabular(frame, bold, "l" + "r" * len(found.lengths), caption, f"tab:time-{i}"))
    crossings = summary.crossing_rows(content.panels, MOST_CROSSINGS)
    if crossings:
        frame = DataFrame(crossings, columns=list(summary.CROSSINGS))
        caption = "From which T linear implementations are faster and need less memory than quadratic ones."
        parts.append(_tabular(frame, set(), "l" * len(summary.CROSSINGS), caption, "tab:crossover"))
    return "\n".join(parts) + "\n"


def _tabular(frame: DataFrame, bold: set[tuple[int, int]], columns: str, caption: str, name: str) -> str:
    """A frame as a LaTeX table; what stands in it is escaped, and wide ones are scaled to the line."""
    from pandas import DataFrame

    weights = DataFrame("", index=frame.index, columns=frame.columns)
    for row, column in bold:
        weights.iloc[row, column] = "font-weight: bold"
    style = frame.style.hide(axis="index").apply(lambda _: weights, axis=None)
    style.format(escape="latex").format_index(escape="latex", axis=1)
    text = style.to_latex(hrules=True, convert_css=True, column_format=columns)
    return (
        f"\\begin{{table}}\n\\caption{{{caption.translate(LATEX)}}}\\label{{{name}}}\n\\resizebox{{\\linewidth}}{{!}}{{%\n"
        f"{text}}}\n\\end{{table}}\n"
    )


WRITERS = {"md": markdown, "latex": latex}
