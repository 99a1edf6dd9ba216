"""History without runs or GPU: the kernels of each revision are compiled, and their time is predicted.

    found = static_history("v0.1..main", tasks)
    [(step.commit, step.cases["retention/…"].predicted_ms) for step in found]

A revision whose kernels are those of the one before it is not compiled; what was compiled once comes from the cache.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from suite import git
from suite.discovery import PACKAGES, ROOT
from suite.errors import UsageError
from suite.static.pool import JOBS, take_profiles
from suite.static.progress import Progress, silent
from suite.static.revisions import commit_of, files_of

if TYPE_CHECKING:
    from suite.static.model import Profile
    from suite.static.tasks import Task


@dataclass(frozen=True)
class Figures:
    """What a case costs at one revision.

    predicted_ms: None where there is none; status and reason are those of the profile
    instructions: of all launches' machine code; spill_bytes, traffic_bytes: of all launches
    """

    status: str
    reason: str = ""
    predicted_ms: float | None = None
    instructions: int = 0
    spill_bytes: int = 0
    traffic_bytes: int = 0


@dataclass(frozen=True)
class Revision:
    """One revision. cases: by case_id and architecture; a case that is not registered there has no figures."""

    commit: str
    subject: str
    cases: dict[str, Figures]


def commits_of(revisions: str, root: Path = ROOT) -> list[str]:
    """The commits of A..B along first parents, A first. UsageError where it is no such range."""
    first, dots, last = revisions.partition("..")
    if not dots or not first or last.startswith("."):
        raise UsageError(f"--static {revisions}: write two revisions, such as v0.1..main")
    start, end = commit_of(first, root), commit_of(last or "HEAD", root)
    between = git.ask(root, "rev-list", "--reverse", "--first-parent", f"{start}..{end}").split()
    if not between:
        raise UsageError(f"--static {revisions}: {last or 'HEAD'} has no commit that {first} lacks")
    return [start, *between]


def static_history(
    commits: Sequence[str],
    tasks: Sequence[Task],
    *,
    jobs: int = JOBS,
    progress: Progress = silent,
    root: Path = ROOT,
) -> list[Revision]:
    """The figures of the tasks' cases at each commit, in their order.

    jobs, progress: as in `take_profiles`
    """
    found, before = list[Revision](), ""
    for commit in commits:
        kernels = _kernels(commit, root)
        subject = git.ask(root, "show", "--no-patch", "--format=%s", commit)
        if found and kernels == before:
            found.append(replace(found[-1], commit=commit, subject=subject))
            continue
        with files_of(commit, root) as folder:
            own = [replace(task, root=str(folder), issued=False) for task in tasks]
            profiles = take_profiles(own, jobs=jobs, progress=progress)
        cases = {
            f"{task.case.case_id} {task.arch}": _figures(profile)
            for task, profile in zip(tasks, profiles, strict=True)
            if profile
        }
        found.append(Revision(commit, subject, cases))
        before = kernels
    return found


def _kernels(commit: str, root: Path) -> str:
    """The git trees of what is compiled, as a text."""
    trees = []
    for package in PACKAGES:
        try:
            trees.append(git.ask(root, "rev-parse", "--verify", f"{commit}:{package}"))
        except git.GitError:
            trees.append("")
    return " ".join(trees)


def _figures(profile: Profile) -> Figures:
    binaries = [launch.binary for launch in profile.launches if launch.binary]
    return Figures(
        profile.status,
        profile.reason,
        profile.predicted.ms if profile.predicted else None,
        sum(binary.instructions for binary in binaries),
        sum(binary.spill_bytes for binary in binaries),
        profile.traffic_bytes,
    )
