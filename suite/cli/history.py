"""`subquad history`: where the time of a case changed over commits, and which of them to blame.

Of stored runs by their measured times; with --static by the predicted times of kernels that are compiled here.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli import values
from suite.cli.selection import add_selection, selected
from suite.errors import Exit, UsageError, unknown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from suite.history.changes import Change, Drift
    from suite.history.revisions import Figures, Revision
    from suite.history.series import Series

COLUMNS = ("change", "case", "mode", "ratio", "first slower or faster", "may be from", "to", "chance of noise")
# Digits of a commit that are shown.
DIGITS = 10
PRESET, BARS = "registry", "▁▂▃▄▅▆▇█"
# Flags of stored runs; the others select what is compiled.
_OF_RUNS = frozenset({"paths", "machine", "op", "impl", "alpha", "fail", "json", "static"})


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", type=Path, nargs="*", metavar="RUNS", help="runs, or folders of runs; default: results/local"
    )
    parser.add_argument("--machine", default="", metavar="NAME", help="whose runs, where they are of several machines")
    add_selection(parser, PRESET)
    parser.add_argument(
        "--static",
        metavar="REV..REV",
        help="compile the kernels of each revision instead, and predict their time; no run and no GPU is needed",
    )
    parser.add_argument(
        "--arch", type=values.words, default=("sm_90",), metavar="NAMES", help="architectures to compile for"
    )
    parser.add_argument("--jobs", type=values.count, default=2, metavar="N", help="number of processes that compile")
    parser.add_argument(
        "--alpha",
        type=values.chance,
        metavar="P",
        help="chance of a false step in one series; default: 0.02",
    )
    parser.add_argument(
        "--fail", action="store_true", help="exit with 1 if a case of the runs is slower at the end than it has been"
    )
    parser.add_argument("--json", action="store_true", help="print JSON: each series with its points and changes")


def run(args: argparse.Namespace) -> Exit:
    return _of_revisions(args) if args.static else _of_runs(args)


def _of_runs(args: argparse.Namespace) -> Exit:
    from suite.history.changes import ALPHA, LEAST
    from suite.history.series import gather

    _refuse(args)
    history = gather(args.paths or [Path("results/local")], args.machine)
    chosen = _wanted(args, history.series)
    by_series = [(series, series.found(args.alpha or ALPHA)) for series in chosen]
    found = [(series, each) for series, changes in by_series for each in changes]
    for wrong in history.passed_over:
        print(f"note: passed over: {wrong}", file=sys.stderr)
    if args.json:
        _print_json(history.machine, chosen, found)
    else:
        counts = (_counted(history.runs, "run"), _counted(len(history.commits), "commit"), len(chosen))
        print("{}: {} of {}, {} series".format(history.machine, *counts))
        _print_table(found)
        if short := sum(len(series.points) < 2 * LEAST for series in chosen):
            print(f"{short} of {len(chosen)} series have fewer than {2 * LEAST} commits: too few to see a change")
    slower = any(series.is_slower(changes) for series, changes in by_series)
    return Exit.REGRESSION if args.fail and slower else Exit.PASS


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def _short(commit: str) -> str:
    """A commit as a table shows it; whether files differed from it stays."""
    revision, dash, dirty = commit.partition("-")
    return revision[:DIGITS] + dash + dirty


def _refuse(args: argparse.Namespace) -> None:
    """UsageError for flags that select what is compiled: stored runs hold what was measured."""
    parser = argparse.ArgumentParser(add_help=False)
    configure(parser)
    for action in parser._actions:
        if action.dest not in _OF_RUNS and getattr(args, action.dest) != action.default:
            flag = action.option_strings[0]
            raise UsageError(f"{flag} goes with --static; of stored runs choose by --op and --impl")


def _of_revisions(args: argparse.Namespace) -> Exit:
    from suite.discovery import discover
    from suite.history.revisions import commits_of, static_history
    from suite.static.progress import shown
    from suite.static.tasks import Task

    if args.paths or args.machine:
        raise UsageError("--static compiles revisions: leave out runs and --machine")
    if args.fail or args.alpha is not None:
        flag = "--fail" if args.fail else "--alpha"
        raise UsageError(f"{flag} is of stored runs; `subquad static --base REV` judges predicted times by exit code")
    registry = discover(load=args.load)
    commits = commits_of(args.static)
    _, groups = selected(args, registry, PRESET)
    tasks = [
        Task(case, arch, issued=False)
        for arch in args.arch
        for group in groups
        for case in group.cases
        if registry.implementation(case.operator, case.implementation).origin == "ours"
    ]
    if not tasks:
        raise UsageError("the flags select none of our kernels: choose others with --op, --impl or --pass")
    print(f"{len(commits)} revisions, {len(tasks)} cases", file=sys.stderr)
    found = static_history(commits, tasks, jobs=args.jobs, progress=shown)
    if args.json:
        print(json.dumps([asdict(each) for each in found], indent=1))
        return Exit.PASS
    _print_revisions(found)
    return Exit.PASS


def _print_revisions(found: list[Revision]) -> None:
    """Each case over the revisions, then what changed at which."""
    from suite.cli.tables import print_table

    rows, steps = [], []
    for name in dict.fromkeys(name for each in found for name in each.cases):
        case = [each.cases.get(name) for each in found]
        times = [each.predicted_ms if each else None for each in case]
        known = [ms for ms in times if ms]
        ratio = known[-1] / known[0] if known else None
        first, last = (f"{ms * 1e3:.1f}" if ms else "-" for ms in (times[0], times[-1]))
        rows.append((name, sparkline(times), first, last, f"{ratio:.2f}" if ratio else "-"))
        for at in range(1, len(found)):
            if told := _change(case[at - 1], case[at]):
                steps.append((found[at].commit[:DIGITS], name, told, found[at].subject))
    print_table(("case", "predicted", "first us", "last us", "ratio"), rows)
    print()
    if steps:
        order = {each.commit[:DIGITS]: at for at, each in enumerate(found)}
        print_table(("commit", "case", "what changed", "subject"), sorted(steps, key=lambda step: order[step[0]]))
    else:
        print("no kernel changed")


def _change(old: Figures | None, new: Figures | None) -> str:
    """What differs between two revisions of a case, "" where nothing does."""
    if old == new:
        return ""
    if old is None or new is None:
        return "is new" if old is None else "is gone"
    if old.status != new.status:
        return f"{old.status} -> {new.status}{f': {new.reason}' if new.reason else ''}"
    told = []
    if old.predicted_ms and new.predicted_ms and old.predicted_ms != new.predicted_ms:
        ratio = new.predicted_ms / old.predicted_ms
        told.append(f"{old.predicted_ms * 1e3:.1f} -> {new.predicted_ms * 1e3:.1f} us (x{ratio:.2f})")
    for name in ("instructions", "spill_bytes", "traffic_bytes"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            told.append(f"{name.replace('_', ' ')} {before} -> {after}")
    return ", ".join(told)


def sparkline(values: Sequence[float | None]) -> str:
    """A line of eight heights, from the least value to the largest; a space where there is none."""
    known = [value for value in values if value is not None]
    low, high = min(known, default=0.0), max(known, default=0.0)
    span = high - low or 1.0
    return "".join(" " if value is None else BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)


def _wanted(args: argparse.Namespace, series: Sequence[Series]) -> list[Series]:
    """The series that --op and --impl select; UsageError for a name that none of them has."""
    names = [tuple(each.case_id.split("/")[:2]) for each in series]
    operators = {operator for operator, _ in names}
    made = {made for _, made in names} | {"/".join(name) for name in names}
    for kind, given, known in (("operator", args.op, operators), ("implementation", args.impl, made)):
        for name in given:
            if name not in known:
                raise unknown(f"{kind} of these runs", name, known)
    return [
        each
        for each, (operator, own) in zip(series, names, strict=True)
        if (not args.op or operator in args.op) and (not args.impl or {own, f"{operator}/{own}"} & set(args.impl))
    ]


def _is_step(each: Change | Drift) -> bool:
    from suite.history.changes import Change

    return isinstance(each, Change)


def _print_table(found: list[tuple[Series, Any]]) -> None:
    from suite.cli.tables import print_table

    rows = []
    for series, each in sorted(found, key=lambda pair: -abs(pair[1].ratio - 1)):
        way = "slower" if each.ratio > 1 else "faster"
        points = series.points
        if _is_step(each):
            places = [_short(points[at].commit) for at in (each.at, each.low, each.high)]
            rows.append((way, series.case_id, series.mode, f"{each.ratio:.3f}", *places, f"{each.p:.1g}"))
        else:
            ends = [_short(points[at].commit) for at in (each.first, each.last)]
            rows.append((f"{way}, slowly", series.case_id, series.mode, f"{each.ratio:.3f}", "-", *ends, "-"))
    if rows:
        print_table(COLUMNS, rows)
    else:
        print("no change")


def _print_json(machine: str, chosen: list[Series], found: list[tuple[Series, Any]]) -> None:
    told = []
    for series in chosen:
        own = [each for of, each in found if of is series]
        told.append(
            {
                **asdict(series),
                "steps": [asdict(each) for each in own if _is_step(each)],
                "drifts": [asdict(each) for each in own if not _is_step(each)],
            }
        )
    print(json.dumps({"machine": machine, "series": told}, indent=1))
