"""`subquad validate`: how far predicted times are from published ones."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from suite.cli import values
from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    from suite.validating.judging import Compared, Family, Validation
    from suite.validating.published import Point

FAMILY_COLUMNS = ("implementation", "GPU", "pass", "points", "median", "spread", "tau", "over floor", "aim")
WORST_COLUMNS = ("implementation", "GPU", "pass", "shape", "published ms", "predicted ms", "ratio", "bound", "source")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--op", type=values.words, default=(), metavar="NAMES", help="only these operators")
    parser.add_argument("--impl", type=values.words, default=(), metavar="NAMES", help="only these implementations")
    parser.add_argument("--gpu", default="", metavar="TEXT", help="only GPUs whose name has this in it")
    parser.add_argument(
        "--pass", dest="passes", type=values.words, default=(), metavar="NAMES", help="only these passes"
    )
    parser.add_argument(
        "--part",
        choices=("all", "seen", "held-out"),
        default="all",
        help="seen: timings that may be looked at when the model is changed; held-out: the others; default: all",
    )
    parser.add_argument("--refresh", action="store_true", help="predict again, without using stored profiles")
    parser.add_argument(
        "--budget",
        type=values.budget,
        metavar="TIME",
        help="time limit, such as 90s, 8m or 1h30m; what it leaves no time for is listed, stored profiles are used",
    )
    parser.add_argument("--jobs", type=values.count, default=2, metavar="N", help="number of processes that compile")
    parser.add_argument("--format", choices=("table", "md"), default="table", help="md: Markdown, for a page")
    parser.add_argument(
        "--write",
        action="store_true",
        help="write docs/predicted-time.md and results/published/spreads.json; takes all timings",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def run(args: argparse.Namespace) -> Exit:
    from suite.discovery import discover
    from suite.running.budget import Budget
    from suite.static.pool import take_profiles
    from suite.static.progress import shown
    from suite.validating.judging import Validation, compared
    from suite.validating.published import comparable, points, task_of
    from suite.validating.writing import write

    if args.write and (args.op or args.impl or args.gpu or args.passes or args.part != "all"):
        raise UsageError("--write takes all timings: remove --op, --impl, --gpu, --pass and --part")
    registry = discover()
    published = points()
    chosen = [point for point in published if _wanted(args, point)]
    if not chosen:
        raise UsageError(_nothing(args, published))
    good, left = comparable(chosen, registry)
    tasks = [task_of(point, registry) for point in good]
    distinct = {(task.case.case_id, task.target.name): task for task in tasks}
    profiles = dict(
        zip(
            distinct,
            take_profiles(
                list(distinct.values()),
                jobs=args.jobs,
                progress=shown,
                refresh=args.refresh,
                budget=Budget(args.budget),
            ),
            strict=True,
        )
    )
    found = [
        compared(point, profiles[task.case.case_id, task.target.name]) for point, task in zip(good, tasks, strict=True)
    ]
    for each in found:
        if each.reason:
            left[each.reason] = left.get(each.reason, 0) + 1
    validation = Validation(found, left)
    if args.write:
        write(validation, "".join(f"{line}\n" for line in _lines(validation)), compiler())
        print(f"{len(found)} timings compared: docs/predicted-time.md and results/published/spreads.json are written")
    elif args.json:
        print(json.dumps(validation.to_json()))
    else:
        _show(args, validation)
    return Exit.PASS


def compiler() -> str:
    """The compiler whose code was looked at."""
    from importlib.metadata import version

    import triton

    return f"Triton {triton.__version__}, fla-core {version('fla-core')}"


def _wanted(args: argparse.Namespace, point: Point) -> bool:
    return (
        (not args.op or point.row["operator"] in args.op)
        and (not args.impl or point.row["implementation"] in args.impl or point.name in args.impl)
        and args.gpu.lower() in point.gpu.lower()
        and (not args.passes or point.pass_ in args.passes)
        and (args.part == "all" or point.held_out == (args.part == "held-out"))
    )


def _nothing(args: argparse.Namespace, published: list[Point]) -> str:
    """Which flag leaves no published timing, by itself or only with the others, and what it might have named."""
    known = {
        "--op": (args.op, {point.row["operator"] for point in published}),
        "--impl": (args.impl, {point.row["implementation"] for point in published}),
        "--pass": (args.passes, {point.pass_ for point in published}),
        "--gpu": ([args.gpu] if args.gpu else [], {point.gpu for point in published}),
    }
    names = {flag: ",".join(given) for flag, (given, _) in known.items() if given}
    for flag, (given, there) in known.items():
        alone = argparse.Namespace(**{**_EVERYTHING, _FLAGS[flag]: args.gpu if flag == "--gpu" else given})
        if given and not any(_wanted(alone, point) for point in published):
            return f"no published timing has {flag} {names[flag]}; there are {', '.join(sorted(there - {''}))}"
    told = " ".join(f"{flag} {text}" for flag, text in names.items())
    return f"no published timing has all of {told} --part {args.part}; leave one out"


_FLAGS = {"--op": "op", "--impl": "impl", "--pass": "passes", "--gpu": "gpu"}
_EVERYTHING = {"op": (), "impl": (), "passes": (), "gpu": "", "part": "all"}


def _show(args: argparse.Namespace, validation: Validation) -> None:
    from suite.cli.tables import print_table

    if args.format == "md":
        print("\n".join(_lines(validation)))
        return
    for title, columns, rows in _tables(validation):
        print(f"{title}\n")
        print_table(columns, rows)
        print()
    for line in _left(validation):
        print(line)


def _lines(validation: Validation) -> Iterator[str]:
    """The tables in Markdown."""
    from suite.store.text import in_plain_cell

    yield f"Compiled by {compiler()}."
    for title, columns, rows in _tables(validation):
        yield ""
        yield f"### {title}"
        for row in (list(columns), ["---"] * len(columns), *rows):
            yield f"| {' | '.join(map(in_plain_cell, row))} |"
    yield ""
    yield "### Published timings without a prediction"
    yield from (f"- {line}" for line in _left(validation))


def _tables(validation: Validation) -> Iterator[tuple[str, tuple[str, ...], list[list[str]]]]:
    from suite.validating.judging import families, worst

    found = families(validation.compared)
    for held_out, title in ((False, "Timings that may be looked at"), (True, "Held-out timings")):
        if rows := [_family_row(each) for each in found if each.held_out == held_out]:
            yield title, FAMILY_COLUMNS, rows
    if rows := [_worst_row(each) for each in worst(validation.compared)]:
        yield "Furthest from their prediction", WORST_COLUMNS, rows


def _left(validation: Validation) -> Iterator[str]:
    for reason, count in sorted(validation.left.items(), key=lambda pair: -pair[1]):
        yield f"{count}: {reason}"


def _family_row(each: Family) -> list[str]:
    aim = {True: "met", False: "missed", None: "few"}[each.good]
    return [
        each.name,
        each.gpu,
        each.pass_,
        str(each.count),
        f"{each.median:.2f}",
        f"x{each.spread:.2f}",
        "-" if each.tau is None else f"{each.tau:.3f}",
        "-" if each.floor_median is None else f"{each.floor_median:.2f}",
        aim,
    ]


def _worst_row(each: Compared) -> list[str]:
    point = each.point
    return [
        point.name,
        point.gpu,
        point.pass_,
        point.shape,
        point.row["ms"],
        f"{each.predicted:.3f}",
        f"{each.ratio:.2f}",
        each.bound,
        point.row["source"],
    ]
