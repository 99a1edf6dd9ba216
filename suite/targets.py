"""Target: the device for which host code plans its launches. Host code must ask only here.

Example::

    blocks = suite.target().sms

On a GPU the driver answers. Under the static profile and in Triton's interpreter the answer is set by `aim`, so that
the same host code runs on meta tensors, in the interpreter and on a device.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Target:
    """A device, as far as a kernel's host code may depend on it.

    arch:         "sm_90", or "cpu"
    name:         the product, or "" when only the architecture is known
    sms:          streaming multiprocessors
    shared_bytes: shared memory that one block can have
    shared_sm:    shared memory of one SM
    registers:    32-bit registers of one SM
    threads:      resident threads of one SM
    blocks:       resident blocks of one SM
    l2_bytes:     last-level cache
    """

    arch: str
    name: str = ""
    sms: int = 1
    shared_bytes: int = 0
    shared_sm: int = 0
    registers: int = 65536
    threads: int = 2048
    blocks: int = 32
    l2_bytes: int = 0

    @property
    def capability(self) -> int:
        """90 for "sm_90", 0 for a CPU."""
        return int(self.arch.removeprefix("sm_")) if self.arch.startswith("sm_") else 0

    @property
    def tile_class(self) -> int:
        """Which tiles kernels take, by the architecture that their tables name: 80, 86, 90 or 100.

        Consumer Blackwell, 12x, counts as 80: it has neither the WGMMA of 90 nor the tensor memory of 100. Of 80's
        class are in 86 those whose blocks have too little shared memory for some tiles of sm_80.
        """
        own = 80 if self.capability >= CONSUMER_BLACKWELL else min(100, max(80, self.capability // 10 * 10))
        return SMALL if own == 80 and 0 < self.shared_bytes <= SMALL_BYTES else own

    @property
    def on_chip_bytes(self) -> int:
        """Shared memory and registers of all SMs: what an algorithm can keep without the memory bus."""
        return self.sms * (self.shared_sm + 4 * self.registers)


KiB = 1024
MiB = 1024 * 1024
CONSUMER_BLACKWELL = 120
# The tile class of sm_86, sm_89 and sm_12x, and the shared memory of their blocks; one of sm_80 has 163 KiB.
SMALL, SMALL_BYTES = 86, 99 * KiB
# Resident blocks of an SM, which drivers tell and torch does not (CUDA Programming Guide, technical specifications per
# compute capability; arch_traits.h of NVIDIA's CCCL, which has sm_88 and sm_121 too); 32 where none is listed.
BLOCKS = {"sm_86": 16, "sm_87": 16, "sm_88": 16, "sm_89": 24, "sm_110": 24, "sm_120": 24, "sm_121": 24}
# What stands for an architecture when no device is there: a product that people have.
REPRESENTATIVES = {
    "sm_80": Target("sm_80", "NVIDIA A100-SXM4-80GB", 108, 163 * KiB, 164 * KiB, blocks=32, l2_bytes=40 * MiB),
    "sm_90": Target("sm_90", "NVIDIA H200", 132, 227 * KiB, 228 * KiB, blocks=32, l2_bytes=60 * MiB),
    "sm_100": Target("sm_100", "NVIDIA B200", 148, 227 * KiB, 228 * KiB, blocks=32, l2_bytes=126 * MiB),
}

_aimed: list[Target] = []


@contextmanager
def aim(at: Target | str) -> Iterator[Target]:
    """Answer `target()` with this device, or with an architecture's representative, inside the block."""
    chosen = REPRESENTATIVES[at] if isinstance(at, str) else at
    _aimed.append(chosen)
    try:
        yield chosen
    finally:
        _aimed.pop()


def is_aimed() -> bool:
    """Whether `aim` is in force."""
    return bool(_aimed)


def target() -> Target:
    """The device that host code should write for: the aimed one, else the current GPU, else the CPU."""
    if _aimed:
        return _aimed[-1]
    import torch

    if torch.cuda.is_available():
        return _of_gpu(torch.cuda.current_device())
    return Target("cpu")


@cache
def _of_gpu(index: int) -> Target:
    import torch

    p = torch.cuda.get_device_properties(index)
    arch = f"sm_{p.major}{p.minor}"
    return Target(
        arch=arch,
        name=p.name,
        sms=p.multi_processor_count,
        shared_bytes=getattr(p, "shared_memory_per_block_optin", 48 * KiB),
        shared_sm=getattr(p, "shared_memory_per_multiprocessor", 0),
        registers=getattr(p, "regs_per_multiprocessor", 65536),
        threads=getattr(p, "max_threads_per_multi_processor", 2048),
        blocks=BLOCKS.get(arch, Target.blocks),
        l2_bytes=getattr(p, "L2_cache_size", 0),
    )
