"""Compiling ahead, as `bench`, `check` and `tune` do on a GPU before their first case, and `compile` alone."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from suite.errors import DiscoveryError

if TYPE_CHECKING:
    from suite.registry import Registry
    from suite.running.budget import Budget
    from suite.running.process import WorkerProcess
    from suite.static.ahead import Summary, Wanted
    from suite.targets import Target


def add_compiling(parser: argparse.ArgumentParser) -> None:
    """Flags of commands that compile before their first case."""
    group = parser.add_argument_group("compiling, on a GPU")
    group.add_argument(
        "--no-compile",
        action="store_true",
        help="compile each kernel when its case is reached, not all of them before the first case",
    )
    add_first_config(group)


def add_first_config(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--first-config",
        action="store_true",
        help="compile ahead only the first configuration of an autotuner, not all that it will try",
    )


def target_of_worker(worker: WorkerProcess) -> Target:
    """The GPU as a measuring worker's host code sees it."""
    from suite.targets import Target

    return Target(**worker.ask(do="target")["target"])


def compile_first(
    args: argparse.Namespace,
    registry: Registry,
    wanted: Sequence[Wanted],
    target: Target,
    budget: Budget,
    *,
    folder: str = "",
    calls: str = "timed",
) -> Summary:
    """Compile what a run will launch, and say on stderr what came of it. A budget's first third is the limit.

    A kernel that does not compile is listed; its case gets its record when the run comes to it.
    """
    from suite.running.budget import Budget
    from suite.static.ahead import SHARE, compile_cases
    from suite.static.progress import shown

    left = budget.left
    try:
        summary = compile_cases(
            registry,
            wanted,
            target,
            folder=folder,
            calls=calls,
            load=[str(Path(path).resolve()) for path in args.load],
            all_configs=not args.first_config,
            progress=shown,
            budget=Budget(None if left is None else max(left, 0.0) * SHARE),
        )
    except DiscoveryError as error:
        raise DiscoveryError(f"{error}; to run without compiling ahead, add --no-compile") from error
    for line in (*lines_of(summary), summary.told()):
        print(line, file=sys.stderr)
    return summary


def lines_of(summary: Summary) -> list[str]:
    """A line for each kernel that does not compile, and one for each reason for which cases were not captured."""
    from suite.store.text import one_line

    lines = [
        one_line(f"does not compile: {case_id}: {kernel + ': ' if kernel else ''}{reason.strip().splitlines()[0]}")
        for case_id, kernel, reason in summary.failures
    ]
    reasons: dict[str, list[str]] = {}
    for case_id, reason in summary.uncovered:
        reasons.setdefault(reason.strip().splitlines()[0], []).append(case_id)
    for reason, cases in reasons.items():
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        lines.append(one_line(f"not compiled ahead: {cases[0]}{more}: {reason}"))
    return lines
