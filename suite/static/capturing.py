"""Capturing launches: host code runs on meta tensors; every Triton launch is recorded and compiled instead of run.

Example::

    with pretending(target_of("sm_90")) as target, Recorder(target) as recorder:
        o, _ = chunk_retention(q, k, v)          # q, k, v on the meta device
    [launch.kernel for launch in recorder.launches]   # ['chunk_fwd_kernel_h', 'chunk_fwd_kernel_o']

The specialisation is that of a real launch: arguments pass through Triton's own binder, and a meta tensor's address is
its offset, so that alignment is what it would be. suite/static/compiling.py lists all that a launch's cache key has. An
autotuner takes the configuration that baselines/tiles/ has for it, else the one with the least predicted time of a few;
what stands in for its timings is never written to the files in which Triton keeps them.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from suite import cachefolder
from suite.errors import CacheError
from suite.faults import classify
from suite.static import binary as binaries
from suite.static.allocation_tracker import AllocationTracker
from suite.static.binary import StaticError
from suite.static.dots import dots_of
from suite.static.model import Binary, Launch, Tuning
from suite.static.residency import grid_over_limit, over_limit, residency
from suite.static.stub_driver import pretending, target_of
from suite.static.tensors import tensors_in
from suite.static.timing.lines import with_lines
from suite.static.timing.predictor import CallPredictor
from suite.targets import Target
from suite.tuning import peers

# Of an autotuner's configurations, how many are tried unless all are asked for; and milliseconds that stand for a time
# that is not known, behind all that are.
TRIED, LATEST = 4, 1e12
# A file that was compiled and is gone; its name is another one each time.
SCRATCH = re.compile(r"\S*/tmp\w+\.ptx")


def capture(
    fn: Callable[[], Any], arch: str, *, gpu: str = "", compiled: bool = True, all_configs: bool = False
) -> list[Launch]:
    """The launches that `fn` makes on meta tensors, compiled for `arch` unless `compiled` is False.

    With `all_configs` the configurations that an autotuner did not choose follow the launches.
    Raises StaticError in a process that uses a GPU or the interpreter, and whatever `fn` raises.
    """
    with pretending(target_of(arch, gpu)) as target, Recorder(target, compiled, all_configs) as recorder:
        fn()
    return [*recorder.launches, *recorder.candidates]


class Recorder:
    """Inside its block every launch becomes an entry of `launches`; `ledger` has memory and eager operations.

    explains, forks: whether launches say why they take their predicted time, and between which ways data decide
    """

    def __init__(
        self,
        target: Target,
        compiled: bool = True,
        all_configs: bool = False,
        explains: bool = False,
        forks: bool = False,
    ) -> None:
        self.target = target
        self.compiled = compiled
        self.all_configs = all_configs
        self.explains = explains
        self.forks = forks
        self.launches: list[Launch] = []
        self.candidates: list[Launch] = []
        self.ledger = AllocationTracker()
        self._predictor = CallPredictor(target) if compiled else None
        self._known: dict[int, bytes] = {}
        self._tunings: list[_Trials] = []
        self._trial = False
        self._tried: Launch | None = None
        self._muted = False
        self._stack = ExitStack()

    def __enter__(self) -> Recorder:
        self._stack.enter_context(self._patched())
        self._stack.enter_context(self.ledger)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Host code inside launches nothing, compiles nothing and is not counted."""
        self._muted = True
        try:
            with self._patched():
                yield
        finally:
            self._muted = False

    def _patched(self) -> ExitStack:
        from triton.runtime.autotuner import Autotuner
        from triton.runtime.jit import JITFunction

        compile_, tune, record = JITFunction.run, Autotuner.run, self

        def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
            if warmup and not record._muted:
                return compile_(self, *args, grid=grid, warmup=True, **kwargs)
            return record._note(self, compile_, args, grid, kwargs)

        def run_tuner(self: Any, *args: Any, **kwargs: Any) -> Any:
            with record._tuning(self):
                return tune(self, *args, **kwargs)

        def bench(self: Any, *args: Any, config: Any, **meta: Any) -> float:
            return record._try(self, args, config, meta)

        stack = ExitStack()
        look_up = Autotuner.check_disk_cache

        def check_disk_cache(self: Any, key: Any, configs: Any, bench_fn: Callable[[], None]) -> bool:
            return record._chosen_before(lambda bench_fn: look_up(self, key, configs, bench_fn), bench_fn)

        stack.enter_context(mock.patch.object(JITFunction, "run", run))
        prune = Autotuner.prune_configs

        def prune_configs(self: Any, kwargs: Any) -> list[Any]:
            if record._tunings:
                record._tunings[-1].key = peers.key_of(self, kwargs)
            return record._few(prune(self, kwargs))

        tuner = {
            "run": run_tuner,
            "_bench": bench,
            "check_disk_cache": check_disk_cache,
            "prune_configs": prune_configs,
        }
        stack.enter_context(mock.patch.multiple(Autotuner, **tuner))
        return stack

    def _chosen_before(self, look_up: Callable[[Callable[[], None]], bool], bench_fn: Callable[[], None]) -> bool:
        """Whether an autotuner's choice was read from a file. A profile reads none: nothing was timed for it."""
        bench_fn()
        return False

    @contextmanager
    def _tuning(self, tuner: Any) -> Iterator[None]:
        self._tunings.append(_Trials(tuner))
        # Tensors are reset between the trials of a tuning run, which is no part of a call.
        still = mock.patch.object(tuner, "pre_hook", return_value=None)
        try:
            with self._undecided(tuner), still:
                yield
        finally:
            self._tunings.pop()

    def _undecided(self, tuner: Any) -> AbstractContextManager[Any]:
        """What an autotuner chose in an earlier call would keep the other configurations from being tried."""
        return mock.patch.object(tuner, "cache", {})

    def _few(self, configs: Sequence[Any]) -> list[Any]:
        """The configurations that are tried: all; or that of a table; or a few, spread over the list from its first.

        What the table of another compiler has, or for a size far from this one, is tried beside those few.
        """
        if self.all_configs:
            return list(configs)
        few = list(configs) if len(configs) <= TRIED else [configs[i * len(configs) // TRIED] for i in range(TRIED)]
        if not self._tunings:
            return few
        chosen, own = peers.chosen_for(self.target.arch, self._tunings[-1].key)
        known = [config for config in configs if chosen is not None and config.all_kwargs() == chosen]
        if own and known:
            return known
        return [*few, *(config for config in known if config not in few)]

    def _try(self, tuner: Any, args: Sequence[Any], config: Any, meta: dict[str, Any]) -> float:
        """Stand in for a timing: the predicted time. Where there is none, the first configuration is taken."""
        if self._muted or not self.compiled:
            return 0.0
        tuner.best_config, self._trial, self._tried = config, True, None
        if config.pre_hook:
            # It may set the block shape of a tensor descriptor.
            config.pre_hook({**tuner.nargs, **meta, **config.all_kwargs()})
        try:
            tuner.fn.run(*args, **{**meta, **config.all_kwargs()})
        finally:
            self._trial = False
        tried = self._tried
        if tried is None or tried.status != "ok":
            return math.inf
        if tried.predicted is None or tried.predicted.ms is None:
            return LATEST
        self._tunings[-1].ms[str(config)] = tried.predicted.ms
        return tried.predicted.ms

    def _note(
        self, fn: Any, compile_: Callable[..., Any], args: Sequence[Any], grid: Any, kwargs: dict[str, Any]
    ) -> Any:
        if self._muted:
            return None
        named = {name: value for name, value in kwargs.items() if name in fn.signature.parameters}
        bound = fn.signature.bind(*args, **named)
        bound.apply_defaults()
        size: Any = grid(bound.arguments) if callable(grid) else grid
        config = str(self._tunings[-1].tuner.best_config) if self._tunings else ""
        tensors = list(tensors_in(bound.arguments.values()))
        values = {"kernel": fn.__name__, "grid": _three(size), "config": config}
        kernel, made = self._build(fn, compile_, args, grid, kwargs) if self.compiled else (None, {})
        if min(values["grid"]) < 1 and "status" not in made:
            # Triton compiles for an empty grid, and launches nothing.
            return kernel
        traffic = 0 if self._trial else self.ledger.touch(tensors)
        launch = self._finish(Launch(**values, **made, traffic_bytes=traffic))
        if self._predictor and kernel and launch.residency:
            before = self.ledger.touches if self._trial else self.ledger.touches[:-1]
            lines = partial(with_lines, fn, partial(compile_, fn, *args, grid=grid, warmup=True, **kwargs))
            launch = self._predictor.predict(
                launch,
                kernel,
                bound.arguments,
                self.ledger.touched(tensors),
                before,
                lines,
                self.explains and not self._trial,
                self._contents(bound.arguments),
                self.forks and not self._trial,
            )
        if not self._trial:
            tuning = self._tunings[-1].tuning() if self.all_configs and self._tunings else None
            self.launches.append(replace(launch, tuning=tuning))
            return kernel
        self._tried = launch
        if self.all_configs and launch not in self.candidates:
            self.candidates.append(launch)
        return kernel

    def knows(self, tensor: torch.Tensor, content: torch.Tensor) -> None:
        """Tell what a meta tensor holds, such as cu_seqlens: jumps that depend on it are then followed."""
        self._known[self.ledger.number(tensor)] = content.contiguous().numpy().tobytes()

    def _contents(self, arguments: Mapping[str, Any]) -> dict[str, bytes]:
        """What a launch's arguments hold, by name, of those that are known: whole tensors, not views of a part."""
        found = dict[str, bytes]()
        for name, x in arguments.items():
            if isinstance(x, torch.Tensor) and x.is_contiguous() and not x.storage_offset():
                content = self._known.get(self.ledger.number(x), b"")
                if len(content) == x.numel() * x.element_size() > 0:
                    found[name] = content
        return found

    def _build(
        self, fn: Any, compile_: Callable[..., Any], args: Sequence[Any], grid: Any, kwargs: dict[str, Any]
    ) -> tuple[Any, dict[str, Any]]:
        try:
            kernel, binary = _compiled(fn, compile_, args, grid, kwargs)
        except (CacheError, StaticError):
            raise
        except Exception as error:
            # Host code goes on, so that the launches after this one are profiled too.
            return None, {"status": "compile_error", "reason": SCRATCH.sub("kernel.ptx", classify(error)[1])}
        meta = kernel.metadata
        return kernel, {
            "binary": binary,
            "dots": dots_of(kernel.asm.get("ttgir")),
            "warps": meta.num_warps,
            "stages": meta.num_stages,
            "shared_bytes": meta.shared,
            "reason": over_limit(kernel, self.target),
        }

    def _finish(self, launch: Launch) -> Launch:
        if launch.binary is None:
            return launch
        reason = launch.reason or grid_over_limit(launch)
        status = "over_limit" if reason else "ok"
        return replace(launch, status=status, reason=reason, residency=residency(launch, self.target))


class _Trials:
    """One call of an autotuner. key: what its choice depends on; ms: predicted times of the configurations tried."""

    def __init__(self, tuner: Any) -> None:
        self.tuner = tuner
        self.key = ""
        self.ms: dict[str, float] = {}

    def tuning(self) -> Tuning | None:
        """The choice that the predicted times make; None where it was made before, or none has one."""
        best = self.tuner.best_config
        if str(best) not in self.ms:
            return None
        us = {config: 1e3 * ms for config, ms in self.ms.items()}
        return Tuning(self.key, best.all_kwargs(), us[str(best)], next(iter(us.values())), len(us))


def _compiled(
    fn: Any, compile_: Callable[..., Any], args: Sequence[Any], grid: Any, kwargs: dict[str, Any]
) -> tuple[Any, Binary]:
    from triton import knobs

    with redirect_stdout(io.StringIO()) as log, cachefolder.writing(Path(knobs.cache.dir)):
        kernel = compile_(fn, *args, grid=grid, warmup=True, **kwargs)
        found = binaries.known(kernel.asm["cubin"])
        if found is None and "spill stores" not in log.getvalue():
            # Triton had the binary in a cache of its own, so ptxas did not speak: let it.
            fn.device_caches.clear()
            with knobs.compilation.scope():
                knobs.compilation.always_compile = True
                kernel = compile_(fn, *args, grid=grid, warmup=True, **kwargs)
    return kernel, found or binaries.analyse(kernel.asm["cubin"], log.getvalue())


def _three(grid: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = (*(int(n) for n in grid), 1, 1)[:3]
    return x, y, z
