"""Leftovers: state of the whole process that an implementation changed, put back when its code has returned.

Cases are measured in one process, in turns. What one of them sets for all, such as the number of threads, would be in
the times of all that follow. So state is read before an implementation runs and compared afterwards. What differs is
put back, and the record of the implementation that changed it says so (`left_behind`).

Example::

    left = Leftovers("cpu")
    with left.put_back():
        run()
    left.told()      # ["number of threads: 2 -> 1"]

Python's garbage collector is off inside, as it is while samples are taken: no code can tell one from the other by it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import resource
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch

from suite.measuring import clock, sampling, timers

# Of one value, in words.
LONGEST = 40
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGPROF)
TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
LIMITS = tuple(f"RLIMIT_{name}" for name in ("DATA", "AS", "NOFILE", "NPROC", "FSIZE", "CPU"))
CLOCKS = ("perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns", "time", "time_ns", "sleep")
CLOCK = tuple(clock.__all__)
FUNCTIONS_OF = (
    (torch, "torch"),
    (torch.Tensor, "torch.Tensor"),
    (torch.nn.functional, "torch.nn.functional"),
    (torch.linalg, "torch.linalg"),
    (torch.autograd, "torch.autograd"),
)
NOT_UNDONE = ", which only a fresh process undoes"


class Unreadable(str):
    """Why a piece of state could not be read."""


@dataclass(frozen=True)
class Part:
    """One piece of state.

    read:  what it is now
    write: makes it what it was; None for what cannot be put back, and is only told
    words: (before, after) -> what is told of a difference, by default both values; "" tells nothing
    imported: whether a library that is imported may change it, for its own good: then it stays, and nothing is told
    """

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], object] | None = None
    words: Callable[[Any, Any], str] | None = None
    imported: bool = False

    def now(self) -> Any:
        """What `read` says, or Unreadable: torch refuses flags that contradict each other, and a device may be lost."""
        try:
            return self.read()
        except Exception as error:
            return Unreadable(error)

    def differs(self, before: Any, after: Any) -> str:
        """What is told of a difference."""
        if self.words is not None:
            return self.words(before, after)
        return f"{self.name}: {_short(before)} -> {_short(after)}"


class Leftovers:
    """What one implementation leaves, over all the times that its code is called.

    device: `cuda`, `cpu` or `interpret`
    """

    def __init__(self, device: str) -> None:
        self._parts, self._random = parts(device), random_parts(device)
        self._told: dict[str, str] = {}

    def told(self) -> list[str]:
        """What it changed, each thing once."""
        return list(self._told.values())

    @contextmanager
    def put_back(self, samples: bool = False) -> Iterator[None]:
        """What is changed inside is put back, and noted.

        samples: whether samples are taken inside, some milliseconds of them: random numbers may go on from there
        """
        collects = gc.isenabled()
        gc.disable()
        watched = self._parts if samples else self._parts + self._random
        before = [part.now() for part in watched]
        modules = len(sys.modules)
        variables = os.environ.copy()
        try:
            yield
        finally:
            imported = len(sys.modules) != modules
            self._restore([(p, old) for p, old in zip(watched, before, strict=True) if not (p.imported and imported)])
            self._restore_variables(variables, imported)
            if collects:
                gc.enable()

    def _restore(self, watched: list[tuple[Part, Any]]) -> None:
        found = [(part, old, part.now()) for part, old in watched]
        changed = [(part, old, now) for part, old, now in found if _differ(old, now)]
        if not changed:
            return
        for part, old, _ in changed:
            _write(part, old)
        # One may have changed another: the precision of matrix products stands in several places.
        for part, old in watched:
            if part.write is not None and _differ(old, part.now()):
                _write(part, old)
        for part, old, now in changed:
            if not isinstance(now, Unreadable) and (words := part.differs(old, now)):
                stays = part.write is not None and _differ(old, part.now())
                self._told.setdefault(part.name, words + (NOT_UNDONE if stays else ""))

    def _restore_variables(self, before: dict[str, str], imported: bool) -> None:
        """Environment variables; those that appear while a library is imported stay, as its next user needs them."""
        after = os.environ.copy()
        if after == before:
            return
        for name in after.keys() - before.keys():
            self._told.setdefault(f"variable {name}", f"environment variable {name}: set")
            if not imported:
                del os.environ[name]
        for name, value in before.items():
            if (now := after.get(name)) != value:
                how = "removed" if now is None else "changed"
                self._told.setdefault(f"variable {name}", f"environment variable {name}: {how}")
                os.environ[name] = value


@lru_cache(maxsize=4)
def parts(device: str) -> tuple[Part, ...]:
    """What is told of when it changes, on a device of a kind."""
    return (*_of_torch(), *_of_python(), *(of_cuda(torch.cuda) if device == "cuda" else ()))


@lru_cache(maxsize=4)
def random_parts(device: str) -> tuple[Part, ...]:
    """The states of random numbers. Who draws some does nothing wrong: they are put back, and nothing is told."""

    def silent(before: Any, after: Any) -> str:
        return ""

    found = [
        Part("torch's random numbers", torch.get_rng_state, torch.set_rng_state, silent),
        Part("Python's random numbers", random.getstate, random.setstate, silent),
        Part("numpy's random numbers", _numpy_state, _set_numpy_state, silent),
    ]
    if device == "cuda":
        found.append(Part("the device's random numbers", torch.cuda.get_rng_state, torch.cuda.set_rng_state, silent))
    return tuple(found)


def of_cuda(cuda: Any) -> Iterator[Part]:
    """The state of torch.cuda."""
    yield Part("current device", cuda.current_device, cuda.set_device)
    yield Part("current stream", cuda.current_stream, cuda.set_stream, lambda before, after: "current stream: another")
    yield Part("sync debug mode", cuda.get_sync_debug_mode, cuda.set_sync_debug_mode)


def _of_torch() -> Iterator[Part]:
    yield Part("number of threads", torch.get_num_threads, torch.set_num_threads)
    yield Part("number of inter-op threads", torch.get_num_interop_threads)
    yield Part("default dtype", torch.get_default_dtype, torch.set_default_dtype)
    yield Part("default device", torch.get_default_device, _set_default_device)
    yield Part("deterministic algorithms", _deterministic, _set_deterministic)
    yield Part("float32 matmul precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision)
    yield from _precisions()
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    for owner, said, names in (
        (matmul, "matmul", ("allow_fp16_reduced_precision_reduction", "allow_bf16_reduced_precision_reduction")),
        (cudnn, "cudnn", ("enabled", "benchmark", "deterministic")),
    ):
        for name in names:
            yield Part(f"{said}.{name}", partial(getattr, owner, name), partial(setattr, owner, name))
    einsum = torch.backends.opt_einsum
    backends = torch.backends.cuda
    for name in ("flash", "mem_efficient", "math", "cudnn"):
        read, write = getattr(backends, f"{name}_sdp_enabled"), getattr(backends, f"enable_{name}_sdp")
        yield Part(f"{name} attention", read, write)
    yield Part("anomaly detection", _anomaly, lambda old: torch.set_anomaly_enabled(*old))
    yield Part("grad mode", torch.is_grad_enabled, torch.set_grad_enabled)
    yield Part("inference mode", torch.is_inference_mode_enabled, _set_inference_mode)
    for device in ("cpu", "cuda"):
        yield Part(f"autocast on {device}", partial(_autocast, device), partial(_set_autocast, device))
    yield Part("autocast's cache", torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled)
    yield Part("threads in backward passes", torch._C._is_multithreading_enabled, torch._C._set_multithreading_enabled)
    # A mode that was entered and not left sees every call of everybody.
    for name, length, pop in (
        ("torch function modes", torch._C._len_torch_function_stack, torch._C._pop_torch_function_stack),
        ("torch dispatch modes", torch._C._len_torch_dispatch_stack, partial(torch._C._pop_torch_dispatch_stack, None)),
    ):
        yield Part(name, length, partial(_pop_to, length, pop))
    yield Part("opt_einsum", partial(getattr, einsum, "enabled"), partial(setattr, einsum, "enabled"))
    yield Part("mkldnn", torch._C._get_mkldnn_enabled, torch._C._set_mkldnn_enabled)
    for owner, name in FUNCTIONS_OF:
        yield Part(f"functions of {name}", partial(_functions, owner), partial(_set_functions, owner), _functions_told)
    yield Part("flushing of denormals", _flushes_denormals, torch.set_flush_denormal)


def _of_python() -> Iterator[Part]:
    yield Part("threads that still run", threading.active_count)
    yield Part("CPU affinity", partial(os.sched_getaffinity, 0), partial(os.sched_setaffinity, 0))
    yield Part("niceness", partial(os.getpriority, os.PRIO_PROCESS, 0), partial(os.setpriority, os.PRIO_PROCESS, 0))
    for name in LIMITS:
        limit = getattr(resource, name)
        yield Part(name, partial(resource.getrlimit, limit), partial(resource.setrlimit, limit))
    yield Part("mask of new files", _umask, os.umask)
    yield Part("scheduler", partial(os.sched_getscheduler, 0), _set_scheduler)
    blocked = partial(signal.pthread_sigmask, signal.SIG_BLOCK, ())
    yield Part("blocked signals", blocked, partial(signal.pthread_sigmask, signal.SIG_SETMASK))
    yield Part("working directory", os.getcwd, os.chdir)
    for number in SIGNALS:
        words = _replaced(f"handler of {number.name}")
        yield Part(number.name, partial(signal.getsignal, number), partial(_set_handler, number), words)
    for number in TIMERS:
        yield Part(f"timer {number}", partial(_ticks, number), partial(_stop, number), _replaced(f"timer {number}"))
    yield Part("sys.settrace", sys.gettrace, sys.settrace, _replaced("sys.settrace"))
    yield Part("sys.setprofile", sys.getprofile, sys.setprofile, _replaced("sys.setprofile"))
    yield Part("garbage collector", gc.isenabled, lambda on: gc.enable() if on else gc.disable())
    yield Part("garbage collector's thresholds", gc.get_threshold, lambda old: gc.set_threshold(*old))
    yield Part(
        "garbage collector's callbacks", lambda: list(gc.callbacks), _set_gc_callbacks, _replaced("gc.callbacks")
    )
    yield Part("numpy's handling of errors", _numpy_errors, _set_numpy_errors)
    yield Part("recursion limit", sys.getrecursionlimit, sys.setrecursionlimit)
    yield Part("switch interval", sys.getswitchinterval, sys.setswitchinterval)
    filters = _replaced("warnings filters")
    yield Part("warnings filters", lambda: list(warnings.filters), _set_filters, filters, imported=True)
    # The suite's own clock as well: who puts another in its place changes the times of all that follow.
    own = ((clock, CLOCK), (timers, ("time", "_clocked")), (sampling, ("time",)))
    for owner, names in ((sys, ("stdout", "stderr")), (time, CLOCKS), *own):
        for name in names:
            said = f"{owner.__name__}.{name}"
            yield Part(said, partial(getattr, owner, name), partial(setattr, owner, name), _replaced(said))


def _precisions() -> Iterator[Part]:
    """Where torch keeps the precision of float32 products since 2.9, beside the older flags."""
    read, write = torch._C._get_fp32_precision_getter, torch._C._set_fp32_precision_setter
    for backend, operations in (
        ("generic", ("all",)),
        ("cuda", ("all", "matmul", "conv", "rnn")),
        ("mkldnn", ("all", "matmul", "conv", "rnn")),
    ):
        for operation in operations:
            name = f"float32 precision of {backend} {operation}"
            yield Part(name, partial(read, backend, operation), partial(write, backend, operation))


def _write(part: Part, old: Any) -> None:
    # What cannot be put back is told: that is no fault of the case that comes next.
    if part.write is not None and not isinstance(old, Unreadable):
        with contextlib.suppress(Exception):
            part.write(old)


def _differ(before: Any, after: Any) -> bool:
    if isinstance(before, torch.Tensor):
        return not torch.equal(before, after)
    return before is not after and before != after


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _replaced(name: str) -> Callable[[Any, Any], str]:
    return lambda before, after: f"{name}: changed"


def _deterministic() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # pyright: ignore[reportAttributeAccessIssue]
    )


def _set_deterministic(old: tuple[bool, bool, bool]) -> None:
    torch.use_deterministic_algorithms(old[0], warn_only=old[1])
    torch.utils.deterministic.fill_uninitialized_memory = old[2]  # pyright: ignore[reportAttributeAccessIssue]


def _set_default_device(old: torch.device) -> None:
    torch.set_default_device(None if old.type == "cpu" else old)


def _anomaly() -> tuple[bool, bool]:
    return torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()


# Guards of inference mode end it when they are freed.
_GUARDS: list[object] = []


def _set_inference_mode(old: bool) -> None:
    _GUARDS.append(torch._C._InferenceMode(old))


def _autocast(device: str) -> tuple[bool, torch.dtype]:
    return torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)


def _set_autocast(device: str, old: tuple[bool, torch.dtype]) -> None:
    torch.set_autocast_enabled(device, old[0])
    torch.set_autocast_dtype(device, old[1])


def _pop_to(length: Callable[[], int], pop: Callable[[], object], old: int) -> None:
    while length() > old:
        pop()


# The smallest normal number: half of it is 0 where denormal results are flushed.
_SMALLEST, _HALF = sys.float_info.min, 0.5


def _flushes_denormals() -> bool:
    return _SMALLEST * _HALF == 0.0


def _numpy_state() -> Any:
    """The state as what can be compared; None where numpy is not there."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return None
    kind, keys, *rest = numpy.random.get_state()
    return kind, keys.tobytes(), *rest


def _set_numpy_state(old: Any) -> None:
    if old is not None:
        import numpy

        kind, keys, *rest = old
        numpy.random.set_state((kind, numpy.frombuffer(keys, dtype=numpy.uint32), *rest))


def _numpy_errors() -> dict[str, Any] | None:
    numpy = sys.modules.get("numpy")
    return None if numpy is None else dict(numpy.geterr())


def _set_numpy_errors(old: dict[str, Any] | None) -> None:
    if old is not None:
        import numpy

        numpy.seterr(**old)


def _umask() -> int:
    # It can only be read by being set.
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _set_scheduler(old: int) -> None:
    os.sched_setscheduler(0, old, os.sched_param(0))


def _set_gc_callbacks(old: list[Any]) -> None:
    gc.callbacks[:] = old


def _functions(owner: Any) -> dict[str, Any]:
    return dict(vars(owner))


def _set_functions(owner: Any, old: dict[str, Any]) -> None:
    for name in _changed_functions(old, _functions(owner)):
        if name in old:
            setattr(owner, name, old[name])
        else:
            delattr(owner, name)


def _functions_told(before: dict[str, Any], after: dict[str, Any]) -> str:
    changed = _changed_functions(before, after)
    return f"torch's {', '.join(changed[:3])}: changed" if changed else ""


def _is_function(value: Any) -> bool:
    # Some of torch's classes are names for what the default dtype makes of them.
    return callable(value) and not isinstance(value, type)


def _changed_functions(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Names that stand for another function, and methods that hide an inherited one.

    New names of a module are those of what was imported meanwhile.
    """
    changed = [name for name, value in before.items() if _is_function(value) and after.get(name) is not value]
    hiding = [name for name in after.keys() - before.keys() if name in dir(torch._C.TensorBase)]
    return sorted(changed + (hiding if "__torch_function__" in after else []))


def _set_handler(number: int, old: Any) -> None:
    if old is not None:
        signal.signal(number, old)


def _ticks(number: int) -> bool:
    return signal.getitimer(number) != (0.0, 0.0)


def _stop(number: int, old: bool) -> None:
    if not old:
        signal.setitimer(number, 0)


def _set_filters(old: list[Any]) -> None:
    warnings.filters[:] = old  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]
