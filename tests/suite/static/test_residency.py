"""Occupancy against figures worked out by hand from NVIDIA's rules."""

from __future__ import annotations

import pytest

from suite.static.model import Binary, Launch
from suite.static.residency import residency
from suite.targets import REPRESENTATIVES


def launch(registers: int, warps: int, shared: int, blocks: int = 1) -> Launch:
    binary = Binary("", registers, 0, 0, 0, 1, {})
    return Launch("k", (blocks, 1, 1), warps=warps, shared_bytes=shared, binary=binary)


@pytest.mark.parametrize(
    ("registers", "warps", "shared", "arch", "blocks", "limit"),
    [
        # 255 registers are 8160 a warp, given out as 8192: 8 warps.
        (255, 4, 0, "sm_90", 2, "registers"),
        # 168 x 32 = 5376 = 21 units: 12 warps.
        (168, 4, 0, "sm_90", 3, "registers"),
        # 142 x 32 = 4544, given out as 4608: 14 warps, in fours 12.
        (142, 2, 0, "sm_90", 6, "registers"),
        (32, 4, 0, "sm_90", 16, "warps"),
        (32, 1, 0, "sm_90", 32, "blocks"),
        # 80 KiB and the system's 1 KiB, of 228 KiB.
        (64, 4, 80 * 1024, "sm_90", 2, "shared memory"),
        (64, 4, 80 * 1024, "sm_80", 2, "shared memory"),
        (64, 4, 81 * 1024, "sm_80", 2, "shared memory"),
        (64, 4, 81 * 1024 + 1, "sm_80", 1, "shared memory"),
        (64, 4, 227 * 1024, "sm_100", 1, "shared memory"),
        (255, 16, 0, "sm_90", 0, "registers"),
    ],
)
def test_blocks(registers: int, warps: int, shared: int, arch: str, blocks: int, limit: str) -> None:
    found = residency(launch(registers, warps, shared), REPRESENTATIVES[arch])
    assert (found.blocks, found.limit) == (blocks, limit)
    assert found.occupancy == blocks * warps / 64


def test_waves() -> None:
    assert residency(launch(255, 4, 0, blocks=528), REPRESENTATIVES["sm_90"]).waves == 2.0
    assert residency(launch(255, 16, 0), REPRESENTATIVES["sm_90"]).waves is None
