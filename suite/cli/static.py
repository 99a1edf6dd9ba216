"""`subquad static`: compile kernels without a GPU and say what they will cost."""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.cli import values
from suite.cli.selection import add_selection, selected
from suite.errors import Exit, UsageError, worst

if TYPE_CHECKING:
    from suite.problem import Case
    from suite.registry import Registry
    from suite.static.model import Profile
    from suite.static.tasks import Task

# With more profiles than this, launches are listed only when they are asked for.
FEW = 6


def configure(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    group = parser.add_argument_group("how to profile")
    group.add_argument(
        "--arch",
        type=values.filled,
        default="sm_90",
        metavar="NAMES",
        help="architectures to compile for: sm_80,sm_90,sm_100",
    )
    group.add_argument("--gpu", default="", metavar="NAME", help="GPU that represents the architecture")
    group.add_argument(
        "--run",
        dest="into",
        type=Path,
        metavar="RUN",
        help="profile the cases that a stored run timed on a GPU, and add the profiles to the run",
    )
    group.add_argument("--all-configs", action="store_true", help="profile every tunable and autotuner configuration")
    group.add_argument(
        "--explain",
        action="store_true",
        help="print what each launch's predicted time consists of: its main loop, waits with source lines, what-ifs",
    )
    group.add_argument("--base", metavar="REV", help="compare with another revision; exit codes as in docs/static.md")
    add_fail_on(group)
    group.add_argument("--no-issued", action="store_true", help="do not count issued traffic in the interpreter")
    group.add_argument("--refresh", action="store_true", help="profile again, without using stored profiles")
    group.add_argument("--detail", action="store_true", help="list every launch, even for many cases")
    group.add_argument("--jobs", type=values.count, default=2, metavar="N", help="number of processes that compile")
    group.add_argument(
        "--format", choices=("table", "md"), default="table", help="output format; md: one Markdown table, for a README"
    )
    group.add_argument("--json", action="store_true", help="print JSON instead of tables")


def add_fail_on(group: Any) -> None:
    """The flag `--fail-on`, of what compares machine code."""
    from suite.gating.decisions import FAIL_ON

    group.add_argument(
        "--fail-on",
        type=values.some_of(FAIL_ON),
        default=(),
        metavar="NAMES",
        help=f"what is `slower` whatever the predicted time: {', '.join(FAIL_ON)}; default: nothing",
    )


# Flags of which the second would do nothing beside the first.
_APART = (("base", "explain"), ("into", "explain"), ("json", "format"), ("format", "explain"))


def run(args: argparse.Namespace) -> Exit:
    flags = {"base": args.base, "into": args.into, "json": args.json, "explain": args.explain}
    flags["format"] = args.format != "table"
    for one, other in _APART:
        if flags[one] and flags[other]:
            raise UsageError(f"{_flag(args, one)} does not go with {_flag(args, other)}: remove one of them")
    if not args.into and not args.base:
        return _show_all(args, profiled(args))
    registry, archs = _prepared(args)
    return _into_run(args, registry) if args.into else _compare(args, _tasks(args, registry, archs))


def _flag(args: argparse.Namespace, name: str) -> str:
    return {"into": "--run", "format": f"--format {args.format}"}.get(name, f"--{name}")


def profiled(args: argparse.Namespace) -> list[Profile]:
    """The profiles of the cases and architectures that the flags select."""
    return [profile for profile in _take(args, _tasks(args, *_prepared(args))) if profile]


def _prepared(args: argparse.Namespace) -> tuple[Registry, list[str]]:
    """The registry and the architectures. UsageError on an unknown architecture, before anything is imported."""
    from suite.discovery import discover
    from suite.static.stub_driver import target_of

    archs = [word for word in args.arch.split(",") if word]
    if not archs:
        raise UsageError(f"--arch {args.arch}: no architecture is named; remove the flag for the default")
    for arch in archs:
        target_of(arch, args.gpu)
    args.load = [str(Path(path).resolve()) for path in args.load]
    return discover(load=args.load), archs


def _tasks(args: argparse.Namespace, registry: Registry, archs: list[str]) -> list[Task]:
    from suite import static
    from suite.static.recording import COMPILED, static_cases
    from suite.static.tasks import Task

    if args.all_configs and not args.chunk and not args.tunable:
        args.tunable = [f"{name}=all" for name in _tunables(args, registry)]
    _, groups = selected(args, registry, static.PRESET)
    cases = static_cases(registry, groups, COMPILED)
    if args.impl:
        cases = [case for group in groups for case in group.cases]
    if not cases:
        raise UsageError("nothing to compile: the selection has no Triton kernel; see `subquad list`")
    task = partial(Task, gpu=args.gpu, all_configs=args.all_configs, issued=not args.no_issued, explained=args.explain)
    return [task(case, arch) for case in cases for arch in archs]


def _tunables(args: argparse.Namespace, registry: Registry) -> list[str]:
    chosen = [operator for operator in registry.operators.values() if not args.op or operator.name in args.op]
    return sorted({name for operator in chosen for made in operator.implementations.values() for name in made.tunables})


def _take(args: argparse.Namespace, tasks: list[Task]) -> list[Profile | None]:
    from suite.static.pool import take_profiles
    from suite.static.progress import shown

    return take_profiles(tasks, load=args.load, jobs=args.jobs, progress=shown, refresh=args.refresh)


def _show_all(args: argparse.Namespace, profiles: list[Profile]) -> Exit:
    from suite.faults import FAILURES
    from suite.static.rows import markdown

    if args.json:
        for profile in profiles:
            print(json.dumps({**profile.to_dict(), **profile.columns()}))
    elif args.format == "md":
        print(markdown(profiles))
    else:
        _show(profiles, detail=args.detail or len(profiles) <= FEW)
    failed = {profile.status for profile in profiles} & (FAILURES | {"over_limit"})
    return Exit.REGRESSION if failed else Exit.PASS


# Cases that are compiled before their records are written.
AT_A_TIME = 16


def _into_run(args: argparse.Namespace, registry: Registry) -> Exit:
    """Profile each case of a GPU's run for that GPU; what the run has already is left."""
    from suite.discovery import ROOT
    from suite.faults import FAILURES
    from suite.hardware.environment import revision
    from suite.static.recording import record_of, timed_cases
    from suite.static.tasks import Task
    from suite.store import open_for_append, read_environment, read_records

    if args.base or args.all_configs:
        raise UsageError("--run profiles what was timed: remove --base and --all-configs")
    device = read_environment(args.into).get("device") or {}
    arch, gpu = str(device.get("arch", "")), str(device.get("name", ""))
    if not arch.startswith("sm_"):
        raise UsageError(
            f"{args.into} was measured on {gpu or 'no known device'}: no kernel was launched; name a GPU's run"
        )
    rows = read_records(args.into)
    cases, unknown = timed_cases(registry, rows)
    for name in unknown:
        print(f"{name} is not registered here; its cases are left out", file=sys.stderr)
    done = {row["case_id"] for row in rows if row["kind"] == "static" and row["device"] == arch}
    wanted = [case for case in cases if case.case_id not in done and _compiles(registry, case)]
    statuses = set()
    with open_for_append(args.into) as writer:
        for start in range(0, len(wanted), AT_A_TIME):
            tasks = [Task(case, arch, gpu, issued=not args.no_issued) for case in wanted[start : start + AT_A_TIME]]
            for task, profile in zip(tasks, _take(args, tasks), strict=True):
                if profile:
                    writer.append(record_of(registry, task, profile, revision(ROOT)))
                    statuses.add(profile.status)
    print(f"{len(wanted)} profiles in {args.into}, {len(done)} of them were stored before")
    return Exit.REGRESSION if statuses & (FAILURES | {"over_limit"}) else Exit.PASS


def _compiles(registry: Registry, case: Case) -> bool:
    from suite.static.recording import COMPILED

    made = registry.implementation(case.operator, case.implementation)
    return made.origin in COMPILED and "cuda" in made.devices


def _show(profiles: list[Profile], detail: bool) -> None:
    from suite.cli.tables import print_table
    from suite.static.rows import CASE_COLUMNS, LAUNCH_COLUMNS, case_row, explanation, launch_rows, notes

    print_table(CASE_COLUMNS, map(case_row, profiles))
    for note in notes(profiles):
        print(f"\n{note}")
    for profile in profiles:
        if detail and profile.launches:
            print(f"\n{profile.case_id} {profile.arch}")
            print_table(LAUNCH_COLUMNS, launch_rows([*profile.launches, *profile.candidates]))
        for line in explanation(profile):
            print(line)


def _compare(args: argparse.Namespace, tasks: list[Task]) -> Exit:
    from suite.discovery import ROOT
    from suite.gating.report import Report
    from suite.hardware.environment import revision
    from suite.static.compare import against
    from suite.static.progress import shown
    from suite.static.revisions import commit_of, files_of, in_base
    from suite.store.pairs import Source

    with files_of(args.base) as base:
        earlier = [in_base(path, ROOT, base) for path in args.load]
        for path in args.load:
            if path in earlier:
                print(f"--load {path} lies outside {ROOT}: both revisions have it as it is now", file=sys.stderr)
        verdicts = against(
            str(base),
            tasks,
            load=args.load,
            base_load=[path for path in earlier if path],
            jobs=args.jobs,
            progress=shown,
            refresh=args.refresh,
            selects=lambda name: _selects(args, name),
            fail_on=args.fail_on,
        )
    # All unchanged is a pass here: nothing is left that a clock would have to judge.
    code = worst(each.decision.exit for each in verdicts)
    report = Report(Source(args.base, commit_of(args.base)), Source("", revision(ROOT)), (), False, tuple(verdicts))
    if args.json:
        print(json.dumps({**report.to_json(), "exit": int(code)}))
    else:
        _show_verdicts(report, code)
    return code


def _selects(args: argparse.Namespace, name: str) -> bool:
    """Whether the flags select OPERATOR/IMPLEMENTATION."""
    operator, _, implementation = name.partition("/")
    named = {name, implementation}
    if named & set(args.skip) or operator in args.skip:
        return False
    return (not args.op or operator in args.op) and (not args.impl or bool(named & set(args.impl)))


def _show_verdicts(report: Any, code: Exit) -> None:
    from suite.cli.tables import print_table
    from suite.gating.report import row_of

    print_table(("verdict", "case", "arch", "metric", "reason"), map(row_of, report.sorted_cases))
    counts: dict[str, int] = {}
    for each in report.cases:
        counts[each.decision.verdict] = counts.get(each.decision.verdict, 0) + 1
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    print(f"{code.name.lower()}: {told}", file=sys.stderr)
