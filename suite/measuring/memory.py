"""Memory: peak memory of one call beyond the memory allocated before it, in MiB.

On a GPU PyTorch's allocator counts (`allocator`). On the CPU it has no counter, so one call runs under its profiler,
which sees every tensor allocation and release, and the largest running sum is the rise (`profiler`). That call is
apart from the timed ones. Scratch memory that a library takes behind PyTorch's back is in neither.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

MIB = 1024 * 1024


def peak_rise(run: Callable[[], object], device: str) -> tuple[float, str]:
    """(MiB, method) of one call. Its result is kept alive until the peak is read."""
    return (_on_cuda(run), "allocator") if device == "cuda" else (_on_cpu(run), "profiler")


def _on_cuda(run: Callable[[], object]) -> float:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    kept = run()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated()
    del kept
    return (peak - before) / MIB


def _on_cpu(run: Callable[[], object]) -> float:
    # The profiler that torch.profiler drives: that one imports torch's compiler, which takes longer than this call.
    profiler = torch.autograd.profiler.profile(profile_memory=True)
    with profiler:
        kept = run()
    del kept
    assert profiler.kineto_results is not None
    current = peak = 0
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        current += event.nbytes()  # type: ignore[attr-defined]  # missing from PyTorch's stubs
        peak = max(peak, current)
    return peak / MIB
