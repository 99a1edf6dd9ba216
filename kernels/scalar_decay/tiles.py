"""Tiles of the sweeps as data: slice width, warps and pipeline stages by architecture, size and kind of work.

They follow from what the compiler reports (spills, tensor-core instructions, shared memory), not from timing. A row
lists widths from wide to narrow: plan.py takes the widest that fills the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernels.common.tiles import row


@dataclass(frozen=True)
class Tile:
    """width: columns of a state slice; warps of a program; stages of its load pipeline; rows: most tokens at a time."""

    width: int
    warps: int
    stages: int
    rows: int = 128


Row = tuple[Tile, ...]
PLAIN, MAPPED, NORMALISED = "plain", "mapped", "normalised"
DECAYED, GATED, WIDE, SINGLE = "decayed", "gated", "wide", "single"

_64x4, _64x8, _32x4, _32x8, _16x4 = (Tile(w, n, 2) for w, n in ((64, 4), (64, 8), (32, 4), (32, 8), (16, 4)))
_64x4_1, _64x8_1, _32x4_1, _32x8_1 = (Tile(w, n, 1) for w, n in ((64, 4), (64, 8), (32, 4), (32, 8)))
# fp32 operands take twice the registers, and their three products more: few tokens at a time.
_32x4_fp32, _32x8_fp32, _16x8_fp32 = Tile(32, 4, 1, rows=32), Tile(32, 8, 1, rows=16), Tile(16, 8, 1, rows=16)

# Architecture -> (height of the state: 64, 128 or 256; work; sweep, or "" for all others) -> tiles.
# Work: identity map without a normaliser, with a map, with a normaliser, with a decay per head,
# with one per token, chunk of 128 and more, fp32.
TILES: dict[int, dict[tuple[int, str, str], Row]] = {
    80: {
        (64, PLAIN, ""): (_32x4,),
        (64, DECAYED, ""): (_32x4,),
        (64, GATED, ""): (_32x4,),
        (64, MAPPED, ""): (_64x4, _32x4),
        (64, NORMALISED, ""): (_64x4, _32x4),
        (64, NORMALISED, "dq"): (_32x4,),
        (64, WIDE, ""): (_64x8_1,),
        (64, SINGLE, ""): (_32x4_fp32,),
        (128, PLAIN, ""): (_64x8, _32x8),
        (128, DECAYED, ""): (_64x8, _32x8),
        (128, GATED, ""): (_64x8, _32x8),
        (128, GATED, "dq"): (_32x8,),
        (128, GATED, "dk_dv"): (_32x8,),
        (128, MAPPED, ""): (_64x8, _32x4),
        (128, NORMALISED, ""): (_32x4,),
        (128, WIDE, ""): (_32x8_1,),
        (128, SINGLE, ""): (_32x8_fp32,),
        (256, PLAIN, ""): (_32x8_1, _16x4),
        (256, DECAYED, ""): (_32x8_1, _16x4),
        (256, GATED, ""): (_32x8_1, _16x4),
        (256, MAPPED, ""): (_32x8_1,),
        (256, NORMALISED, ""): (_32x8_1,),
        (256, WIDE, ""): (replace(_32x8_1, rows=64),),
        (256, SINGLE, ""): (_16x8_fp32,),
    },
    90: {
        (64, PLAIN, ""): (_64x4, _32x4),
        (64, DECAYED, ""): (_64x4, _32x4),
        (64, GATED, ""): (_64x4, _32x4),
        (64, MAPPED, ""): (_64x4, _32x4),
        (64, NORMALISED, ""): (_64x4, _32x4),
        (64, WIDE, ""): (_64x8, _32x8),
        (64, SINGLE, ""): (_32x4_fp32,),
        (128, PLAIN, ""): (_64x4, _32x4),
        (128, DECAYED, ""): (_64x4, _32x4),
        (128, GATED, ""): (_64x4, _32x4),
        (128, GATED, "dq"): (_32x4,),
        (128, GATED, "dk_dv"): (_32x4,),
        (128, MAPPED, ""): (_64x4, _32x4),
        (128, NORMALISED, ""): (_64x8, _32x8),
        (128, NORMALISED, "dk_dv"): (_64x8, _32x4),
        (128, WIDE, ""): (_64x8, _32x8),
        (128, SINGLE, ""): (_32x8_fp32,),
        (256, PLAIN, ""): (_32x4,),
        (256, DECAYED, ""): (_32x8,),
        (256, GATED, ""): (_32x4,),
        (256, GATED, "dq"): (_32x8,),
        (256, GATED, "dk_dv"): (_32x8,),
        (256, MAPPED, ""): (_64x8, _16x4),
        (256, MAPPED, "dq"): (_32x4,),
        (256, MAPPED, "dk_dv"): (_32x4,),
        (256, NORMALISED, ""): (_64x8,),
        (256, NORMALISED, "dq"): (_16x4,),
        (256, NORMALISED, "dk_dv"): (_16x4,),
        (256, WIDE, ""): (_32x8_1,),
        (256, SINGLE, ""): (_16x8_fp32,),
    },
    # Normalised, one stage: with two, Triton 3.6's pipeliner aborts on the output sweep for this architecture.
    100: {
        (64, PLAIN, ""): (_64x4, _32x4),
        (64, DECAYED, ""): (_64x4, _32x4),
        (64, GATED, ""): (_64x4, _32x4),
        (64, MAPPED, ""): (_64x4, _32x4),
        (64, NORMALISED, ""): (_64x4_1, _32x4_1),
        (64, WIDE, ""): (_64x8_1,),
        (64, SINGLE, ""): (_32x4_fp32,),
        (128, PLAIN, ""): (_64x8, _32x4),
        (128, DECAYED, ""): (_64x8, _32x4),
        (128, GATED, ""): (_64x8, _32x4),
        (128, MAPPED, ""): (_64x8, _32x8),
        (128, NORMALISED, ""): (_64x8_1, _32x8_1),
        (128, WIDE, ""): (_64x8_1,),
        (128, SINGLE, ""): (_32x8_fp32,),
        (256, PLAIN, ""): (_32x8,),
        (256, DECAYED, ""): (_32x8,),
        (256, GATED, ""): (_32x8,),
        (256, MAPPED, ""): (_32x8_1,),
        (256, NORMALISED, ""): (_32x8_1,),
        (256, WIDE, ""): (_32x8_1,),
        (256, SINGLE, ""): (_16x8_fp32,),
    },
}


def tiles(capability: int, kind: str, height: int, work: str) -> Row:
    """The tiles of a sweep, widest first, for the newest known architecture that is not newer than the device.

    kind: the sweep; height: the state's uncut dimension, a power of 2; work: one of the kinds of work above.
    """
    return row(TILES, capability, height, work, kind)
