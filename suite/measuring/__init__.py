"""Measuring: timers, stopping, memory, and one problem's cases together. `measure` is for notebooks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from numbers import Real
from typing import Any

from suite.errors import UsageError

Record = dict[str, Any]
ABOVE_0 = ("rep_ms", "bytes_")


def measure(
    fn: Callable[..., Any],
    inputs: Mapping[str, Any],
    *,
    device: str | None = None,
    mode: str | None = None,
    warmup_ms: float = 25.0,
    rep_ms: float = 500.0,
    flops: float | None = None,
    bytes_: float | None = None,
) -> Record:
    """Time `fn(**inputs)` as the suite times a case, and return its record.

    device:    `cuda` or `cpu`; where the inputs lie when not given
    mode:      a timer, as in suite.measuring.timers.modes; the device's default when not given
    warmup_ms: calls before the first sample
    rep_ms:    the longest that samples are taken
    flops, bytes_: what one call needs, for TFLOP/s, GB/s and intensity; left out of the record when not given
    Raises what `fn` raises, TypeError for a function or inputs of another kind, UsageError for an unknown device, mode
    or amount, and what a timer says of a call that it cannot measure.
    """
    _refuse(fn, inputs, device, {"warmup_ms": warmup_ms, "rep_ms": rep_ms, "flops": flops, "bytes_": bytes_})

    import time

    import torch

    from suite.measuring.compiling import Watch
    from suite.measuring.memory import peak_rise
    from suite.measuring.preparing import ready_function
    from suite.measuring.sampling import Sampled, interleave
    from suite.measuring.stopping import Stopping
    from suite.measuring.timers import DEFAULT_MODES, make_timer
    from suite.telemetry import watching

    on_cuda = any(isinstance(x, torch.Tensor) and x.is_cuda for x in inputs.values())
    device = device or ("cuda" if on_cuda else "cpu")
    mode = mode or DEFAULT_MODES[device]
    timer = make_timer(mode, device)

    def run() -> Any:
        return fn(**inputs)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    start = time.perf_counter()
    with Watch() as compiling:
        run()
        wait()
    compile_s = time.perf_counter() - start
    while (time.perf_counter() - start - compile_s) * 1e3 < warmup_ms:
        run()
        wait()
    ready_function(timer, fn, inputs)
    one = Sampled(run, timer, Stopping(limit_ms=rep_ms))
    with watching(device) as watch:
        interleave([one], watch=watch)
    if one.error is not None:
        raise one.error
    memory, method = peak_rise(run, device)
    record: Record = {"mode": mode, "device": device, "status": "ok", "compile_s": compile_s, **one.summary()}
    record |= compiling.columns() | {"memory_mib": memory, "memory_method": method}
    seconds = record["time_ms"] / 1e3
    if flops is not None:
        record |= {"flops_alg": flops, "tflops": flops / seconds / 1e12}
    if bytes_ is not None:
        record |= {"bytes_compulsory": bytes_, "gbs": bytes_ / seconds / 1e9}
    if flops is not None and bytes_ is not None:
        record["intensity"] = flops / bytes_
    return record | {"created": datetime.now(timezone.utc).isoformat(timespec="seconds")}


def _refuse(fn: object, inputs: object, device: str | None, amounts: Mapping[str, object]) -> None:
    if not callable(fn):
        raise TypeError(f"measure(fn, inputs): fn must be a function, got {_kind(fn)}")
    if not isinstance(inputs, Mapping) or not all(isinstance(name, str) for name in inputs):
        raise TypeError(
            "measure(fn, inputs): inputs must be a dict of fn's arguments by name, such as {'q': q}, "
            f"got {_kind(inputs)}"
        )
    if device not in (None, "cuda", "cpu"):
        raise UsageError(f"measure(device={device!r}): device must be 'cuda' or 'cpu'")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise UsageError("measure(device='cuda'): no CUDA device here")
    for name, value in amounts.items():
        if value is None and name in ("flops", "bytes_"):
            continue
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"measure({name}=...): {name} must be a number, got {_kind(value)}")
        if not math.isfinite(value) or value < 0 or (name in ABOVE_0 and value == 0):
            least = "above 0" if name in ABOVE_0 else "at least 0"
            raise UsageError(f"measure({name}={value}): {name} must be finite and {least}")


def _kind(value: object) -> str:
    return type(value).__name__
