"""Configs by predicted time, without a GPU: candidates of each key are compiled, predicted, and the fastest is kept.

Keys are looked at one after another, each with the winners before it in force, those of different cases at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from suite.plan import Group
from suite.problem import Case
from suite.registry import Registry
from suite.running.budget import Budget
from suite.static.model import Profile
from suite.static.pool import LEFT_OUT, take_profiles
from suite.static.progress import Progress, silent
from suite.static.tasks import Task
from suite.targets import Target, aim
from suite.tuning.choices import Config, forcing
from suite.tuning.chosen import Chosen
from suite.tuning.search import searches, size_of

# Cases that a key is judged by: the smallest, the largest, and one between them.
CASES = 3
# A config replaces the family's own only if it gains this much over all cases, and costs no more in any of them.
GAIN, LOSS = 0.98, 1.005
# Configs that are looked at in all cases, and the place of the family's own one.
FEW, OWN = 2, -1


@dataclass(frozen=True)
class Open:
    """A key without a config: its candidates, and the cases that it is judged by."""

    key: str
    configs: tuple[Config, ...]
    cases: tuple[Case, ...]


class _Tried:
    """What was predicted of one key: of each config and case the milliseconds, None where a case has no prediction."""

    def __init__(self, opened: Open) -> None:
        self.opened = opened
        self.missing = ""
        self._ms: dict[tuple[int, Case], float | None] = {}

    def first(self) -> Iterator[tuple[Config | None, Case]]:
        """The family's own config and all others, in the largest case."""
        yield from ((config, self.opened.cases[-1]) for config in (None, *self.opened.configs))

    def others(self) -> Iterator[tuple[Config | None, Case]]:
        """The family's own config and the FEW fastest of those that are faster, in the other cases."""
        ranked = sorted((self._ratio(at, self.opened.cases[-1:]), at) for at in range(len(self.opened.configs)))
        promising = [self.opened.configs[at] for ratio, at in ranked[:FEW] if ratio < GAIN]
        if promising:
            yield from ((config, case) for config in (None, *promising) for case in self.opened.cases[:-1])

    def tell(self, config: Config | None, case: Case, profile: Profile | None) -> None:
        """Take in a profile. One that does not compile, exceeds a limit or has no prediction puts a config aside."""
        predicted = profile.predicted if profile and profile.status == "ok" else None
        self._ms[self._at(config), case] = predicted.ms if predicted else None
        if profile and profile.status == LEFT_OUT:
            self.missing = "left out by --budget; run the command again"
        elif config is None and (predicted is None or predicted.ms is None):
            self.missing = f"{case.case_id} has no predicted time with the family's own config; see `subquad static`"

    def best(self) -> Chosen:
        """The config with the least predicted time over the cases; the family's own unless another one is faster."""
        cases = self.opened.cases
        ratios = {at: self._ratio(at, cases) for at in range(len(self.opened.configs))}
        at = min(ratios, key=lambda at: ratios[at])
        if ratios[at] >= GAIN:
            at, cases = OWN, cases[-1:]
        config = {} if at == OWN else dict(self.opened.configs[at])
        tried = sum(ms is not None for (each, case), ms in self._ms.items() if case == cases[-1] and each != OWN)
        return Chosen(config, self._us(at, cases), self._us(OWN, cases), tried)

    def _at(self, config: Config | None) -> int:
        return OWN if config is None else self.opened.configs.index(config)

    def _ratio(self, at: int, cases: Sequence[Case]) -> float:
        """Geometric mean of predicted time over that with the family's own config; no limit where a case loses."""
        pairs = [(self._ms.get((at, case)), self._ms.get((OWN, case))) for case in cases]
        ratios = [ms / own if ms and own else math.inf for ms, own in pairs]
        return math.inf if max(ratios) > LOSS else math.exp(sum(map(math.log, ratios)) / len(ratios))

    def _us(self, at: int, cases: Sequence[Case]) -> dict[str, float]:
        return {case.case_id: round(1e3 * (self._ms[at, case] or 0.0), 1) for case in cases}


class _OwnAll(Mapping[str, Config | None]):
    """Every key with the family's own config."""

    def __getitem__(self, key: str) -> None:
        return None

    def __contains__(self, key: object) -> bool:
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def open_keys(registry: Registry, groups: Sequence[Group], known: set[str], target: Target) -> list[Open]:
    """The keys that the cases ask for on a GPU and that are not known, in the order in which they are met."""
    configs: dict[str, dict[tuple[tuple[str, int], ...], Config]] = {}
    cases: dict[str, dict[Case, tuple[float, ...]]] = {}
    with aim(target), forcing(_OwnAll()):
        for case, flops, key, candidates in searches(registry, groups, "cuda"):
            if key not in known:
                cases.setdefault(key, {})[case] = size_of(case, flops)
                for config in candidates:
                    configs.setdefault(key, {}).setdefault(tuple(sorted(config.items())), config)
    return [Open(key, tuple(configs[key].values()), _spread(sizes)) for key, sizes in cases.items()]


def _spread(sizes: Mapping[Case, tuple[float, ...]]) -> tuple[Case, ...]:
    ordered = sorted(sizes, key=lambda case: sizes[case])
    if len(ordered) <= CASES:
        return tuple(ordered)
    return ordered[0], ordered[len(ordered) // 2], ordered[-1]


def choose(
    opened: Sequence[Open],
    arch: str,
    keep: Callable[[str, Chosen], None],
    *,
    load: Sequence[str] = (),
    jobs: int = 2,
    progress: Progress = silent,
    budget: Budget | None = None,
) -> list[str]:
    """Tell `keep` the config of each key; the keys that got none, each with the reason.

    Other parameters as in `take_profiles`.
    """
    forced: dict[Case, dict[str, Config | None]] = {}
    for each in opened:
        for case in each.cases:
            forced.setdefault(case, {})[each.key] = None
    waiting, without = list(opened), list[str]()
    while waiting:
        now = _apart(waiting)
        waiting = [each for each in waiting if each not in now]
        # All candidates in the largest case; those few that are fastest there, in the others too.
        tried = {each.key: _Tried(each) for each in now}
        for round_ in (_Tried.first, _Tried.others):
            trials = [(each, *trial) for each in tried.values() for trial in round_(each)]
            tasks = [
                Task(case, arch, issued=False, forced={**forced[case], each.opened.key: config})
                for each, config, case in trials
            ]
            profiles = take_profiles(tasks, load=load, jobs=jobs, progress=progress, budget=budget)
            for (each, config, case), profile in zip(trials, profiles, strict=True):
                each.tell(config, case, profile)
        for each in tried.values():
            if each.missing:
                without.append(f"{each.opened.key}: {each.missing}")
                continue
            chosen = each.best()
            for case in each.opened.cases:
                forced[case][each.opened.key] = chosen.config or None
            keep(each.opened.key, chosen)
    return without


def _apart(waiting: Sequence[Open]) -> list[Open]:
    """The first keys of which no two are asked for by one case."""
    taken, found = set[Case](), list[Open]()
    for each in waiting:
        if not taken & set(each.cases):
            found.append(each)
        taken |= set(each.cases)
    return found
