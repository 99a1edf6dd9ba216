"""Trying configs: every candidate of every kernel of one case is checked against the oracle, then timed.

Kernels are tuned one after another, each with the winners of those before it in force. The candidates of one kernel are
timed in turns, so that drift hits all alike; what is timed is the whole pass, of which they change one kernel.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from suite.checks.calling import Call
from suite.checks.checker import Checker, device_context
from suite.checks.inputs import Inputs, draw_inputs
from suite.faults import classify
from suite.measuring.case import Settings
from suite.measuring.context import Spoiled, spoiled
from suite.measuring.preparing import ready as make_ready
from suite.measuring.sampling import Sampled, interleave
from suite.measuring.stopping import Stopping
from suite.measuring.timers import make_timer
from suite.problem import Problem, Value
from suite.registry import Implementation, Operator
from suite.tuning.choices import Config, forcing
from suite.tuning.search import chosen

Emit = Callable[[dict[str, Any]], None]
Begin = Callable[[int, str], None]


@dataclass
class Trial:
    """One candidate of one key. ms and low, high (the median's interval) are None unless its status is ok."""

    index: int
    config: Config
    status: str = "ok"
    reason: str = ""
    ms: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass
class CaseTrials:
    """The trials of one case.

    skip: (key, index) of candidates that ended an earlier worker
    emit: told {"key", "trials", "seconds"} after each key
    begin: told an index before anything that may kill the process
    """

    operator: Operator
    implementation: Implementation
    problem: Problem
    tunables: Mapping[str, Value]
    settings: Settings
    skip: set[tuple[str, int]]
    emit: Emit
    begin: Begin

    def run(self, search: Mapping[str, Sequence[Config]], winners: Mapping[str, Config]) -> None:
        """Try the candidates of each key; `winners` are configs found before, of this case's other kernels."""
        found = dict(winners)
        with device_context(self.settings.device) as device:
            try:
                checker = Checker(self.operator, self.problem, device=device, seed=self.settings.seed)
                inputs = draw_inputs(self.operator, self.problem, self.settings.seed, device)
            except Exception as error:
                self._refuse(search, *classify(error))
                return
            for key, candidates in search.items():
                start = time.perf_counter()
                trials = self._key(key, candidates, found, checker, inputs)
                told = [vars(trial) for trial in trials]
                # What the runner will keep is in force from here on, a tie that changes nothing included.
                if entry := chosen(told):
                    found[key] = entry["config"]
                self.emit({"key": key, "trials": told, "seconds": time.perf_counter() - start})

    def _refuse(self, search: Mapping[str, Sequence[Config]], status: str, reason: str) -> None:
        for key, candidates in search.items():
            trials = [vars(Trial(i, dict(config), status, reason)) for i, config in enumerate(candidates)]
            self.emit({"key": key, "trials": trials, "seconds": 0.0})

    def _key(
        self, key: str, candidates: Sequence[Config], found: Mapping[str, Config], checker: Checker, inputs: Inputs
    ) -> list[Trial]:
        trials = [Trial(i, dict(config)) for i, config in enumerate(candidates) if (key, i) not in self.skip]
        ready: list[tuple[Trial, Sampled]] = []
        for trial in trials:
            sampled = self._ready(trial, {**found, key: trial.config}, checker, inputs)
            if sampled:
                ready.append((trial, sampled))
        interleave(
            [sampled for _, sampled in ready],
            self.settings.deadline,
            begin=lambda i: self.begin(ready[i][0].index, "time"),
            failed=lambda i, error: self._go_on(error),
        )
        for trial, sampled in ready:
            if sampled.error is not None:
                trial.status, trial.reason = classify(sampled.error, self.implementation)
                continue
            summary = sampled.summary()
            trial.ms, trial.low, trial.high = (summary[name] for name in ("time_ms", "ci_low_ms", "ci_high_ms"))
        return trials

    def _go_on(self, error: Exception) -> None:
        """Raises Spoiled, with the reason of the candidate, where the process cannot go on after what it raised."""
        if spoiled(error, self.settings.device):
            raise Spoiled(": ".join(classify(error, self.implementation))) from error

    def _ready(self, trial: Trial, configs: Mapping[str, Config], checker: Checker, inputs: Inputs) -> Sampled | None:
        """The candidate compiled, right, warm and ready to be timed; None when it is not, with the reason noted."""
        # A call of its own: a backward pass keeps the plan that its graph was built with.
        call = Call(self.operator, self.implementation, self.problem, self.tunables, inputs, self.settings.seed)

        def run() -> object:
            with forcing(configs):
                return call.run()

        self.begin(trial.index, "check")
        try:
            with forcing(configs):
                check = checker.check(self.implementation, self.tunables)
                if not check.ok:
                    trial.status, trial.reason = check.status, check.reason
                    if check.raised is not None:
                        self._go_on(check.raised)
                    return None
            self.begin(trial.index, "warmup")
            warm_up(run, self.settings)
            timer = make_timer(self.settings.modes[0], self.settings.device)
            with forcing(configs):
                make_ready(timer, call)
        except Exception as error:
            if isinstance(error, Spoiled):
                raise
            trial.status, trial.reason = classify(error, self.implementation)
            self._go_on(error)
            return None
        return Sampled(run, timer, Stopping(limit_ms=self.settings.rep_ms))


def warm_up(run: Callable[[], object], settings: Settings) -> None:
    """Calls until the warm-up time is over, each awaited: a queue of them would outlast it on a GPU."""
    import torch

    until = time.perf_counter() + settings.warmup_ms / 1e3
    while time.perf_counter() < until:
        run()
        if settings.device == "cuda":
            torch.cuda.synchronize()
