"""`subquad compile`: compile the kernels that a plan will launch, on all cores, into the Triton cache of its run."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from suite.cli import values
from suite.cli.compiling import add_first_config, lines_of
from suite.cli.selection import add_selection, selected
from suite.errors import Exit, UsageError

if TYPE_CHECKING:
    from suite.plan import Group
    from suite.problem import Case
    from suite.registry import Registry
    from suite.running.resuming import StoredPlan
    from suite.static.ahead import Summary
    from suite.static.progress import Progress
    from suite.targets import Target

# What is compiled when nothing else is said: what `bench` measures on a GPU.
PRESET = "gpu"


def configure(parser: argparse.ArgumentParser) -> None:
    add_selection(parser)
    group = parser.add_argument_group("what to compile for")
    group.add_argument(
        "--arch",
        type=values.filled,
        metavar="NAME",
        help="architecture, such as sm_90; default: this machine's GPU, on which nothing runs",
    )
    group.add_argument("--gpu", default="", metavar="NAME", help="GPU that represents the architecture of --arch")
    group.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="fill the cache of the run that `bench --out DIR` will make; default: Triton's own, which `check` uses",
    )
    group.add_argument(
        "--resume",
        type=Path,
        metavar="DIR",
        help="fill the cache of a stored run of bench with what it has not measured",
    )
    group = parser.add_argument_group("how to compile")
    group.add_argument("--jobs", type=values.count, metavar="N", help="number of processes; default: all cores")
    group.add_argument(
        "--timeout", type=values.span, default=600.0, metavar="S", help="longest time for one case; default: 600"
    )
    group.add_argument("--budget", type=values.budget, metavar="TIME", help="time limit, such as 90s, 8m or 1h30m")
    add_first_config(group)
    group.add_argument("--json", action="store_true", help="print the summary as JSON")


def run(args: argparse.Namespace) -> Exit:
    from suite.static.progress import shown

    summary = compiled(args, progress=shown)
    if args.json:
        print(json.dumps(vars(summary)))
    else:
        for line in lines_of(summary):
            print(line, file=sys.stderr)
        print(summary.told())
    return Exit.REGRESSION if summary.failures else Exit.PASS


def compiled(args: argparse.Namespace, progress: Progress) -> Summary:
    """Compile what the flags select."""
    from suite.discovery import discover
    from suite.running.budget import Budget
    from suite.running.compiled import folder_of
    from suite.static.ahead import Wanted, compile_cases, has_kernels

    if args.out and args.resume:
        raise UsageError("--out is a run that will be made, --resume one that there is; give one of them")
    if args.out and any(each.exists() and not each.is_dir() for each in (args.out, *args.out.parents)):
        raise UsageError(f"--out {args.out} is no folder, and none can be made there; name another place")
    target = _target(args)
    plan = _plan(args) if args.resume else None
    args.load = [*args.load, *(plan.plugins if plan else ())]
    registry = discover(load=args.load)
    groups = _missing(args, registry, plan) if plan else selected(args, registry, PRESET)[1]
    if not plan and not any(has_kernels(registry, case) for group in groups for case in group.cases):
        raise UsageError("no selected implementation has Triton kernels for a GPU; see `subquad list`")
    run = args.resume or args.out
    return compile_cases(
        registry,
        [Wanted(case) for group in groups for case in group.cases],
        target,
        folder=folder_of(run) if run else "",
        load=[str(Path(path).resolve()) for path in args.load],
        jobs=args.jobs or 0,
        all_configs=not args.first_config,
        progress=progress,
        timeout_s=args.timeout,
        budget=Budget(args.budget),
    )


def _target(args: argparse.Namespace) -> Target:
    """The GPU that --arch names, else this machine's."""
    import torch

    from suite.cli.compiling import target_of_worker
    from suite.running.process import measuring_worker
    from suite.static.stub_driver import target_of

    if args.arch:
        return target_of(args.arch, args.gpu)
    if args.gpu:
        raise UsageError(f"--gpu {args.gpu} goes with --arch; name both, or neither for the GPU of this machine")
    if not torch.cuda.is_available():
        raise UsageError("there is no GPU here; name the architecture to compile for, such as --arch sm_90")
    worker = measuring_worker("cuda", [str(Path(path).resolve()) for path in args.load])
    try:
        return target_of_worker(worker)
    finally:
        worker.kill()


def _plan(args: argparse.Namespace) -> StoredPlan:
    """The plan of the run that --resume names. UsageError where flags select other cases."""
    from suite.cli.runs import CHOOSING
    from suite.running.resuming import read_plan

    if given := [flag for name, flag in CHOOSING.items() if name != "load" and getattr(args, name, None)]:
        raise UsageError(f"--resume {args.resume} compiles the cases of that run; remove {given[0]}")
    return read_plan(args.resume, "bench")


def _missing(args: argparse.Namespace, registry: Registry, plan: StoredPlan) -> list[Group]:
    """The groups of a stored run, with the cases that have not all their records."""
    from dataclasses import replace

    from suite.store import done_keys

    flags = plan.flags
    done = {(key.case_id, key.mode, key.launch) for key in done_keys(args.resume) if key.kind == "timed"}
    wanted = [(mode, launch) for mode in flags.get("mode", ()) for launch in range(flags.get("launches", 1))]

    def is_missing(case: Case) -> bool:
        return any((case.case_id, mode, launch) not in done for mode, launch in wanted)

    return [replace(group, cases=tuple(filter(is_missing, group.cases))) for group in plan.groups(registry)]
