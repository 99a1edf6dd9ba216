"""`subquad crossover`: from which length linear implementations are faster, or need less memory, than quadratic."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli.selection import add_discovery
from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    from suite.crossover import Verdict
    from suite.reporting.data.crossings import Crossing
    from suite.reporting.data.groups import Group
    from suite.reporting.data.points import Point

# Each round halves every bracket in log T: after this many, lengths that were twice apart are 1.5 % apart.
ROUNDS = 6
BEST = 3


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", type=Path, metavar="RUN", help="a stored run with times of linear and quadratic implementations"
    )
    parser.add_argument("--linear", metavar="OP/IMPL", help="only this linear implementation; default: all")
    parser.add_argument("--quadratic", metavar="OP/IMPL", help="only this quadratic implementation; default: all")
    parser.add_argument(
        "--all", action="store_true", help=f"list every pair; default: the {BEST} fastest of each setting"
    )
    parser.add_argument(
        "--refine", action="store_true", help="measure more lengths around each crossing and add them to the run"
    )
    parser.add_argument(
        "--resume-anyway", action="store_true", help="refine although the commit or machine differs, and mark the run"
    )
    add_discovery(parser)
    parser.add_argument("--json", action="store_true", help="print JSON lines instead of a table")


def run(args: argparse.Namespace) -> Exit:
    found = _found(args)
    if not found:
        raise UsageError(
            f"{args.folder} has no linear and quadratic implementation timed at one length and setting; "
            "measure both, as by `subquad bench --preset cpu --op linear_attention,softmax_attention`"
        )
    for _ in range(ROUNDS if args.refine else 0):
        lengths = _measured(args, found)
        if not lengths:
            break
        found = _found(args)
    if args.json:
        for setting, each in found:
            print(json.dumps(_as_json(setting, each)))
    else:
        _print(found)
    return Exit.PASS


def _found(args: argparse.Namespace) -> list[tuple[Group, Crossing]]:
    from suite.reporting.data.crossings import crossings
    from suite.reporting.data.frame import normalise, read
    from suite.reporting.data.groups import gather

    runs = read([args.folder])
    found = []
    for group in gather(normalise(runs)):
        pairs = [each for each in crossings(group, runs) if _asked(args, each)]
        found += [(group, each) for each in (pairs if args.all or args.linear or args.quadratic else pairs[:BEST])]
    return found


def _asked(args: argparse.Namespace, each: Crossing) -> bool:
    return args.linear in (None, each.linear) and args.quadratic in (None, each.quadratic)


def _print(found: Sequence[tuple[Group, Crossing]]) -> None:
    from suite.cli.tables import print_table
    from suite.reporting.data.summary import CROSSINGS, crossing_row

    print_table(CROSSINGS, [crossing_row(group, each) for group, each in found])


def _as_json(group: Group, each: Crossing) -> dict[str, Any]:
    def part(verdict: Verdict | None) -> dict[str, Any] | None:
        return verdict and {"says": verdict.says, "meetings": [asdict(meeting) for meeting in verdict.meetings]}

    return {
        "setting": group.setting.facets,
        "linear": each.linear,
        "quadratic": each.quadratic,
        "time": part(each.time),
        "predicted": part(each.predicted),
        "predicted_how": each.predicted_how if each.predicted else None,
        "memory": part(each.memory),
    }


def _measured(args: argparse.Namespace, found: Iterable[tuple[Group, Crossing]]) -> list[int]:
    """Measure, into the run, each length that narrows a bracket; the lengths, none when all are narrow."""
    from suite.crossover.bisecting import next_lengths

    done = []
    for group, each in found:
        for T in next_lengths(each.shared):
            print(f"T = {T:,}: {each.linear} against {each.quadratic}, {group.setting.title}", file=sys.stderr)
            _bench(args, group, each, T)
            done.append(T)
    return done


def _axis_words(args: argparse.Namespace, points: Sequence[Point]) -> list[str]:
    """`--axis NAME=V,…` for the own axes at which the lines were measured, where these are not the defaults."""
    from suite.discovery import discover
    from suite.reporting.data.reproducing import listed_words

    registry = discover(load=args.load)
    values: dict[str, dict[Any, None]] = {}
    told = set()
    for point in points:
        tokens = point.axes.split(", ")
        for axis in registry.operator(point.operator).axes:
            value = next((each for each in axis.values if axis.token(each) in tokens), axis.default)
            values.setdefault(axis.name, {})[value] = None
            told |= {axis.name} if value != axis.default else set()
    return [word for name in sorted(told) for word in listed_words("--axis", name, values[name])]


def _bench(args: argparse.Namespace, group: Group, each: Crossing, T: int) -> None:
    """The two implementations of a pair at one more length, by `bench --extend`: same worker, checks and rules."""
    from suite.cli import main
    from suite.reporting.data.reproducing import problem_words

    words = ["--preset", "smoke", *problem_words(group.setting, T), "--mode", group.setting.mode]
    words += _axis_words(args, [group.lines[label][0] for label in (each.linear, each.quadratic)])
    loads = [word for path in args.load for word in ("--load", str(path))]
    names = [label.partition(" · ")[0] for label in (each.linear, each.quadratic)]
    operators = ",".join(name.partition("/")[0] for name in names)
    code = main(
        [
            "bench",
            *loads,
            "--extend",
            str(args.folder),
            "--op",
            operators,
            "--impl",
            ",".join(names),
            *words,
            "--rep",
            "250",
            "--warmup",
            "10",
            "--no-report",
            "--no-static",
            *(["--resume-anyway"] if args.resume_anyway else []),
        ]
    )
    if code:
        raise UsageError(f"T = {T:,} could not be measured into {args.folder}; see the lines above")
