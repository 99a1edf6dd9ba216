"""What an exception leaves of the process that it was raised in: whether the device still answers, and free memory.

A CUDA error may leave a context that answers nothing but errors, and which ones do so no list of their texts knows. So
the device is asked. A process that can measure nothing any more says so by `Spoiled` and ends.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import torch

from suite.errors import spoils
from suite.faults import said


class Spoiled(Exception):
    """Raised when this process can measure nothing any more; its message says why."""


def spoiled(error: BaseException, device: str) -> str:
    """Why a process cannot go on after an exception; empty when it can.

    device: `cuda`, `cpu` or `interpret`
    """
    if any(spoils(each) for each in chain(error)):
        return f"a CUDA graph's capture failed: {said(error)}"
    if device != "cuda":
        return ""
    try:
        # What cannot be freed because a cycle holds it would look like a device without memory.
        gc.collect()
        free_memory(device)
        torch.cuda.synchronize()
        torch.ones(1, device="cuda").add_(1).item()
    except RuntimeError as after:
        return f"the device answers nothing but errors after it: {after}"
    return ""


def chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it came from: the harness and libraries raise others in the place of a CUDA error."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is not None and id(each) not in seen:
            seen.add(id(each))
            yield each
            waiting += [each.__cause__, each.__context__]


def forget(error: BaseException) -> None:
    """Let go of the frames of an exception and of those that it came from: they hold tensors."""
    for each in chain(error):
        each.__traceback__ = None


def free_memory(device: str) -> None:
    """Give back to the device what PyTorch's allocator keeps: another implementation's libraries may need it."""
    if device == "cuda":
        torch.cuda.empty_cache()
