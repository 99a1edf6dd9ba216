"""Memory: peak memory of one call beyond the memory allocated before it, and what is kept between calls, in MiB.

On a GPU PyTorch's allocator counts (`allocator`). On the CPU it has no counter, so one call runs under its profiler,
which sees every tensor allocation and release, and the largest running sum is the rise (`profiler`). That call is
apart from the timed ones. Scratch memory that a library takes behind PyTorch's back is in neither.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable

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


class Kept:
    """Memory that implementations keep between calls: tensors that appeared while one's code ran, and live on.

    A workspace that is made in the first call and used in all is not in the rise of any later one. Tensors that Python
    can reach are found; what a library holds behind it is not.

    device: `cuda`, `cpu` or `interpret`
    """

    def __init__(self, device: str) -> None:
        self._kind = "cuda" if device == "cuda" else "cpu"

    def made(self) -> Callable[[], list[weakref.ref[torch.Tensor]]]:
        """Note which tensors there are; the function that comes back tells those that there are besides."""
        before = {id(x): weakref.ref(x) for x in self._tensors()}

        def since() -> list[weakref.ref[torch.Tensor]]:
            return [weakref.ref(x) for x in self._tensors() if id(x) not in before or before[id(x)]() is not x]

        return since

    def mib(self, made: Iterable[weakref.ref[torch.Tensor]], held: Iterable[torch.Tensor]) -> float:
        """MiB of those that live on, each memory once, without the memory of others that are held on purpose."""
        ours = {storage.data_ptr() for x in held if (storage := _storage(x)) is not None}
        alive = [x for ref in made if (x := ref()) is not None]
        found = {storage.data_ptr(): storage.nbytes() for x in alive if (storage := _storage(x)) is not None}
        return sum(size for at, size in found.items() if at not in ours) / MIB

    def _tensors(self) -> list[torch.Tensor]:
        found = [x for x in gc.get_objects() if issubclass(type(x), torch.Tensor)]
        return [x for x in found if x.device.type == self._kind]


def _storage(x: torch.Tensor) -> torch.UntypedStorage | None:
    """A tensor's memory; None of one that has none of its own, as a sparse one."""
    try:
        return x.untyped_storage()
    except (RuntimeError, NotImplementedError):
        return None
