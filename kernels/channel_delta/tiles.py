"""Tiles of the kernels as data: width, warps and pipeline stages by architecture, size and kernel.

They follow from what the compiler reports (spills, tensor-core instructions, shared memory), not from timing. A row of
a sweep lists widths from wide to narrow: plan.py takes the widest that fills the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.common.tiles import LEAST, newest


@dataclass(frozen=True)
class Tile:
    """width: columns of a state slice, or of K at a time in `prepare` and `gradients`; warps; stages of its loads."""

    width: int
    warps: int
    stages: int


Row = tuple[Tile, ...]
HALF, SINGLE, DPLR = "half", "single", "dplr"

# Tokens of a chunk at most, by height of the state and work: fp32 operands take twice the registers.
ROWS = {
    (64, HALF): 64,
    (128, HALF): 64,
    (256, HALF): 64,
    (64, SINGLE): 32,
    (128, SINGLE): 16,
    (256, SINGLE): 16,
}

Table = dict[int, dict[tuple[int, str], Row]]
# Architecture -> (height of the state, work) -> tiles. RWKV-7 has a row of its own where it needs more shared memory.
_SWEEPS: Table = {
    80: {
        (64, HALF): (Tile(32, 4, 2), Tile(16, 4, 2)),
        (128, HALF): (Tile(32, 4, 1), Tile(16, 4, 1)),
        (256, HALF): (Tile(16, 4, 1),),
        (64, SINGLE): (Tile(32, 4, 1),),
        (128, SINGLE): (Tile(32, 8, 1),),
        (256, SINGLE): (Tile(16, 8, 1),),
    },
    90: {
        (64, HALF): (Tile(64, 4, 2), Tile(32, 4, 2)),
        (128, HALF): (Tile(64, 4, 2), Tile(32, 4, 2)),
        (128, DPLR): (Tile(64, 4, 1), Tile(32, 4, 1)),
        (256, HALF): (Tile(32, 4, 1), Tile(16, 4, 1)),
        (64, SINGLE): (Tile(32, 4, 1),),
        (128, SINGLE): (Tile(32, 8, 1),),
        (256, SINGLE): (Tile(16, 8, 1),),
    },
}
_CHUNKS: dict[tuple[str, str], Row] = {
    ("prepare", HALF): (Tile(32, 4, 1),),
    ("prepare", SINGLE): (Tile(32, 4, 1),),
    ("gradients", HALF): (Tile(32, 4, 1),),
    ("gradients", SINGLE): (Tile(32, 4, 1),),
}


def tiles(capability: int, kind: str, height: int, work: str, *, dplr: bool) -> Row:
    """The tiles of a kernel, widest first, for the newest known architecture that is not newer than the device.

    kind: the kernel; height: K of the state as a power of 2; work: one of the kinds of work above; dplr: RWKV-7
    """
    if kind in ("prepare", "gradients"):
        return _CHUNKS[kind, work]
    rows, height = newest(_SWEEPS, capability), max(LEAST, height)
    return (rows.get((height, DPLR)) if dplr and work == HALF else None) or rows[height, work]
