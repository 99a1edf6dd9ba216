"""The runner's side of tuning: which keys are open, workers that try them, and the table that keeps the winners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from suite.measuring.case import Settings
from suite.plan import Group
from suite.problem import Case
from suite.registry import Registry
from suite.running.budget import Budget
from suite.running.messages import Disconnected
from suite.running.process import WorkerProcess
from suite.tuning.choices import Config
from suite.tuning.tables import Tuned


@dataclass(frozen=True)
class Job:
    """One case and the candidates of its kernels that are still open, by key."""

    case: Case
    search: Mapping[str, Sequence[Config]]


def searches(
    registry: Registry, groups: Sequence[Group], device: str
) -> Iterator[tuple[Case, float, str, list[Config]]]:
    """Each case that can be tuned on a device with each key that it asks for: executed FLOPs, key, candidates."""
    for group in groups:
        operator = registry.operator(group.operator)
        for case in group.cases:
            made, tunables = operator.implementations[case.implementation], dict(case.tunables)
            if made.search is None or device not in made.devices:
                continue
            if made.unsupported(case.problem, tunables, operator.axes):
                continue
            flops = operator.cost_of(case.problem, made, tunables).flops_exec
            for key, configs in made.searched(case.problem, tunables).items():
                yield case, flops, key, list(configs)


def jobs(registry: Registry, groups: Sequence[Group], known: set[str], device: str) -> list[Job]:
    """Cases that can be tuned on a device, each key once: in the largest case that launches it.

    A choice that was made at a short length would serve the long ones too, where time is spent.
    """
    largest: dict[str, tuple[tuple[float, ...], Case, Sequence[Config]]] = {}
    for case, flops, key, configs in searches(registry, groups, device):
        size = size_of(case, flops)
        if key not in known and (key not in largest or size > largest[key][0]):
            largest[key] = size, case, configs
    found: dict[Case, dict[str, Sequence[Config]]] = {}
    for key, (_, case, configs) in largest.items():
        found.setdefault(case, {})[key] = configs
    return [Job(case, search) for case, search in found.items()]


def size_of(case: Case, flops: float) -> tuple[float, ...]:
    """Larger for more work; at one shape, for the pass of which a kernel that several share is the largest part."""
    p = case.problem
    return p.B * p.T * p.HS, p.T, -flops


def why_none(registry: Registry, groups: Sequence[Group], device: str) -> list[str]:
    """Why there is no job: each reason for which cases cannot be tuned on a device, once."""
    untunable: dict[str, None] = {}
    found: dict[str, None] = {}
    for group in groups:
        operator = registry.operator(group.operator)
        for case in group.cases:
            made = operator.implementations[case.implementation]
            name = f"{made.operator}/{made.name}"
            if made.search is None:
                untunable[name] = None
                continue
            reason = made.runs_elsewhere(device) or made.unsupported(case.problem, dict(case.tunables), operator.axes)
            found[
                f"{made.operator}: {reason}"
                if reason
                else f"the table has every kernel of {name}; --refresh measures them again"
            ] = None
    if len(untunable) > 3:
        return [f"{len(untunable)} implementations have no configs to try", *found]
    return [*(f"{name} has no configs to try" for name in untunable), *found]


@dataclass
class Tuning:
    """Tries jobs in workers; a candidate that ends its worker costs itself alone.

    keep:   told (key, entry) of each key that has a winner
    failed: told (case_id, key, trial) of each candidate that was not ok
    """

    settings: Settings
    start: Callable[[], WorkerProcess]
    budget: Budget
    timeout_s: float
    keep: Callable[[str, Tuned], None]
    failed: Callable[[str, str, Mapping[str, Any]], None]
    versions: dict[str, str]
    left_out: list[str] = field(default_factory=list)
    _worker: WorkerProcess | None = None

    def run(self, todo: Sequence[Job]) -> None:
        """Try every job; those that the budget has no room for are left out."""
        try:
            for job in todo:
                if self.budget.left is not None and self.budget.left <= 0:
                    self.left_out += job.search
                    continue
                self._job(job)
        finally:
            self._end_worker()

    def _job(self, job: Job) -> None:
        open_keys = dict(job.search)
        winners: dict[str, Config] = {}
        lost: dict[str, list[dict[str, Any]]] = {}
        while open_keys and (ended := self._attempt(job, open_keys, winners, lost)):
            # Keys are tried in order, so the worker ended in the first one that has no result.
            if open_keys:
                lost.setdefault(next(iter(open_keys)), []).append(ended)

    def _attempt(
        self,
        job: Job,
        open_keys: dict[str, Sequence[Config]],
        winners: dict[str, Config],
        lost: Mapping[str, list[dict[str, Any]]],
    ) -> dict[str, Any] | None:
        """Send what is open to a worker; the trial that ended the worker, or None when all went through."""
        worker = self._worker = self._worker or self.start()
        index, phase = 0, "start"
        try:
            worker.channel.send(self._request(job, open_keys, winners, lost))
            while True:
                message = worker.channel.receive(self.timeout_s)
                if message is None:
                    return self._ended("timeout", f"nothing happened for {self.timeout_s:.0f} s during {phase}", index)
                if message["event"] == "begin":
                    index, phase = message["case"], message["phase"]
                elif message["event"] == "key":
                    self._result(job, message, open_keys, winners, lost)
                elif message["event"] == "spoiled":
                    status, _, reason = message["reason"].partition(": ")
                    return self._ended(status, reason, index)
                elif message["event"] == "done":
                    return None
        except Disconnected:
            return self._ended("crashed", f"the worker ended by {worker.how_it_ended()} during {phase}", index)

    def _ended(self, status: str, reason: str, index: int) -> dict[str, Any]:
        self._end_worker()
        return {"index": index, "status": status, "reason": reason, "ms": None}

    def _result(
        self,
        job: Job,
        message: dict[str, Any],
        open_keys: dict[str, Sequence[Config]],
        winners: dict[str, Config],
        lost: Mapping[str, list[dict[str, Any]]],
    ) -> None:
        key = message["key"]
        candidates = open_keys.pop(key)
        ended = [{**each, "config": candidates[each["index"]]} for each in lost.get(key, [])]
        trials = sorted([*message["trials"], *ended], key=lambda trial: trial["index"])
        for trial in trials:
            if trial["status"] != "ok":
                self.failed(job.case.case_id, key, trial)
        entry = chosen(trials)
        if entry is None:
            return
        winners[key] = entry["config"]
        self.keep(
            key,
            Tuned(
                **entry,
                seconds=round(message["seconds"], 3),
                case_id=job.case.case_id,
                timer=self.settings.modes[0],
                commit=self.settings.commit,
                versions=self.versions,
            ),
        )

    def _request(
        self,
        job: Job,
        open_keys: Mapping[str, Sequence[Config]],
        winners: Mapping[str, Config],
        lost: Mapping[str, list[dict[str, Any]]],
    ) -> dict[str, Any]:
        settings = asdict(self.settings)
        settings.pop("deadline")
        return {
            "do": "tune",
            "operator": job.case.operator,
            "problem": job.case.problem.columns(),
            "axes": dict(job.case.problem.axes),
            "implementation": job.case.implementation,
            "tunables": dict(job.case.tunables),
            "settings": settings,
            "search": {key: [dict(config) for config in configs] for key, configs in open_keys.items()},
            "winners": {key: dict(config) for key, config in winners.items()},
            "skip": [(key, trial["index"]) for key, trials in lost.items() for trial in trials],
        }

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker = None


def chosen(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The winner, the runner-up and what became of the others; None when no candidate was right.

    The table's own config (index 0) stays unless the fastest one's interval lies below its: a tie changes nothing.
    """
    timed = sorted((trial for trial in trials if trial["ms"] is not None), key=lambda trial: trial["ms"])
    if not timed:
        return None
    default = next((trial for trial in timed if trial["index"] == 0), None)
    best = timed[0]
    if default is not None and best["high"] >= default["low"]:
        best = default
    second = next((trial for trial in timed if trial is not best), None)
    refused: dict[str, int] = {}
    for trial in trials:
        if trial["ms"] is None:
            refused[trial["status"]] = refused.get(trial["status"], 0) + 1
    return {
        "config": dict(best["config"]),
        "ms": best["ms"],
        "default_ms": default["ms"] if default else None,
        "runner_up": dict(second["config"]) if second else None,
        "runner_up_ms": second["ms"] if second else None,
        "tried": len(timed),
        "refused": refused,
    }
