"""Tiles of the kernels as data: slice width, warps and pipeline stages by architecture, head dim and kind of work.

They follow from what the compiler reports (spills, tensor-core instructions, shared memory), not from timing. A row
lists widths from wide to narrow: plan.py takes the widest that fills the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.common.tiles import row


@dataclass(frozen=True)
class Tile:
    """width: columns of a slice; warps of a program; stages of its load pipeline; registers of a thread, 0: any."""

    width: int
    warps: int
    stages: int
    registers: int = 0


Row = tuple[Tile, ...]
HALF, SINGLE = "half", "single"

# Steps of a chunk: longer chunks need more registers than a block has for the inverse, fp32 operands twice as many.
ROWS = {(64, HALF): 64, (128, HALF): 64, (256, HALF): 64, (64, SINGLE): 32, (128, SINGLE): 16, (256, SINGLE): 16}

# Stages that a sweep has more where an SM has one program.
ALONE = {80: 0, 90: 1, 100: 0}

# Columns of dq or dk that the gradients' kernels hold: of a head of q and k alone, and of one that value heads share,
# whose sums last through all of them. Blackwell keeps sums in tensor memory, which has no room for 128 columns then.
HELD = {80: (128, 128), 100: (128, 64)}

_64x4, _32x4, _32x8 = Tile(64, 4, 2), Tile(32, 4, 2), Tile(32, 8, 2)
# Three programs per SM instead of two.
_64x4_r, _64x4_3r = Tile(64, 4, 2, 168), Tile(64, 4, 3, 168)
_64x4_3, _64x4_1, _32x4_1, _32x8_1 = Tile(64, 4, 3), Tile(64, 4, 1), Tile(32, 4, 1), Tile(32, 8, 1)

# Architecture -> (head dim: 64, 128 or 256; dtype's kind; kernel, or "" for all others) -> tiles.
TILES: dict[int, dict[tuple[int, str, str], Row]] = {
    80: {
        (64, HALF, ""): (_64x4, _32x4),
        (64, HALF, "output"): (_32x4,),
        (64, HALF, "state"): (_32x4,),
        (64, HALF, "dq"): (_32x4_1,),
        (64, HALF, "dk"): (_64x4_1,),
        (128, HALF, ""): (_32x8, _32x4),
        (128, HALF, "prepare"): (_32x4_1,),
        (128, HALF, "output"): (_32x4_1,),
        (128, HALF, "dq"): (_32x8_1,),
        (128, HALF, "dk"): (_32x4_1,),
        (256, HALF, ""): (_32x8_1,),
        (256, HALF, "prepare"): (_32x4_1,),
        (256, HALF, "dk"): (_32x4_1,),
        (64, SINGLE, ""): (_32x4_1,),
        (128, SINGLE, ""): (_32x8_1,),
        (256, SINGLE, ""): (_32x8_1,),
    },
    90: {
        (64, HALF, ""): (_64x4,),
        (64, HALF, "prepare"): (_64x4_3r, _64x4_3),
        (64, HALF, "map"): (_64x4_3,),
        (64, HALF, "dq"): (_64x4,),
        (64, HALF, "dk"): (_64x4,),
        (128, HALF, ""): (_64x4,),
        (128, HALF, "prepare"): (_64x4_r, _64x4_3),
        (128, HALF, "map"): (_64x4_3,),
        (128, HALF, "dq"): (_64x4,),
        (128, HALF, "dk"): (_64x4,),
        (256, HALF, ""): (_64x4_1,),
        (256, HALF, "dq"): (_64x4,),
        (256, HALF, "dk"): (_64x4,),
        (64, SINGLE, ""): (_32x4_1,),
        (128, SINGLE, ""): (_32x8_1,),
        (256, SINGLE, ""): (_32x8_1,),
    },
    100: {
        (64, HALF, ""): (_64x4,),
        (64, HALF, "dq"): (_64x4_1,),
        (64, HALF, "dk"): (_64x4_1,),
        (128, HALF, ""): (_64x4,),
        (128, HALF, "dq"): (_64x4_1,),
        (128, HALF, "dk"): (_64x4_1,),
        (256, HALF, ""): (_64x4_1,),
        (256, HALF, "state"): (_32x8_1,),
        (64, SINGLE, ""): (_32x4_1,),
        (128, SINGLE, ""): (_32x8_1,),
        (256, SINGLE, ""): (_32x8_1,),
    },
}


def tiles(capability: int, kind: str, height: int, work: str) -> Row:
    """The tiles of a kernel, widest first, for the newest known architecture that is not newer than the device.

    height: the larger head dim, a power of 2; work: HALF or SINGLE.
    """
    return row(TILES, capability, height, work, kind)
