"""Comparing two revisions' static profiles, taken by one compiler.

A kernel that no longer compiles or is over a limit fails. Else predicted times decide: `slower` or `faster` where they
differ by more than predictions of one family may. What differs in the machine code explains; more spills, lower
occupancy and a lost tensor-core path fail where that is asked for, and where a side has no predicted time. The same
binaries, launched alike, moving the same bytes, are `unchanged`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from suite.gating.decisions import FAIL_ON, Decision, judge_status
from suite.gating.report import CaseVerdict
from suite.static.model import TENSOR_PATHS, Dots, Launch, Profile, fingerprint
from suite.static.pool import JOBS, names, take_profiles
from suite.static.progress import Progress, silent
from suite.static.tasks import Task

# Later is better.
RANK = {path: rank for rank, path in enumerate(("none", *reversed(TENSOR_PATHS)))}


@dataclass
class Differences:
    """What differs: `worse` by one of FAIL_ON, and all else."""

    worse: list[tuple[str, str]] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    @property
    def told(self) -> list[str]:
        return [*(text for _, text in self.worse), *self.other]

    def failing(self, kinds: Collection[str]) -> list[str]:
        """What became worse of these kinds."""
        return [text for kind, text in self.worse if kind in kinds]


def against(
    base: str,
    tasks: Sequence[Task],
    *,
    load: Sequence[str] = (),
    base_load: Sequence[str] | None = None,
    jobs: int = JOBS,
    progress: Progress = silent,
    refresh: bool = False,
    selects: Callable[[str], bool] = bool,
    fail_on: Collection[str] = (),
) -> list[CaseVerdict]:
    """Verdicts on tasks of this checkout against another one, then on implementations that only the other has.

    base:      the other checkout's folder; its kernels run under this suite and this compiler
    base_load: the plug-ins as the other checkout has them; those of `load` by default
    refresh:   whether both sides' profiles are taken again, whatever the cache has
    selects:   whether OPERATOR/IMPLEMENTATION belongs to what is compared; everything by default
    fail_on:   what fails whatever the predicted time, of FAIL_ON
    Raises IncomparableError when the other checkout's kernels do not load.
    """
    base_load = load if base_load is None else base_load
    take = partial(take_profiles, jobs=jobs, progress=progress, refresh=refresh)
    earlier = [replace(task, issued=False, root=base) for task in tasks]
    now = [replace(task, issued=False) for task in tasks]
    if base_load == load:
        profiles = take([*earlier, *now], load=load)
    else:
        profiles = [*take(earlier, load=base_load), *take(now, load=load)]
    sides = zip(tasks, profiles[: len(tasks)], profiles[len(tasks) :], strict=True)
    verdicts = [
        CaseVerdict(task.case.case_id, task.arch, "static", judge(before, after, fail_on))
        for task, before, after in sides
    ]
    arch = tasks[0].arch
    had, has = names(base, arch, base_load), names(tasks[0].root, arch, load)
    gone = [name for name in had if name not in has and selects(name)]
    return verdicts + [CaseVerdict(name, arch, "static", judge(None, None)) for name in gone]


def judge(before: Profile | None, after: Profile | None, fail_on: Collection[str] = ()) -> Decision:
    """The verdict on one case; None where a side has no such implementation. Ratios are of predicted times."""
    if after is None:
        return Decision("missing", "the implementation is gone")
    sides = [[(p.status, p.reason)] if p else [] for p in (before, after)]
    if decided := judge_status(*sides):
        return decided
    assert before is not None
    if _moves(before) == _moves(after) and before.hash and before.hash == after.hash:
        return Decision("unchanged", "same binaries, same launches")
    found = differences(before, after)
    told = "; ".join(found.told) or "the machine code differs, its figures do not"
    old, new = _time(before), _time(after)
    if old is None or new is None:
        failing = found.failing(FAIL_ON)
        missing = _not_predicted(before if old is None else after)
        return Decision("slower" if failing else "same", f"{told}; {missing}: spills, occupancy and tensor path decide")
    ratio, margin = new / old, _margin(before, after)
    times = f"predicted {old * 1e3:.1f} -> {new * 1e3:.1f} us (x{ratio:.2f}, sure beyond x{margin:.2f})"
    failing = found.failing(fail_on)
    verdict = "slower" if failing or ratio > margin else "faster" if ratio < 1 / margin else "same"
    why = f"fails on {', '.join(sorted({kind for kind, _ in found.worse if kind in fail_on}))}; " if failing else ""
    return Decision(verdict, f"{why}{times}; {told}", ratio, margin=margin - 1)


def _time(profile: Profile) -> float | None:
    return profile.predicted.ms if profile.predicted else None


def _not_predicted(profile: Profile) -> str:
    reason = profile.predicted.reason if profile.predicted else "the GPU has no machine table"
    return f"no predicted time ({reason})"


def _margin(before: Profile, after: Profile) -> float:
    """The ratio of predicted times from which on they are surely different.

    Launches that did not change take what they took, so that only the others' part of the time is uncertain.
    """
    factor = after.uncertainty.of_change
    whole = _time(before) or 0.0
    moved = sum(_launch_ms(old) for old, new in pairs(before.launches, after.launches) if old and _differ(old, new))
    return 1 + (factor - 1) * min(1.0, moved / whole) if moved and whole else factor


def _differ(old: Launch, new: Launch | None) -> bool:
    return new is None or fingerprint([old]) != fingerprint([new])


def _launch_ms(launch: Launch) -> float:
    return launch.predicted.ms or 0.0 if launch.predicted else 0.0


def differences(before: Profile, after: Profile) -> Differences:
    """What differs between two profiles of one case, launch by launch."""
    found = Differences()
    for old, new in pairs(before.launches, after.launches):
        if old and new:
            _of_launch(old, new, found)
        elif new:
            found.other.append(f"launch {new.kernel} is new")
            if new.binary and new.binary.spill_bytes:
                found.worse.append(("spills", f"{new.kernel}: new spills of {new.binary.spill_bytes} bytes"))
        elif old:
            found.other.append(f"launch {old.kernel} is gone")
    if _best_path(after) < _best_path(before) and not found.failing(("tensor",)):
        found.worse.append(("tensor", "tensor cores are no longer used as before"))
    for name in ("traffic_bytes", "eager_bytes", "intermediate_bytes", "peak_bytes", "kept_bytes"):
        _told(name.replace("_", " "), getattr(before, name), getattr(after, name), "", found.other)
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
        text = f"{name}: spills {old.binary.spill_bytes} -> {new.binary.spill_bytes} bytes"
        found.worse.append(("spills", text))
    if old.residency and new.residency and new.residency.occupancy < old.residency.occupancy:
        text = f"{name}: occupancy {old.residency.occupancy:.1%} -> {new.residency.occupancy:.1%}"
        found.worse.append(("occupancy", f"{text}, limited by {new.residency.limit}"))
    if RANK[new.binary.tensor_path] < RANK[old.binary.tensor_path]:
        text = f"{name}: tensor cores {old.binary.tensor_path} -> {new.binary.tensor_path}"
        found.worse.append(("tensor", text))
    for what, a, b in (
        ("grid", old.grid, new.grid),
        ("warps", old.warps, new.warps),
        ("stages", old.stages, new.stages),
        ("registers", old.binary.registers, new.binary.registers),
        ("shared bytes", old.shared_bytes, new.shared_bytes),
        ("instructions", old.binary.instructions, new.binary.instructions),
    ):
        _told(what, a, b, f"{name}: ", found.other)
    if old.dots and new.dots:
        _told("replicated dots", _share(old.dots), _share(new.dots), f"{name}: ", found.other)
        _told("executed over needed FLOPs of dots", _ratio(old.dots), _ratio(new.dots), f"{name}: ", found.other)


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
