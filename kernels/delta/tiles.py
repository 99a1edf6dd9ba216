"""Tiles of the kernels as data: slice width, warps and pipeline stages by architecture, head dim and kind of work.

They follow from what the compiler reports (spills, tensor-core instructions, shared memory), not from timing. A row
lists widths from wide to narrow: plan.py takes the widest that fills the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.common.tiles import row


@dataclass(frozen=True)
class Tile:
    """width: columns of a slice; warps of a program; stages of its load pipeline."""

    width: int
    warps: int
    stages: int


Row = tuple[Tile, ...]
HALF, SINGLE = "half", "single"

# Steps of a chunk: longer chunks need more registers than a block has for the inverse, fp32 operands twice as many.
ROWS = {(64, HALF): 64, (128, HALF): 64, (256, HALF): 64, (64, SINGLE): 32, (128, SINGLE): 16, (256, SINGLE): 16}

# Chunks from one state kept for the backward pass to the next: with 2 the gradients' kernel finds those between, for
# which Ampere, whose products take their operands from registers, has too few.
KEEP = {80: 1, 90: 2}

# Columns of dq and dk that the gradients' kernel holds: of a head of q and k alone, and of one that value heads share,
# whose sums last through all of them. Blackwell keeps sums in tensor memory, which has no room for 128 columns then.
HELD = {80: (128, 128), 100: (128, 64)}

_64x4, _64x8, _32x4, _32x8, _16x4 = (Tile(w, n, 2) for w, n in ((64, 4), (64, 8), (32, 4), (32, 8), (16, 4)))
_64x4_1, _32x4_1, _32x8_1, _16x8_1 = (Tile(w, n, 1) for w, n in ((64, 4), (32, 4), (32, 8), (16, 8)))

# Architecture -> (head dim: 64, 128 or 256; dtype's kind; kernel, or "" for all others) -> tiles. "shared" is the
# gradients' kernel where several state heads share a head of q and k, whose sums it holds from one to the next.
TILES: dict[int, dict[tuple[int, str, str], Row]] = {
    80: {
        (64, HALF, ""): (_64x4, _32x4),
        (64, HALF, "gradients"): (_32x8_1,),
        (64, HALF, "shared"): (_32x8_1,),
        (128, HALF, ""): (_32x8, _32x4),
        (128, HALF, "output"): (_32x4_1,),
        (128, HALF, "gradients"): (_32x8_1,),
        (128, HALF, "shared"): (_16x8_1,),
        (256, HALF, ""): (_32x8_1,),
        (64, SINGLE, ""): (_32x4_1,),
        (128, SINGLE, ""): (_32x8_1,),
        (256, SINGLE, ""): (_32x8_1,),
    },
    90: {
        (64, HALF, ""): (_64x4, _32x4),
        (64, HALF, "output"): (_64x4_1, _32x4_1),
        (64, HALF, "gradients"): (_32x8_1,),
        (64, HALF, "shared"): (_32x8_1,),
        (128, HALF, ""): (_64x4, _32x4),
        (128, HALF, "output"): (_32x4_1,),
        (128, HALF, "gradients"): (_32x8_1,),
        (128, HALF, "shared"): (_16x8_1,),
        (256, HALF, ""): (_32x8_1,),
        (256, HALF, "state"): (_32x4_1,),
        (64, SINGLE, ""): (_32x4_1,),
        (128, SINGLE, ""): (_32x8_1,),
        (256, SINGLE, ""): (_32x8_1,),
    },
    100: {
        (64, HALF, ""): (_64x4, _32x4),
        (64, HALF, "gradients"): (_32x8_1,),
        (64, HALF, "shared"): (_32x8_1,),
        (128, HALF, ""): (_64x4, _32x4),
        (128, HALF, "gradients"): (_32x8_1,),
        (128, HALF, "shared"): (_16x8_1,),
        (256, HALF, ""): (_32x8_1,),
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
