"""Comparing two revisions' static profiles, taken by one compiler: what became worse, and what only differs.

Hard, and a regression: a kernel no longer compiles or is over a limit; spills where there were fewer; occupancy down;
the tensor-core path lost. All else is told and does not fail: only a clock can judge it. The same binaries, launched
alike, moving the same bytes, are `unchanged`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from suite.gating.decisions import Decision, judge_status
from suite.gating.report import CaseVerdict
from suite.static.model import TENSOR_PATHS, Dots, Launch, Profile
from suite.static.pool import JOBS, names, take_profiles
from suite.static.progress import Progress, silent
from suite.static.tasks import Task

# Later is better.
RANK = {path: rank for rank, path in enumerate(("none", *reversed(TENSOR_PATHS)))}


@dataclass
class Differences:
    """What differs: `hard` fails, `soft` is told."""

    hard: list[str] = field(default_factory=list)
    soft: list[str] = field(default_factory=list)


def against(
    base: str,
    tasks: Sequence[Task],
    *,
    load: Sequence[str] = (),
    jobs: int = JOBS,
    progress: Progress = silent,
    refresh: bool = False,
    selects: Callable[[str], bool] = bool,
) -> list[CaseVerdict]:
    """Verdicts on tasks of this checkout against another one, then on implementations that only the other has.

    base:    the other checkout's folder; its kernels run under this suite and this compiler
    refresh: whether both sides' profiles are taken again, whatever the cache has
    selects: whether OPERATOR/IMPLEMENTATION belongs to what is compared; everything by default
    Raises IncomparableError when the other checkout's kernels do not load.
    """
    both = [replace(task, issued=False, root=base) for task in tasks] + [replace(task, issued=False) for task in tasks]
    profiles = take_profiles(both, load=load, jobs=jobs, progress=progress, refresh=refresh)
    sides = zip(tasks, profiles[: len(tasks)], profiles[len(tasks) :], strict=True)
    verdicts = [
        CaseVerdict(task.case.case_id, task.arch, "static", judge(before, after)) for task, before, after in sides
    ]
    earlier, now = (names(root, tasks[0].arch, load) for root in (base, tasks[0].root))
    gone = [name for name in earlier if name not in now and selects(name)]
    return verdicts + [CaseVerdict(name, tasks[0].arch, "static", judge(None, None)) for name in gone]


def judge(before: Profile | None, after: Profile | None) -> Decision:
    """The verdict on one case; None where a side has no such implementation."""
    if after is None:
        return Decision("missing", "the implementation is gone")
    sides = [[(p.status, p.reason)] if p else [] for p in (before, after)]
    if decided := judge_status(*sides):
        return decided
    assert before is not None
    if _moves(before) == _moves(after) and before.hash and before.hash == after.hash:
        return Decision("unchanged", "same binaries, same launches")
    found = differences(before, after)
    reasons = "; ".join([*found.hard, *found.soft]) or "the machine code differs, its figures do not"
    ratio = after.traffic_bytes / before.traffic_bytes if before.traffic_bytes else None
    return Decision("slower" if found.hard else "same", reasons, ratio)


def differences(before: Profile, after: Profile) -> Differences:
    """What differs between two profiles of one case, launch by launch."""
    found = Differences()
    for old, new in pairs(before.launches, after.launches):
        if old and new:
            _of_launch(old, new, found)
        elif new:
            found.soft.append(f"launch {new.kernel} is new")
            if new.binary and new.binary.spill_bytes:
                found.hard.append(f"{new.kernel}: new spills of {new.binary.spill_bytes} bytes")
        elif old:
            found.soft.append(f"launch {old.kernel} is gone")
    if _best_path(after) < _best_path(before) and not any("tensor cores" in text for text in found.hard):
        found.hard.append("tensor cores are no longer used as before")
    for name in ("traffic_bytes", "eager_bytes", "intermediate_bytes", "peak_bytes"):
        _told(name.replace("_", " "), getattr(before, name), getattr(after, name), "", found.soft)
    return found


def pairs(before: Sequence[Launch], after: Sequence[Launch]) -> Iterator[tuple[Launch | None, Launch | None]]:
    """Launches that correspond: the n-th launch of a kernel before to its n-th after."""
    waiting: dict[str, list[Launch]] = defaultdict(list)
    for old in before:
        waiting[old.kernel].append(old)
    for new in after:
        yield (waiting[new.kernel].pop(0) if waiting[new.kernel] else None), new
    for left in waiting.values():
        for old in left:
            yield old, None


def _of_launch(old: Launch, new: Launch, found: Differences) -> None:
    if not old.binary or not new.binary:
        return
    name = new.kernel
    if new.binary.spill_bytes > old.binary.spill_bytes:
        found.hard.append(f"{name}: spills {old.binary.spill_bytes} -> {new.binary.spill_bytes} bytes")
    if old.residency and new.residency and new.residency.occupancy < old.residency.occupancy:
        found.hard.append(
            f"{name}: occupancy {old.residency.occupancy:.1%} -> {new.residency.occupancy:.1%}, "
            f"limited by {new.residency.limit}"
        )
    if RANK[new.binary.tensor_path] < RANK[old.binary.tensor_path]:
        found.hard.append(f"{name}: tensor cores {old.binary.tensor_path} -> {new.binary.tensor_path}")
    for what, a, b in (
        ("grid", old.grid, new.grid),
        ("warps", old.warps, new.warps),
        ("stages", old.stages, new.stages),
        ("registers", old.binary.registers, new.binary.registers),
        ("shared bytes", old.shared_bytes, new.shared_bytes),
        ("instructions", old.binary.instructions, new.binary.instructions),
    ):
        _told(what, a, b, f"{name}: ", found.soft)
    if old.dots and new.dots:
        _told("replicated dots", _share(old.dots), _share(new.dots), f"{name}: ", found.soft)
        _told("executed over needed FLOPs of dots", _ratio(old.dots), _ratio(new.dots), f"{name}: ", found.soft)


def _share(dots: Dots) -> str:
    return "not read" if dots.reason else dots.share


def _ratio(dots: Dots) -> str:
    return "none" if dots.ratio is None else f"{dots.ratio:.2f}"


def _told(what: str, before: object, after: object, prefix: str, into: list[str]) -> None:
    if before != after:
        into.append(f"{prefix}{what} {before} -> {after}")


def _best_path(profile: Profile) -> int:
    return max((RANK[launch.binary.tensor_path] for launch in profile.launches if launch.binary), default=0)


def _moves(profile: Profile) -> tuple[int, int, int, int]:
    return profile.traffic_bytes, profile.eager_bytes, profile.intermediate_bytes, profile.peak_bytes
