"""Compiling ahead: the kernels that one case of a run will launch go into Triton's cache before the run asks for them.

Example::

    with pretending(target, stock=True):
        compile_case(operator, implementation, problem, {"chunk": 64}, target, "timed").kernels

Triton finds a kernel by a hash over these, and each is here what it is in a launch on the device:

- the kernel's source, the Triton functions that it calls and the line that it begins at: the same files;
- the types of its arguments, and what is special about their values. Triton's own binder reads them, an integer for
  being 1, a multiple of 16, or beyond 32 bits, as the host code passes it. A pointer counts as aligned when its address
  is a multiple of 16; a meta tensor's address is its offset in its storage. torch aligns storages to 64 bytes on a CPU
  and 256 on a GPU, and guarded memory is fenced by 4096. A tensor descriptor counts by its dtype, its block shape and
  its layout, and an argument that is None, a tuple or a Triton function by itself;
- constants: what host code computes of shapes, of `suite.target()` and of tuned configs. The target is the device's own
  description, which a worker on the device gives, so that SMs, shared memory and the GPU's name are those of the run;
- options: warps, stages, CTAs, registers, and those that environment variables set. The process has the environment of
  the one that will launch, and changes none of Triton's settings (the static profile changes three, so that its
  binaries lie in a cache of their own);
- the target: GPUTarget("cuda", 90, 32), from which Triton derives "sm_90a" and the PTX version by asking ptxas;
- Triton itself, its LLVM and ptxas, by their bytes and version, and the variables that Triton says invalidate its
  cache.

A run makes several calls of a case, in which arguments differ, and `calls_of` names them. An autotuner tries its
configurations when it meets a key first, so all that it would try are compiled, for each call; where Triton's or the
library's own files know its choice already, that one alone. What torch.compile generates, CUDA extensions, and kernels
whose host code asks for a tensor's values are not covered: they compile when they are reached.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any

from suite.checks.calling import Call
from suite.checks.checker import BACKWARD_T, refusal
from suite.errors import CacheError
from suite.faults import classify
from suite.problem import Problem, Value
from suite.registry import Implementation, Operator
from suite.static.binary import StaticError
from suite.static.capturing import SCRATCH, Recorder
from suite.static.profiling import meaning, meta_inputs
from suite.targets import Target

# What a run does with a case: it times it, with the checks before and after; or it checks it.
CALLS = ("timed", "check")


@dataclass(frozen=True)
class Kernel:
    """One kernel of a case.

    config:  the autotuner's configuration, "" without an autotuner
    path:    its entry in Triton's cache; "" where it did not compile
    status:  ok, or why it did not compile, with the reason
    trial:   whether it is a configuration that an autotuner tries, and goes on without where it does not compile
    seconds: what compiling it took; 0 where the cache had it
    """

    name: str
    config: str = ""
    path: str = ""
    status: str = "ok"
    reason: str = ""
    trial: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class Compiled:
    """The kernels of one case. status: ok, or why the case has no kernels to compile, with the reason."""

    kernels: tuple[Kernel, ...] = ()
    status: str = "ok"
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Compiled:
        return cls(tuple(Kernel(**each) for each in values["kernels"]), values["status"], values["reason"])


def calls_of(problem: Problem, calls: str) -> list[Problem]:
    """The problems that a run calls an implementation with for one case.

    The check takes the gradients of a shorter problem; the check after timing looks at the timed calls themselves.
    """
    long = problem.differentiates and problem.T > BACKWARD_T
    checked = problem.replace(T=BACKWARD_T) if long else problem
    if checked.differentiates:
        checked = checked.replace(pass_="fwdbwd")
    found = [checked]
    if calls == "timed":
        found.append(problem)
    return list(dict.fromkeys(found))


def compile_case(
    operator: Operator,
    implementation: Implementation,
    problem: Problem,
    tunables: Mapping[str, Value],
    target: Target,
    calls: str,
    *,
    all_configs: bool = True,
    part: int = 0,
    parts: int = 1,
) -> Compiled:
    """Compile what a run will launch for one case, in a process that pretends to be the target with stock options.

    part, parts: which of the configurations that autotuners try, as in suite.static.tasks.Ahead
    A kernel that does not compile costs nothing but itself. Raises CacheError where the cache cannot be written.
    """
    if reason := refusal(operator, implementation, problem, tunables, "cuda"):
        return Compiled(status="unsupported", reason=reason)
    kernels: dict[Any, Kernel] = {}
    status, reason = "ok", ""
    for called in calls_of(problem, calls):
        recorder = _StockRecorder(target, kernels, all_configs, part, parts)
        try:
            with recorder:
                call = Call(operator, implementation, called, tunables, meta_inputs(operator, called))
                call.prepare()
                call.run()
        except (CacheError, StaticError):
            raise
        except Exception as error:
            status, reason = meaning(error, implementation)
        finally:
            recorder.forget()
    if status == "ok" and not kernels and not part:
        return Compiled(status="unsupported", reason="launches no Triton kernel")
    return Compiled(tuple(kernels.values()), status, reason)


class _StockRecorder(Recorder):
    """Compiles launches as Triton would on the device, and reads nothing off the binaries."""

    def __init__(self, target: Target, kernels: dict[Any, Kernel], all_configs: bool, part: int, parts: int) -> None:
        super().__init__(target, all_configs=all_configs)
        self._kernels = kernels
        self._part, self._parts, self._configs = part, parts, 0
        self._met: list[Any] = []

    def forget(self) -> None:
        """Undo the autotuners' choices: they were made of nothing."""
        for tuner in self._met:
            tuner.cache.clear()

    def _undecided(self, tuner: Any) -> Any:
        # What the library's own files say stands in the tuner's cache, and is kept.
        self._met.append(tuner)
        return nullcontext()

    def _chosen_before(self, look_up: Callable[[Callable[[], None]], bool], bench_fn: Callable[[], None]) -> bool:
        """Read the choice that Triton stored, if it did, and store none."""

        class Unknown(Exception):
            pass

        def unknown() -> None:
            raise Unknown

        try:
            return look_up(unknown)
        except Unknown:
            bench_fn()
            return False

    def _few(self, configs: Sequence[Any]) -> list[Any]:
        return list(configs) if self.all_configs else list(configs[:1])

    def _is_mine(self) -> bool:
        """Whether a launch belongs to this part. Parts meet the same launches in the same order."""
        if not self._trial:
            return self._part == 0
        self._configs += 1
        return self._configs % self._parts == self._part

    def _build(
        self, fn: Any, compile_: Callable[..., Any], args: Sequence[Any], grid: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        if not self._is_mine():
            return None, {}
        config = str(self._tunings[-1].tuner.best_config) if self._tunings else ""
        began = time.perf_counter()
        with _misses() as missed:
            try:
                kernel = compile_(fn, *args, grid=grid, warmup=True, **kwargs)
            except OSError as error:
                remedy = "make room, or set TRITON_CACHE_DIR to another folder"
                raise CacheError(f"Triton cannot write its cache: {error}; {remedy}") from error
            except Exception as error:
                status, reason = classify(error)
                reason = SCRATCH.sub("kernel.ptx", reason)
                failed = Kernel(fn.__name__, config, "", status, reason, self._trial and _is_skipped(error))
                self._kernels.setdefault((fn.__name__, config, reason), failed)
                # Host code goes on, so that the launches after this one are compiled too.
                return None, {}
        path = next(path for name, path in kernel.metadata_group.items() if name.endswith(".json"))
        seconds = time.perf_counter() - began if missed else 0.0
        self._kernels.setdefault(path, Kernel(fn.__name__, config, str(path), trial=self._trial, seconds=seconds))
        return kernel, {}


def _is_skipped(error: Exception) -> bool:
    """Whether an autotuner goes on without a configuration that raises this."""
    from triton.compiler.errors import CompileTimeAssertionFailure
    from triton.runtime.errors import OutOfResources, PTXASError

    return isinstance(error, OutOfResources | CompileTimeAssertionFailure | PTXASError)


@contextmanager
def _misses() -> Any:
    """A list that gets an item for each kernel that Triton's cache does not have."""
    from triton import knobs

    missed: list[bool] = []
    before = knobs.compilation.listener

    def listener(**told: Any) -> None:
        if not told["cache_hit"]:
            missed.append(True)

    knobs.compilation.listener = listener
    try:
        yield missed
    finally:
        knobs.compilation.listener = before
