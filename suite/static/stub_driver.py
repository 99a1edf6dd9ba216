"""A stub Triton driver for a machine without a GPU, and torch.cuda's queries answered for the target.

Inside `pretending` a Triton launch compiles for the target instead of running. Host code that asks `suite.target()` is
answered for the same device. Libraries decide much when they are imported, so a peer is imported inside.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from unittest import mock

from suite.cachefolder import cache_folder
from suite.errors import UsageError
from suite.hardware.gpus import GPUS, known
from suite.static.binary import StaticError
from suite.targets import REPRESENTATIVES, Target, aim

WARP = 32


def target_of(arch: str, gpu: str = "") -> Target:
    """The target of an architecture: its representative, or the named GPU of that architecture.

    Raises UsageError on an architecture or GPU that is not known.
    """
    if arch not in REPRESENTATIVES:
        raise UsageError(f"no static profile is taken of {arch}; known: {', '.join(REPRESENTATIVES)}")
    target = REPRESENTATIVES[arch]
    if not gpu or gpu == target.name:
        return target
    found = known(gpu)
    if found is None or found.arch != arch:
        names = ", ".join(each.name for each in GPUS if each.arch == arch)
        raise UsageError(f"{gpu} is not a known GPU of {arch}; known: {names}")
    return replace(target, name=found.name, sms=found.sms, l2_bytes=found.l2_bytes)


class StubDriver:
    """The part of a Triton driver that compiling needs. Each architecture is a device of its own."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.utils = SimpleNamespace(get_device_properties=self._properties)

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", self.target.capability, WARP)

    # JITFunction keeps its compiled kernels by device index.
    def get_current_device(self) -> int:
        return self.target.capability

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("meta")

    def _properties(self, device: int = 0) -> dict[str, int]:
        t = self.target
        return {
            "max_shared_mem": t.shared_bytes,
            "multiprocessor_count": t.sms,
            "max_num_regs": t.registers,
            "warpSize": WARP,
        }


@contextmanager
def pretending(target: Target, stock: bool = False) -> Iterator[Target]:
    """Answer for `target` wherever host code asks what the device is; Triton compiles for it.

    stock: whether Triton keeps the options and the cache folder that a launch on the device has
    Raises StaticError where this process runs Triton's interpreter or already uses a GPU: what libraries remember of
    one device would be wrong for the other.
    """
    from triton import knobs

    refuse_mixing()
    with answering(target), nullcontext() if stock else _compiling(knobs):
        yield target


@contextmanager
def answering(target: Target) -> Iterator[Target]:
    """Answer for `target` wherever host code asks what the device is, and compile nothing: for the interpreter."""
    from triton.runtime import driver

    before = driver._active
    with aim(target), _torch_cuda(target):
        driver.set_active(StubDriver(target))  # type: ignore[arg-type]
        try:
            yield target
        finally:
            driver._active = before


def refuse_mixing() -> None:
    """StaticError where a static profile may not share the process."""
    import torch
    from triton import knobs

    if knobs.runtime.interpret:
        raise StaticError("Triton's interpreter is on in this process; unset TRITON_INTERPRET for a static profile")
    if torch.cuda.is_initialized():
        raise StaticError("this process already uses a GPU; take static profiles in a fresh one")


@contextmanager
def _compiling(knobs: Any) -> Iterator[None]:
    """Triton's own cache under ours; no line information, so that a binary depends on code alone; ptxas's log."""
    with knobs.compilation.scope(), knobs.nvidia.scope(), knobs.cache.scope():
        knobs.compilation.disable_line_info = True
        knobs.nvidia.dump_ptxas_log = True
        knobs.cache.dir = str(cache_folder() / "static" / "triton")
        yield


def _torch_cuda(target: Target) -> Any:
    import torch

    major, minor = divmod(target.capability, 10)
    properties = SimpleNamespace(
        name=target.name,
        major=major,
        minor=minor,
        multi_processor_count=target.sms,
        warp_size=WARP,
        shared_memory_per_block=48 * 1024,
        shared_memory_per_block_optin=target.shared_bytes,
        shared_memory_per_multiprocessor=target.shared_sm,
        regs_per_multiprocessor=target.registers,
        max_threads_per_multi_processor=target.threads,
        L2_cache_size=target.l2_bytes,
        total_memory=1 << 36,
    )
    return mock.patch.multiple(
        torch.cuda,
        is_available=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        get_device_capability=lambda device=None: (major, minor),
        get_device_name=lambda device=None: target.name,
        get_device_properties=lambda device=None: properties,
        device=lambda device=None: contextlib.nullcontext(),
        synchronize=lambda device=None: None,
    )
