"""Which candidates are worth the device's time: those that look best by what is known without a device.

The static profile of the whole case is taken once for each candidate, in parallel processes that compile. `merit` alone
says which of two profiles is better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from suite.errors import UsageError
from suite.hardware.gpus import known
from suite.static.pool import take_profiles
from suite.static.progress import Progress, silent
from suite.static.tasks import Task
from suite.targets import REPRESENTATIVES

if TYPE_CHECKING:
    from suite.running.budget import Budget
    from suite.static.model import Profile
    from suite.tuning.choices import Config
    from suite.tuning.search import Job

Merit = tuple[float, ...]


def merit(profile: Profile) -> Merit | None:
    """How slow a case looks with a candidate in force: smaller is better; None where nothing is known.

    The predicted time first. Where it is not known: the floor, the time of all bytes that the launches name, spilled
    bytes, and how empty they leave an SM; those come after candidates whose time is known.
    """
    if profile.status != "ok" or profile.floor is None:
        return None
    predicted = profile.predicted.ms if profile.predicted else None
    spills = sum(launch.binary.spill_bytes for launch in profile.launches if launch.binary)
    occupancy = sum(launch.residency.occupancy for launch in profile.launches if launch.residency)
    return predicted or math.inf, profile.floor.ms, profile.floor.traffic_ms, float(spills), -occupancy


def best_of(configs: Sequence[Config], merits: Sequence[Merit | None], most: int) -> list[Config]:
    """The table's own config, which is the first, and the `most` best of the others; of equals the earlier one.

    All configs where none has a merit: then nothing tells them apart.
    """
    if not any(each is not None for each in merits):
        return list(configs)
    ranked = [(each, index) for index, each in enumerate(merits) if index and each is not None]
    return [configs[0], *(configs[index] for _, index in sorted(ranked)[:most])]


def ranked(
    todo: Sequence[Job],
    arch: str,
    gpu: str,
    most: int,
    *,
    load: Sequence[str] = (),
    jobs: int = 1,
    progress: Progress = silent,
    timeout_s: float = 600.0,
    budget: Budget | None = None,
) -> list[Job]:
    """The jobs with the candidates of each key that are worth timing. Parameters as in `take_profiles`.

    Raises UsageError where no static profile is taken of the architecture.
    """
    if arch not in REPRESENTATIVES:
        raise UsageError(f"candidates of {arch} cannot be ranked: no static profile is taken of it; add --best all")
    name = gpu if (found := known(gpu)) and found.arch == arch else ""
    tasks = [Task(job.case, arch, name, issued=False, forced={key: config}) for job, key, config in _candidates(todo)]
    profiles = take_profiles(tasks, load=load, jobs=jobs, progress=progress, timeout_s=timeout_s, budget=budget)
    merits = iter([profile and merit(profile) for profile in profiles])

    def chosen(search: Mapping[str, Sequence[Config]]) -> dict[str, Sequence[Config]]:
        return {key: best_of(configs, [next(merits) for _ in configs], most) for key, configs in search.items()}

    return [replace(job, search=chosen(job.search)) for job in todo]


def _candidates(todo: Sequence[Job]) -> Iterator[tuple[Job, str, Config]]:
    for job in todo:
        for key, configs in job.search.items():
            yield from ((job, key, config) for config in configs)
