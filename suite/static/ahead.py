"""Compiling a plan's kernels before its first case, in parallel, into the Triton cache that the run will use.

A run's one worker compiles kernel after kernel while the other cores are idle. What is compiled here the run only
loads. suite/static/compiling.py says what a kernel's cache key has, and which kernels are not covered.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite.registry import Registry
from suite.running.budget import Budget
from suite.running.estimate import duration
from suite.static.pool import LEFT_OUT, TASK_S, compile_ahead
from suite.static.progress import Progress, silent
from suite.static.recording import COMPILED
from suite.static.tasks import Ahead
from suite.targets import Target
from suite.telemetry.quota import cpu_quota

if TYPE_CHECKING:
    from suite.problem import Case
    from suite.static.compiling import Compiled, Kernel

# Of a budget, the part that may go by before the first case.
SHARE = 1 / 3
# CPU seconds of one case whose kernels have not been compiled yet, for an estimate; of a peer with autotuners.
CASE_S, PEER_S = 4.0, 20.0
# A peer's autotuner may try hundreds of configurations: so many processes share a case.
PARTS = 8
# A process that compiles loads every operator and library first.
START_S = 15.0


@dataclass(frozen=True)
class Wanted:
    """A case whose kernels are wanted; forced: configs that tuning tries, by key."""

    case: Case
    forced: Mapping[str, Mapping[str, int]] | None = None


@dataclass(frozen=True)
class Summary:
    """What compiling ahead came to.

    cases:     of the plan, that may launch a Triton kernel; left_out: those that the budget had no time for
    compiled:  kernels that were compiled; found: those that the cache had
    refused:   configurations of autotuners that do not compile: an autotuner skips them
    failures:  (case_id, kernel or "", reason) of kernels that do not compile, and of cases whose host code failed
    uncovered: (case_id, reason) of cases that cannot be captured: their kernels compile when the run reaches them
    """

    cases: int
    left_out: int
    compiled: int
    found: int
    refused: int
    failures: Sequence[tuple[str, str, str]]
    uncovered: Sequence[tuple[str, str]]
    seconds: float

    def told(self) -> str:
        """`48 kernels compiled in 31 s, 5 found in the cache, 1 failed`."""
        parts = [f"{self.compiled} kernels compiled in {duration(self.seconds)}"]
        parts += [f"{self.found} found in the cache"] * (self.found > 0)
        parts += [f"{self.refused} configurations of autotuners do not compile"] * (self.refused > 0)
        parts += [f"{len(self.failures)} failed"] * bool(self.failures)
        parts += [f"{self.left_out} of {self.cases} cases left out by the budget"] * (self.left_out > 0)
        return ", ".join(parts)


def cores() -> int:
    """Processes that this one may keep busy: all cores, within a container's quota."""
    allowed, quota = len(os.sched_getaffinity(0)), cpu_quota()
    return allowed if quota is None else min(allowed, math.ceil(quota))


def has_kernels(registry: Registry, case: Case) -> bool:
    """Whether a case may launch Triton kernels: those of ours and of peers that run on a GPU may."""
    made = registry.implementation(case.operator, case.implementation)
    return made.origin in COMPILED and "cuda" in made.devices


def estimated_s(registry: Registry, cases: Iterable[Case], jobs: int) -> float:
    """Seconds that compiling the cases will take at most, where nothing has been compiled yet."""
    wanted = [case for case in cases if has_kernels(registry, case)]
    peers = sum(_is_peer(registry, case) for case in wanted)
    seconds = (len(wanted) - peers) * CASE_S + peers * PEER_S
    return START_S + seconds / min(jobs, len(wanted) + peers * (PARTS - 1)) if wanted else 0.0


def _is_peer(registry: Registry, case: Case) -> bool:
    return registry.implementation(case.operator, case.implementation).origin == "peer"


def _parts(registry: Registry, case: Case, jobs: int) -> int:
    return min(jobs, PARTS) if _is_peer(registry, case) else 1


def compile_cases(
    registry: Registry,
    wanted: Sequence[Wanted],
    target: Target,
    *,
    folder: str = "",
    calls: str = "timed",
    load: Sequence[str] = (),
    jobs: int = 0,
    all_configs: bool = True,
    progress: Progress = silent,
    timeout_s: float = TASK_S,
    budget: Budget | None = None,
) -> Summary:
    """Compile all Triton kernels that a run will launch for these cases.

    target:      the GPU of the run
    folder:      the Triton cache of the run; "" for Triton's own
    calls:       what the run does with a case, one of suite.static.compiling.CALLS
    jobs:        processes; 0 for all cores
    all_configs: whether every configuration is compiled that an autotuner would try; else its first
    timeout_s:   the longest that one case may take
    """
    began = time.monotonic()
    jobs = jobs or cores()
    tasks = [
        Ahead(
            each.case,
            target.arch,
            target.name,
            all_configs=all_configs,
            forced=each.forced or {},
            device=target,
            folder=folder,
            calls=calls,
            part=part,
            parts=parts,
        )
        for each in wanted
        if has_kernels(registry, each.case)
        for parts in [_parts(registry, each.case, jobs) if all_configs else 1]
        for part in range(parts)
    ]
    found = compile_ahead(tasks, load=load, jobs=jobs, progress=progress, timeout_s=timeout_s, budget=budget)
    return _summary([(task.case.case_id, each) for task, each in zip(tasks, found, strict=True)], began)


def _summary(found: Sequence[tuple[str, Compiled]], began: float) -> Summary:
    kernels: dict[str, Kernel] = {}
    failures: dict[tuple[str, str], tuple[str, str, str]] = {}
    refused: set[tuple[str, str]] = set()
    uncovered: dict[tuple[str, str], None] = {}
    left_out: set[str] = set()
    for case_id, each in found:
        if each.status == LEFT_OUT:
            left_out.add(case_id)
        elif each.status == "unsupported":
            uncovered[case_id, each.reason] = None
        elif each.status != "ok":
            failures[case_id, each.reason] = case_id, "", each.reason
        for kernel in each.kernels:
            if kernel.path:
                # Two processes may have compiled it at once; whoever did, it was not there.
                known = kernels.get(kernel.path)
                kernels[kernel.path] = kernel if known is None or kernel.seconds > known.seconds else known
            elif kernel.trial:
                refused.add((kernel.name, kernel.config))
            else:
                failures.setdefault((kernel.name, kernel.reason), (case_id, kernel.name, kernel.reason))
    compiled = sum(kernel.seconds > 0 for kernel in kernels.values())
    return Summary(
        len({case_id for case_id, _ in found}),
        len(left_out),
        compiled,
        len(kernels) - compiled,
        len(refused),
        list(failures.values()),
        list(uncovered),
        time.monotonic() - began,
    )
