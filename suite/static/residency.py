"""How many blocks of a kernel an SM holds: the theoretical occupancy, by the rules of NVIDIA's occupancy calculator."""

from __future__ import annotations

import math
from typing import Any

from suite.static.model import Launch, Residency
from suite.targets import Target

WARP = 32
# Of compute capability 8.0 and later: registers are given out to warps in this many, warps in fours, shared memory in
# units of 128 bytes with 1 KiB a block for the system.
REGISTER_UNIT = 256
WARP_UNIT = 4
SHARED_UNIT = 128
SHARED_SYSTEM = 1024
# Columns of tensor memory of an SM.
TENSOR_COLUMNS = 512
MOST_WARPS = 32
# Blocks along x, y and z of a grid.
MOST_BLOCKS = (2**31 - 1, 2**16 - 1, 2**16 - 1)


def residency(launch: Launch, target: Target) -> Residency:
    """Blocks an SM, occupancy and waves of a compiled launch; zero blocks where one block exceeds a limit."""
    assert launch.binary is not None
    limits = {
        "warps": target.threads // (WARP * launch.warps),
        "blocks": target.blocks,
        "registers": _by_registers(launch.binary.registers, launch.warps, target),
        "shared memory": _by_shared(launch.shared_bytes, target),
    }
    limit = min(limits, key=lambda name: limits[name])
    blocks = limits[limit]
    occupancy = blocks * launch.warps * WARP / target.threads
    waves = math.prod(launch.grid) / (blocks * target.sms) if blocks else None
    return Residency(blocks, occupancy, limit, waves)


def over_limit(kernel: Any, target: Target) -> str:
    """Which limit of the target a Triton kernel exceeds, and by how much, or ""."""
    meta = kernel.metadata
    limits = (
        ("shared memory", meta.shared, target.shared_bytes, "bytes"),
        ("tensor memory", getattr(meta, "tmem_size", 0) or 0, TENSOR_COLUMNS, "columns"),
        ("block", meta.num_warps, MOST_WARPS, "warps"),
    )
    for what, needed, most, unit in limits:
        if needed > most:
            return f"{meta.name} needs {needed} {unit} of {what}: {needed - most} more than the {most} of {target.arch}"
    return ""


def grid_over_limit(launch: Launch) -> str:
    """Along which axis a grid has more blocks than CUDA launches, or ""."""
    for axis, size, most in zip("xyz", launch.grid, MOST_BLOCKS, strict=True):
        if size > most:
            return f"a grid of {size} blocks along {axis}: CUDA launches at most {most}"
    return ""


def _by_registers(registers: int, warps: int, target: Target) -> int:
    a_warp = _up(max(registers, 1) * WARP, REGISTER_UNIT)
    resident = target.registers // a_warp // WARP_UNIT * WARP_UNIT
    return resident // warps


def _by_shared(shared: int, target: Target) -> int:
    return target.shared_sm // _up(shared + SHARED_SYSTEM, SHARED_UNIT)


def _up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
