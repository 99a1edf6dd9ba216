"""Compiling and tuning of a case: kernels compiled or found in Triton's cache, configurations that autotuners chose.

Example::

    with Watch() as watch:
        run()
    watch.columns()      # compile.* and tuning.*, as in docs/records.md

Triton tells of every kernel that it compiles or loads. Of its autotuners, which peers use, it tells nothing before 3.9,
so their `run` is looked over while the block lasts, and is as it was when samples are taken.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from suite.hardware.assemblers import version_for

MICROSECONDS = 1e6


@dataclass
class Tuned:
    """One autotuned kernel: what was chosen, from how many, and how far behind the second best was.

    runner_up: time of the second best over that of the best; None where the choice was made before
    seconds:   what trying cost; 0 where nothing was tried
    """

    configuration: dict[str, Any]
    candidates: int
    runner_up: float | None = None
    seconds: float = 0.0


@dataclass
class Watch:
    """Notes what Triton compiles and tunes inside the block. Blocks may follow one another: they add up."""

    compiled: int = 0
    loaded: int = 0
    compile_s: float = 0.0
    load_s: float = 0.0
    tuned: dict[str, Tuned] = field(default_factory=dict)
    _capability: int | None = None
    _undo: list[Any] = field(default_factory=list, repr=False)

    def __enter__(self) -> Watch:
        # Importing Triton takes a second, and where nothing has imported it nothing compiles with it.
        if "triton" in sys.modules:
            self._listen()
            self._look_over()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        while self._undo:
            self._undo.pop()()

    def columns(self) -> dict[str, Any]:
        """Fields of a record; none where Triton compiled and tuned nothing."""
        found: dict[str, Any] = {}
        if self.compiled or self.loaded:
            found |= {
                "compile.cache": "warm" if not self.compiled else "cold" if not self.loaded else "mixed",
                "compile.kernels": self.compiled,
                "compile.loaded": self.loaded,
                "compile.seconds": self.compile_s,
                "compile.load_s": self.load_s,
            }
            # Triton's cache has what this ptxas made: its key holds the version.
            if self._capability is not None and (made_by := version_for(self._capability)):
                found["compile.ptxas"] = made_by
        if self.tuned:
            found["tuning.kernels"] = {name: vars(each) for name, each in self.tuned.items()}
            found["tuning.seconds"] = sum(each.seconds for each in self.tuned.values())
            behind = [each.runner_up for each in self.tuned.values() if each.runner_up is not None]
            found["tuning.runner_up"] = min(behind, default=None)
        return found

    def _listen(self) -> None:
        from triton import knobs

        before = knobs.compilation.listener

        def listener(**told: Any) -> None:
            self._note(told["cache_hit"], told["times"].total / MICROSECONDS)
            arch = told["metadata"]["target"].arch
            self._capability = arch if isinstance(arch, int) else None
            if before is not None:
                before(**told)

        knobs.compilation.listener = listener
        self._undo.append(lambda: setattr(knobs.compilation, "listener", before))

    def _note(self, loaded: bool, seconds: float) -> None:
        if loaded:
            self.loaded += 1
            self.load_s += seconds
        else:
            self.compiled += 1
            self.compile_s += seconds

    def _look_over(self) -> None:
        from triton.runtime.autotuner import Autotuner

        before = Autotuner.run
        watch = self

        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            timings = getattr(self, "configs_timings", None)
            result = before(self, *args, **kwargs)
            watch._chose(self, getattr(self, "configs_timings", None) is not timings)
            return result

        Autotuner.run = run
        self._undo.append(lambda: setattr(Autotuner, "run", before))

    def _chose(self, tuner: Any, now: bool) -> None:
        name = tuner.base_fn.__name__
        if not now and name in self.tuned:
            return
        told = tuner.best_config.all_kwargs().items()
        words = {key: value if isinstance(value, int | float | str) else str(value) for key, value in told}
        chosen = Tuned(words, len(tuner.configs))
        if now:
            chosen.runner_up = _behind([_middle(each) for each in tuner.configs_timings.values()])
            # Timings that came from a file of Triton's cost nothing here, and leave no time behind.
            chosen.seconds = getattr(tuner, "bench_time", 0.0)
        self.tuned[name] = chosen


def _middle(timing: Any) -> float:
    # A benchmark of its own may return one number instead of (median, p20, p80).
    return float(timing[0]) if isinstance(timing, list | tuple) else float(timing)


def _behind(times: list[float]) -> float | None:
    ordered = sorted(times)
    return ordered[1] / ordered[0] if len(ordered) > 1 and ordered[0] > 0 and ordered[1] < float("inf") else None
