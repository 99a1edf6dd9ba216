"""`subquad gate`: is this tree, or this run, slower, larger or less accurate? The exit code says. See docs/gate.md.

subquad gate --base REV                       this tree against another revision, measured here and now
subquad gate --baseline RUN --candidate RUN   one stored run against another
subquad gate --calibrate                      every case against itself: what this machine's times do by themselves
subquad gate --promises                       simulate the decisions: how often they are wrong
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from suite.cli import values
from suite.cli.selection import add_selection, selected, selection_of
from suite.cli.static import add_fail_on
from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    from suite.gating import Limits, Report
    from suite.gating.calibration import Calibrated
    from suite.gating.options import Options, Plan
    from suite.running.budget import Budget

OUTPUTS = ("--json", "--markdown", "--junit", "--html")
# A round times each revision for this part of the preset's `rep_ms`.
ROUND_PART = 0.5
# An A/A floor above it says more about what else the machine did.
BUSY = 0.1
# Of a budget, for starting Python, sorting, writing and printing: this part, or so many seconds.
RESERVE, RESERVE_S = 0.05, 5.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Flags of `gate`."""
    group = parser.add_argument_group("what to gate: one of")
    group.add_argument(
        "--base", metavar="REV", help="compare this tree with a commit, branch or tag; both are measured now"
    )
    group.add_argument("--baseline", metavar="RUN", help="the stored run from before the change; needs --candidate")
    group.add_argument("--candidate", metavar="RUN", help="the stored run from after the change")
    group.add_argument(
        "--calibrate",
        action="store_true",
        help="measure each case against itself; store its noise, A/A floor, correlation of rounds and level",
    )
    group.add_argument(
        "--promises", action="store_true", help="simulate the decisions and print how often they are wrong (minutes)"
    )
    _add_judging(parser)
    _add_measuring(parser)
    group = parser.add_argument_group("what to write")
    group.add_argument("--json", type=Path, metavar="FILE", help="write the report as JSON")
    group.add_argument("--markdown", type=Path, metavar="FILE", help="write it as Markdown, for a step summary")
    group.add_argument("--junit", type=Path, metavar="FILE", help="write it as JUnit XML")
    group.add_argument("--html", type=Path, metavar="FILE", help="write a page that draws the rounds of each case")
    add_selection(parser)


def _add_judging(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to judge")
    group.add_argument(
        "--margin",
        type=values.allowance("--margin", "per cent"),
        default=2.0,
        metavar="PERCENT",
        help="slowdown to allow, in per cent (default: %(default)g)",
    )
    group.add_argument(
        "--min-difference",
        type=values.allowance("--min-difference", "microseconds"),
        default=2.0,
        metavar="US",
        help="difference to allow, in microseconds (default: %(default)g)",
    )
    group.add_argument(
        "--allow-env-mismatch", action="store_true", help="compare the runs even if their environments differ"
    )


def _add_measuring(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how to measure, with --base and --calibrate")
    group.add_argument("--device", choices=("cuda", "cpu"), help="default: cuda if there is a GPU, else cpu")
    group.add_argument("--all", action="store_true", help="also measure cases whose code has not changed")
    group.add_argument(
        "--rounds",
        type=values.count,
        default=64,
        metavar="N",
        help="largest number of rounds per case, and of fresh rounds to confirm it (default: %(default)d)",
    )
    group.add_argument(
        "--budget",
        type=values.budget,
        metavar="TIME",
        help="time limit, such as 90s, 8m or 1h30m; lists what was left out",
    )
    group.add_argument("--mode", metavar="NAME", help="timer, such as cold-events or warm-graph (CUDA)")
    group.add_argument(
        "--rep", type=values.span, metavar="MS", help="time that a round samples each revision of a case, in ms"
    )
    group.add_argument(
        "--seed", type=values.seed, default=0, metavar="N", help="seed of the inputs and of the rounds' order"
    )
    group.add_argument(
        "--timeout",
        type=values.span,
        default=300.0,
        metavar="S",
        help="stop a case that reports nothing for S seconds",
    )
    group.add_argument(
        "--arch", type=values.filled, default="sm_90", metavar="NAME", help="without a GPU: architecture to compile for"
    )
    group.add_argument("--no-static", action="store_true", help="do not compile and compare Triton kernels")
    add_fail_on(group)


def run(args: argparse.Namespace) -> Exit:
    """Print the verdicts, write the files asked for, and return the gate's exit code."""
    if args.calibrate or args.promises:
        _refuse_mixtures(args)
        return _calibrate(args) if args.calibrate else _promises()
    report = judged(args)
    _print(report)
    return report.exit


def judged(args: argparse.Namespace) -> Report:
    """The report of what the flags gate; the files that they name are written."""
    _refuse_mixtures(args)
    report = replace(_against_revision(args) if args.base is not None else _stored(args), reproduce=_reproduce())
    _write(args, report)
    return report


def _refuse_mixtures(args: argparse.Namespace) -> None:
    stored = args.baseline is not None or args.candidate is not None
    if (args.base is not None) + stored + args.calibrate + args.promises != 1:
        raise UsageError("gate one thing: --base REV, --baseline RUN with --candidate RUN, --calibrate or --promises")
    if stored and (args.baseline is None or args.candidate is None):
        raise UsageError("two stored runs are gated: give both --baseline RUN and --candidate RUN")


def _limits(args: argparse.Namespace) -> Limits:
    from suite.gating import Limits

    return Limits(margin=args.margin / 100, min_difference_us=args.min_difference)


def _stored(args: argparse.Namespace) -> Report:
    from suite.gating import gate

    return gate(args.baseline, args.candidate, limits=_limits(args), allow_env_mismatch=args.allow_env_mismatch)


def _against_revision(args: argparse.Namespace) -> Report:
    from suite.gating.revision import gate_revision
    from suite.static.revisions import commit_of

    budget = _budget(args)
    # A wrong name is told before anything is imported or measured.
    commit_of(args.base)
    plan, options = _plan(args, budget)
    return gate_revision(args.base, plan, options)


def _budget(args: argparse.Namespace) -> Budget:
    """The budget, its clock started: made before anything that takes time."""
    from suite.running.budget import Budget

    if args.budget is None:
        return Budget()
    return Budget(args.budget, reserve=min(RESERVE * args.budget, RESERVE_S))


def _plan(args: argparse.Namespace, budget: Budget) -> tuple[Plan, Options]:
    from suite.cli.sweeping import device_of
    from suite.discovery import discover
    from suite.gating.options import Options, Plan
    from suite.gating.rounds import RoundSettings
    from suite.gating.sequential_test import looks_up_to
    from suite.measuring.timers import DEFAULT_MODES, modes
    from suite.static.progress import shown
    from suite.static.stub_driver import target_of

    load = tuple(str(Path(path).resolve()) for path in args.load)
    registry = discover(load=load)
    device = device_of(args)
    mode = args.mode or DEFAULT_MODES[device]
    if mode not in modes(device):
        raise UsageError(f"unknown mode '{mode}' on {device}; known: {', '.join(modes(device))}")
    target_of(args.arch)
    default = "gpu" if device == "cuda" else "cpu"
    preset, groups = selected(args, registry, default)
    rep_ms = args.rep if args.rep is not None else preset.rep_ms * ROUND_PART
    terms = RoundSettings(device, mode, preset.warmup_ms, rep_ms, args.seed, values.drawn_pick())
    options = Options(
        terms,
        _limits(args),
        looks_up_to(args.rounds),
        budget,
        args.timeout,
        args.all,
        not args.no_static,
        args.arch,
        progress=shown,
        fail_on=args.fail_on,
    )
    name = args.preset or default
    # Workers run in another folder.
    place = str(Path(name).resolve()) if name.endswith(".toml") else name
    return Plan(registry, groups, place, selection_of(args), load), options


def _reproduce() -> str:
    """This command without the files that it writes."""
    words, kept = sys.argv[1:], list[str]()
    while words:
        word = words.pop(0)
        if word in OUTPUTS and words:
            words.pop(0)
        elif word.partition("=")[0] not in OUTPUTS:
            kept.append(word)
    return shlex.join(["subquad", *kept])


def _calibrate(args: argparse.Namespace) -> Exit:
    from suite.cli.tables import print_table
    from suite.gating.calibration import calibrate

    plan, options = _plan(args, _budget(args))
    found = calibrate(plan, options)
    rows = [_row(each) for each in found]
    print_table(("case", "rounds", "noise", "rho", "floor", "days", "shift between days", "reason"), rows)
    kept = [each for each in found if each.found]
    print(
        f"stored in the A/A history of this machine: {len(kept)} of {len(found)} cases; the gate takes margins, the "
        "correlation of rounds (rho) and, for stored runs, the shift between days from it"
    )
    if blind := [each for each in kept if each.found and each.found.floor > BUSY]:
        print(
            f"{len(blind)} of the A/A floors are above {BUSY:.0%}, so no smaller slowdown is seen there; was the "
            "machine busy? Calibrate again when it is idle",
            file=sys.stderr,
        )
    if any(each.past and each.past.shift is None for each in kept):
        print("the shift between days is not known yet: calibrate again on another day", file=sys.stderr)
    return Exit.PASS if kept else Exit.INCONCLUSIVE


def _row(each: Calibrated) -> tuple[str, ...]:
    if each.found is None or each.past is None:
        return (each.case_id, *["-"] * 6, each.reason)
    shift, one = each.past.shift, each.found
    days = str(len({past.day for past in each.past.calibrations}))
    told = f"{shift.sd:.2%}" if shift else "-"
    return each.case_id, str(one.rounds), f"{one.noise:.2%}", f"{one.rho:.2f}", f"{one.floor:.2%}", days, told, ""


def _promises() -> Exit:
    from suite.gating.promises import kept, simulated, table
    from suite.static.progress import shown

    found = simulated(progress=shown)
    print(table(found))
    broken = [each for each in found if not kept(each)]
    for each in broken:
        print(f"broken promise: {each.cell.told}", file=sys.stderr)
    return Exit.REGRESSION if broken else Exit.PASS


def _write(args: argparse.Namespace, report: Report) -> None:
    from suite.gating.junit import junit
    from suite.gating.markdown import markdown
    from suite.gating.page import page

    for path, form in ((args.json, _json), (args.markdown, markdown), (args.junit, junit), (args.html, page)):
        if path is not None:
            try:
                path.write_text(form(report), encoding="utf-8")
            except OSError as error:
                raise UsageError(f"cannot write {path}: {error.strerror}; choose another file") from error


def _json(report: Report) -> str:
    return json.dumps(report.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _print(report: Report) -> None:
    from suite.cli.tables import print_table
    from suite.gating.report import row_of
    from suite.store.text import one_line

    refused = report.exit == Exit.INCOMPARABLE
    for each in report.mismatches:
        print(one_line(f"environments differ: {each}"), file=sys.stderr if refused else sys.stdout)
    if refused:
        print(f"subquad: {report.headline}", file=sys.stderr)
        return
    for note in report.notes:
        print(f"note: {one_line(note)}", file=sys.stderr)
    if report.changes:
        print_table(("verdict", "case", "mode", "metric", "reason"), map(row_of, report.changes))
    print(report.headline)
