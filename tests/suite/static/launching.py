"""A run of cases as on a GPU, up to the launches, which do nothing: how many kernels Triton has to compile for it.

`python -m tests.suite.static.launching CASES [PLUGIN...]` prints {"hits": [...], "misses": [...]}, kernels' names.
CASES is JSON: [operator, implementation, columns of the problem, tunables] of each. The suite's own measuring code
runs, on tensors that have memory, with the driver's launcher replaced: nothing captures its launches, and Triton
compiles or loads them as ever.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch

from suite.static.stub_driver import StubDriver, answering, target_of


class Launching(StubDriver):
    """A driver whose GPU does nothing."""

    def __init__(self, target: Any) -> None:
        super().__init__(target)
        loaded = (None, None, 0, 0, 1024)
        self.utils = SimpleNamespace(
            get_device_properties=self._properties,
            load_binary=lambda *_: loaded,
            unload_module=lambda _: None,
        )

    def launcher_cls(self, *_: Any) -> Any:
        return lambda *_: None

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_benchmarker(self) -> Any:
        def bench(call: Any, quantiles: Any) -> list[float]:
            call()
            return [1.0] * len(quantiles)

        return bench


def main(words: list[str]) -> None:
    cases, *plugins = words
    found: dict[str, list[str]] = {"hits": [], "misses": []}
    with answering(target_of("sm_90")) as target:
        from triton import knobs
        from triton.runtime import driver

        from suite.checks.checker import Check
        from suite.discovery import discover
        from suite.measuring.case import ProblemRun, Settings
        from suite.problem import Case, Problem

        driver.set_active(Launching(target))  # type: ignore[arg-type]

        def listener(**told: Any) -> None:
            found["hits" if told["cache_hit"] else "misses"].append(told["src"].name)

        knobs.compilation.listener = listener
        registry = discover(load=plugins)
        settings = Settings("cpu", "cpu", ("warm-cpu",), warmup_ms=0.0, rep_ms=1.0)
        # What is compared is memory that nobody wrote.
        right = mock.patch("suite.checks.checker.Checker._compare", side_effect=lambda *_: Check("ok"))
        moved = mock.patch("suite.checks.checker.Checker._compare_moved")
        with right, moved, mock.patch("suite.measuring.case.refusal", return_value=None):
            for name, implementation, columns, tunables in json.loads(cases):
                operator = registry.operator(name)
                problem = operator.complete(Problem.from_columns(columns))
                case = Case(name, implementation, problem, tuple(tunables.items()), operator.axes)
                records: list[Any] = []
                ProblemRun(operator, problem, [case], settings, "timed", records.append, lambda *_: None).measure()
                # A time above the CPU's roof is no matter here.
                assert records[0]["status"] in ("ok", "implausible"), records[0]["reason"]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
