"""Tiles of the sweeps as data: slice width, warps and pipeline stages by architecture, size and kind of work.

They follow from what the compiler reports (spills, tensor-core instructions, shared memory), not from timing. A row
lists widths from wide to narrow: plan.py takes the widest that fills the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.common.tiles import LEAST, newest
from suite.targets import SMALL


@dataclass(frozen=True)
class Tile:
    """width: columns of a state slice; warps of a program; stages of its load pipeline; rows: most tokens at a time."""

    width: int
    warps: int
    stages: int
    rows: int = 64


Row = tuple[Tile, ...]
HALF, BONUS, SINGLE = "half", "bonus", "single"

_64x4, _64x8, _32x4, _32x8, _16x8 = (Tile(w, n, 2) for w, n in ((64, 4), (64, 8), (32, 4), (32, 8), (16, 8)))
_32x4_1 = Tile(32, 4, 1)
_64x8_1, _32x8_1, _16x8_1 = (Tile(w, 8, 1) for w in (64, 32, 16))
# fp32 operands take twice the registers, and their three products more: few tokens at a time.
_32x4_fp32, _32x8_fp32, _16x8_fp32 = (Tile(w, n, 1, rows=16) for w, n in ((32, 4), (32, 8), (16, 8)))

_ALL: dict[tuple[int, str, str], Row] = {
    (64, HALF, ""): (_64x4, _32x4),
    (64, HALF, "dq"): (_64x8, _32x8),
    (64, HALF, "dk_dv"): (_32x8,),
    (128, HALF, ""): (_64x8, _32x8),
    (128, HALF, "prepare"): (_64x4,),
    (128, HALF, "output"): (_64x4,),
    (128, HALF, "state"): (_64x4,),
    (128, HALF, "dk_dv"): (_32x8,),
    # The bonus and its gradient are what a slice of 32 has no registers for.
    (64, BONUS, "dk_dv"): (_16x8,),
    (128, BONUS, "dk_dv"): (_16x8,),
    (256, HALF, ""): (_32x8_1, _16x8_1),
    (256, HALF, "prepare"): (_64x4,),
    (256, HALF, "output"): (_64x4,),
    (256, HALF, "state"): (_64x4,),
    (64, SINGLE, ""): (_32x4_fp32,),
    (128, SINGLE, ""): (_32x8_fp32,),
    (256, SINGLE, ""): (_16x8_fp32,),
}
# A warp's operands lie in registers here: 64 columns of a state of 128 rows would spill.
_AMPERE = _ALL | {
    (128, HALF, "output"): (_32x4,),
    (256, HALF, "output"): (_32x8_1,),
    (256, HALF, "state"): (_32x8_1,),
}
# The loads of two stages need more than 99 KiB of shared memory here, however narrow the slice.
_SMALL = _AMPERE | {
    (128, HALF, "dk_dv"): (_32x8_1,),
    (128, HALF, "alone"): (_64x8_1, _32x8_1),
    (256, HALF, "prepare"): (_32x4_1,),
}
# Architecture -> (height of the state: 64, 128 or 256; work; sweep, or "" for all others) -> tiles.
# Work: bf16; bf16 with a bonus, where it needs others; wider operands.
TILES: dict[int, dict[tuple[int, str, str], Row]] = {80: _AMPERE, SMALL: _SMALL, 90: _ALL, 100: _ALL}


def candidates(wide: bool, kind: str) -> list[Tile]:
    """Configs of a sweep that are worth timing."""
    if wide:
        return [_32x4_fp32, _32x8_fp32, _16x8_fp32, Tile(16, 4, 1, rows=16)]
    if kind in ("output", "state"):
        # A warp group takes 64 columns. What is prepared is loaded in tiles that wait for nothing else.
        return [*(Tile(64, 4, s) for s in (1, 2, 3, 4)), *(Tile(128, 8, s) for s in (1, 2, 3)), Tile(32, 4, 2)]
    if kind == "prepare":
        return [Tile(w, 4, s) for w in (64, 32) for s in (1, 2, 3)]
    return [Tile(w, n, s) for w in (64, 32, 16) for n in (4, 8) for s in (2, 1)]


def tiles(capability: int, kind: str, height: int, work: str) -> Row:
    """The tiles of a sweep, widest first, for the newest known architecture that is not newer than the device.

    kind: the sweep; height: the state's uncut dimension, a power of 2; work: HALF, BONUS or SINGLE.
    """
    rows, height = newest(TILES, capability), max(LEAST, height)
    plain = HALF if work == BONUS else work
    keys = ((height, work, kind), (height, plain, kind), (height, plain, ""))
    return next(rows[key] for key in keys if key in rows)
