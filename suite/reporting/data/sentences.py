"""The first sentences of a report: which implementation is fastest, from which T, and at what cost; what is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from suite.reporting.charts.scales import figure
from suite.reporting.data.differences import said
from suite.reporting.data.frame import Row, by, clean
from suite.reporting.data.groups import PASS_NAMES
from suite.store import STATUSES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from suite.reporting.data.content import Panel
    from suite.reporting.data.crossings import Crossing
    from suite.reporting.data.differences import Difference
    from suite.reporting.data.frame import Run
    from suite.reporting.data.groups import Group, Setting
    from suite.reporting.data.points import Point

LISTED = 6
ORIGINS = {"ours": "ours", "peer": "peer", "baseline": "PyTorch"}


def sentences(
    rows: Sequence[Row], panels: Sequence[Panel], runs: Sequence[Run], changed: Sequence[Difference] = ()
) -> list[str]:
    """For each pass who is fastest and from where linear wins; then what has no time, and how much was tuned."""
    found = [text for panel, count in main_panels(panels) for text in _of_panel(panel, count)]
    timed = [row for row in rows if row["kind"] == "timed"]
    if not found:
        found = [f"None of {len(timed):,} timed cases has a time; the tables below say why."]
    found += said(changed, runs) if len(runs) > 1 else []
    return [*found, *_missing(timed), *_host_bound(timed), *_tuning(timed)]


def main_panels(panels: Sequence[Panel]) -> list[tuple[Panel, int]]:
    """Of each pass the setting with the longest T, of several the one with most lines; and how many settings it has."""
    passes: dict[str, list[Panel]] = {}
    for panel in panels:
        if panel.group.points:
            passes.setdefault(panel.group.setting.pass_, []).append(panel)
    return [(max(each, key=lambda panel: _reach(panel.group)), len(each)) for each in passes.values()]


def _reach(group: Group) -> tuple[int, int]:
    return max(point.T for point in group.points), len(group.lines)


def _of_panel(panel: Panel, count: int) -> list[str]:
    group = panel.group
    T = _telling_length(group)
    sides = _sides(point for point in group.points if T == point.T)
    best = sides[0]
    others = f", one of {count} settings" if count > 1 else ""
    where = f"At {_where(group.setting, T)} ({group.setting.rest}, {clean(group.setting.mode)}{others})"
    times = [f"{_name(best)} takes {figure(best.time_ms)} ms"]
    times += [f"{_name(p)} {figure(p.time_ms)} ms, {figure(p.time_ms / best.time_ms)} times as long" for p in sides[1:]]
    return [f"{where}: {'; '.join(times)}.{_beyond(group, T)}{_crossing(panel.met)}", _cost(best, sides[1:])]


def _where(setting: Setting, T: int) -> str:
    K, V = setting.axes["K"], setting.axes["V"]
    dims = f"K = V = {K}" if K == V else f"K = {K}, V = {V}"
    return f"T = {T:,}, {dims}, {setting.facets['dtype']}, {PASS_NAMES.get(setting.pass_, clean(setting.pass_))}"


def _name(point: Point) -> str:
    return f"{point.label} ({ORIGINS.get(point.origin, clean(point.origin) or 'of unknown origin')})"


def _telling_length(group: Group) -> int:
    """The longest T at which both kinds have a time; the longest of all where only one kind was measured."""
    linear, quadratic = ({p.T for p in group.points if getattr(p, kind)} for kind in ("linear", "quadratic"))
    return max(linear & quadratic or {point.T for point in group.points})


def _sides(points: Iterable[Point]) -> list[Point]:
    """The fastest of ours, of peers and of plain PyTorch, linear and quadratic apart; the fastest first."""
    best: dict[tuple[str, bool], Point] = {}
    for point in points:
        side = point.origin, point.quadratic
        if side not in best or point.time_ms < best[side].time_ms:
            best[side] = point
    return sorted(best.values(), key=lambda point: point.time_ms)


def _beyond(group: Group, T: int) -> str:
    longest = max(point.T for point in group.points)
    if longest == T:
        return ""
    point = min((point for point in group.points if longest == point.T), key=lambda point: point.time_ms)
    return f" The longest T is {longest:,}, at which {point.label} takes {figure(point.time_ms)} ms."


def _crossing(met: Sequence[Crossing]) -> str:
    if not met:
        return ""
    first = met[0]
    predicted = ""
    if first.predicted:
        predicted = f"; predicted {first.predicted_how}: {without_range(first.predicted.says)}"
    smaller = f"; needs less memory: {without_range(first.memory.says)}" if first.memory else ""
    return f" {first.linear} is faster than {first.quadratic}: {first.time.says}{predicted}{smaller}."


def without_range(says: str) -> str:
    """A verdict's words without the range that it holds for."""
    return says.partition(" (")[0]


def _cost(best: Point, others: Sequence[Point]) -> str:
    """How far from the roof the fastest is, and what it takes in memory and accuracy, beside the next one."""
    next_ = others[0] if others else None
    parts = []
    if best.roof_pct == best.roof_pct:
        parts.append(
            f"reaches {figure(best.roof_pct)} % of the roofline{f' (bound by {best.bound})' if best.bound else ''}"
        )
    if best.memory_mib == best.memory_mib:
        beside = f" ({next_.label}: {figure(next_.memory_mib)})" if next_ and next_.memory_mib > 0 else ""
        parts.append(f"allocates {figure(best.memory_mib)} MiB beyond its inputs{beside}")
    if best.error == best.error:
        beside = f" ({next_.label}: {next_.error:.1e})" if next_ and next_.error == next_.error else ""
        parts.append(f"has an error of {best.error:.1e} against the oracle{beside}")
    return f"{best.label} {_joined(parts)}." if parts else f"Only the time of {best.label} is known."


def _joined(parts: Sequence[str]) -> str:
    """`a`, `a and b`, or `a, b and c`."""
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def _missing(timed: Sequence[Row]) -> list[str]:
    """One sentence: how many timed cases have no time, by status, each with its most frequent reason."""
    lacking = [row for row in timed if row["status"] != "ok"]
    if not lacking:
        return []
    rank = {status: i for i, status in enumerate(STATUSES)}
    groups = sorted(by(lacking, "status").items(), key=lambda item: -rank.get(item[0][0], 0))
    parts = [f"{len(rows):,} {clean(status)} ({_often(rows)})" for (status,), rows in groups]
    return [f"{len(lacking):,} of {len(timed):,} timed cases have no time: {', '.join(parts)}."]


def _host_bound(timed: Sequence[Row]) -> list[str]:
    """How many times are the host's, and whose: what a faster kernel would not change."""
    measured = [row for row in timed if row["status"] == "ok"]
    bound = [row for row in measured if row["record"].get("host_bound") is True]
    if not bound:
        return []
    names = sorted({f"{clean(row['operator'])}/{clean(row['implementation'])}" for row in bound})
    listed = ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED} others" if names[LISTED:] else "")
    return [
        f"{len(bound):,} of {len(measured):,} times are bound by the host: the GPU waited for launches, so they say "
        f"nothing of the kernels ({listed})."
    ]


def _often(rows: Sequence[Row]) -> str:
    reasons = Counter(row["reason"] for row in rows)
    reason, _ = reasons.most_common(1)[0]
    often = "mostly: " if len(reasons) > 1 else ""
    return f"{often}{clean(reason, 90) or 'no reason was recorded'}"


def _tuning(timed: Sequence[Row]) -> list[str]:
    """One sentence: what each origin was tuned, so that a reader sees whether the sides had the same chance."""
    ok = [row for row in timed if row["status"] == "ok"]
    parts = [f"{ORIGINS[o]}: {_tuned([row for row in ok if row['origin'] == o])}" for o in ORIGINS if _any(ok, o)]
    return [f"Tuning per side: {'; '.join(parts)}."] if parts else []


def _any(rows: Sequence[Row], origin: str) -> bool:
    return any(row["origin"] == origin for row in rows)


def _tuned(rows: Sequence[Row]) -> str:
    swept: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row["settings"]:
            swept.setdefault(name, set()).add(str(value))
    parts = [f"{clean(name)} {', '.join(sorted(each, key=_natural)[:6])}" for name, each in swept.items()]
    kernels = [each for row in rows for each in _kernels(row)]
    seconds = sum(row["tuning.seconds"] for row in rows if row["tuning.seconds"] > 0)
    if kernels:
        tried = sum(int(n) for each in kernels if isinstance(n := each.get("candidates"), int | float))
        parts.append(f"{tried:,} configurations in {len(kernels):,} autotuned kernels, {figure(seconds)} s")
    return ", ".join(parts) or "none"


def _natural(text: str) -> tuple[int, str]:
    return len(text), text


def _kernels(row: Row) -> list[Mapping[str, Any]]:
    found = row["record"].get("tuning.kernels")
    return [each for each in found.values() if isinstance(each, Mapping)] if isinstance(found, Mapping) else []
