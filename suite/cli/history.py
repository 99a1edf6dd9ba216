"""`subquad history`: where the time of a case changed over the commits of stored runs, and which commits to blame."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli import values
from suite.errors import Exit

if TYPE_CHECKING:
    from suite.history.changes import Change, Drift
    from suite.history.series import Series

COLUMNS = ("change", "case", "mode", "ratio", "first slower or faster", "may be from", "to", "chance of noise")
# Digits of a commit that are shown.
DIGITS = 10


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", type=Path, nargs="*", metavar="RUNS", help="runs, or folders of runs; default: results/local"
    )
    parser.add_argument("--machine", default="", metavar="NAME", help="whose runs, where they are of several machines")
    parser.add_argument("--op", type=values.words, default=(), metavar="NAMES", help="operators to look at")
    parser.add_argument("--impl", type=values.words, default=(), metavar="NAMES", help="implementations to look at")
    parser.add_argument(
        "--alpha",
        type=values.chance,
        default=0.02,
        metavar="P",
        help="chance of a false step in one series (default: %(default)g)",
    )
    parser.add_argument("--fail", action="store_true", help="exit with 1 if a case is slower since a step")
    parser.add_argument("--json", action="store_true", help="print JSON: each series with its points and changes")


def run(args: argparse.Namespace) -> Exit:
    from suite.history.changes import LEAST
    from suite.history.series import gather

    history = gather(args.paths or [Path("results/local")], args.machine)
    chosen = [series for series in history.series if _wanted(args, series)]
    found = [(series, each) for series in chosen for each in series.found(args.alpha)]
    for wrong in history.passed_over:
        print(f"note: passed over: {wrong}", file=sys.stderr)
    if args.json:
        _print_json(history.machine, chosen, found)
    else:
        print(f"{history.machine}: {history.runs} runs of {len(history.commits)} commits, {len(chosen)} series")
        _print_table(found)
        if short := sum(len(series.points) < 2 * LEAST for series in chosen):
            print(f"{short} of {len(chosen)} series have fewer than {2 * LEAST} commits: too few to see a change")
    slower = any(_is_step(each) and each.ratio > 1 for _, each in found)
    return Exit.REGRESSION if args.fail and slower else Exit.PASS


def _wanted(args: argparse.Namespace, series: Series) -> bool:
    operator, implementation, *_ = series.case_id.split("/")
    return (not args.op or operator in args.op) and (not args.impl or implementation in args.impl)


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
            places = [points[at].commit[:DIGITS] for at in (each.at, each.low, each.high)]
            rows.append((way, series.case_id, series.mode, f"{each.ratio:.3f}", *places, f"{each.p:.1g}"))
        else:
            ends = [points[at].commit[:DIGITS] for at in (each.first, each.last)]
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
