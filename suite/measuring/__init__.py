"""Measuring: timers, stopping, memory, and one problem's cases together. `measure` is the notebook's way in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

Record = dict[str, Any]


def measure(fn: Callable[..., Any], inputs: Mapping[str, Any], *, device: str | None = None, mode: str | None = None,
            warmup_ms: float = 25.0, rep_ms: float = 500.0, flops: float | None = None,
            bytes_: float | None = None) -> Record:  # fmt: skip
    """Time `fn(**inputs)` as the suite times a case, and return its record.

    device:    `cuda` or `cpu`; where the inputs lie when not given
    mode:      a timer, as in suite.measuring.timers.modes; the device's default when not given
    warmup_ms: calls before the first sample
    rep_ms:    the longest that samples are taken
    flops, bytes_: what one call needs, for TFLOP/s, GB/s and intensity; left out of the record when not given
    Raises what `fn` raises, UsageError for an unknown mode, and what a timer says of a call that it can not measure.
    """
    import time

    import torch

    from suite.measuring.compiling import Watch
    from suite.measuring.memory import peak_rise
    from suite.measuring.readying import ready_function
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
    one = Sampled(run, timer, Stopping(limit_ms=rep_ms / timer.calls))
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
