"""Tiles of the sweeps as data: slice width, warps and pipeline stages by architecture, size and kind of work.

They follow from what the compiler reports (spills, tensor-core instructions, shared memory), not from timing. A row
lists widths from wide to narrow: plan.py takes the widest that fills the GPU.
"""

from __future__ import annotations

from kernels.common.tiles import row
from kernels.scalar_decay.tiles import Row, Tile

EXP, SIGMOID, WIDE, SINGLE = "exp", "sigmoid", "wide", "single"

# Architecture -> (height of the state: 64, 128, 256 or 512; work; sweep, or "" for all others) -> tiles.
# Work: exponential gate, sigmoid gate, chunk of 128 and more, fp32.
TILES: dict[int, dict[tuple[int, str, str], Row]] = {
    80: {
        (64, EXP, ""): (Tile(32, 4, 2),),
        (64, EXP, "dq"): (Tile(32, 4, 1),),
        (64, SIGMOID, ""): (Tile(32, 4, 2),),
        (64, WIDE, ""): (Tile(64, 8, 1),),
        (64, SINGLE, ""): (Tile(32, 4, 1, rows=32),),
        (128, EXP, ""): (Tile(32, 8, 2),),
        (128, EXP, "dq"): (Tile(32, 8, 1),),
        (128, SIGMOID, ""): (Tile(32, 8, 2),),
        (128, WIDE, ""): (Tile(32, 8, 1),),
        (128, SINGLE, ""): (Tile(32, 8, 1, rows=16),),
        (256, EXP, ""): (Tile(16, 8, 1),),
        (256, SIGMOID, ""): (Tile(16, 8, 1),),
        (256, WIDE, ""): (Tile(32, 8, 1, rows=64),),
        (256, SINGLE, ""): (Tile(16, 8, 1, rows=16),),
        (512, EXP, ""): (Tile(16, 8, 1, rows=32),),
        (512, SIGMOID, ""): (Tile(16, 8, 1, rows=32),),
        (512, WIDE, ""): (Tile(16, 8, 1, rows=32),),
        (512, SINGLE, ""): (Tile(16, 8, 1, rows=16),),
    },
    90: {
        (64, EXP, ""): (Tile(64, 4, 2), Tile(32, 4, 2)),
        (64, EXP, "dq"): (Tile(32, 4, 2),),
        (64, EXP, "dk_dv"): (Tile(32, 4, 2),),
        (64, SIGMOID, ""): (Tile(64, 4, 2), Tile(32, 4, 2)),
        (64, WIDE, ""): (Tile(64, 8, 2), Tile(32, 8, 2)),
        (64, SINGLE, ""): (Tile(32, 4, 1, rows=32),),
        (128, EXP, ""): (Tile(32, 8, 2),),
        (128, EXP, "state"): (Tile(64, 4, 2), Tile(32, 4, 2)),
        (128, EXP, "dq"): (Tile(32, 4, 2),),
        (128, EXP, "dk_dv"): (Tile(32, 8, 2), Tile(32, 8, 1)),
        (128, SIGMOID, ""): (Tile(64, 4, 2), Tile(32, 4, 2)),
        (128, SIGMOID, "dq"): (Tile(32, 4, 2),),
        (128, SIGMOID, "dk_dv"): (Tile(32, 4, 2),),
        (128, WIDE, ""): (Tile(64, 8, 2), Tile(32, 8, 2)),
        (128, SINGLE, ""): (Tile(32, 8, 1, rows=16),),
        (256, EXP, ""): (Tile(16, 8, 1),),
        (256, EXP, "state"): (Tile(32, 8, 1),),
        (256, EXP, "dq"): (Tile(16, 4, 1),),
        (256, EXP, "dk_dv"): (Tile(16, 8, 2),),
        (256, SIGMOID, ""): (Tile(32, 8, 1),),
        (256, SIGMOID, "dq"): (Tile(16, 4, 1),),
        (256, SIGMOID, "dk_dv"): (Tile(32, 8, 2),),
        (256, WIDE, ""): (Tile(32, 8, 1),),
        (256, SINGLE, ""): (Tile(16, 8, 1, rows=16),),
        (512, EXP, ""): (Tile(16, 8, 1),),
        (512, SIGMOID, ""): (Tile(16, 8, 1),),
        (512, WIDE, ""): (Tile(16, 8, 1, rows=64),),
        (512, SINGLE, ""): (Tile(16, 8, 1, rows=16),),
    },
    100: {
        (64, EXP, ""): (Tile(64, 4, 1), Tile(32, 4, 1)),
        (64, EXP, "dk_dv"): (Tile(64, 8, 1), Tile(32, 4, 1)),
        (64, SIGMOID, ""): (Tile(64, 4, 2), Tile(32, 4, 2)),
        (64, WIDE, ""): (Tile(64, 8, 1),),
        (64, SINGLE, ""): (Tile(32, 4, 1, rows=32),),
        (128, EXP, ""): (Tile(64, 8, 1), Tile(32, 8, 1)),
        (128, SIGMOID, ""): (Tile(64, 8, 2), Tile(32, 4, 2)),
        (128, WIDE, ""): (Tile(64, 8, 1),),
        (128, SINGLE, ""): (Tile(32, 8, 1, rows=16),),
        (256, EXP, ""): (Tile(32, 8, 1),),
        (256, SIGMOID, ""): (Tile(32, 8, 1),),
        (256, WIDE, ""): (Tile(32, 8, 1),),
        (256, SINGLE, ""): (Tile(16, 8, 1, rows=16),),
        (512, EXP, ""): (Tile(16, 8, 1),),
        (512, SIGMOID, ""): (Tile(16, 8, 1),),
        (512, WIDE, ""): (Tile(16, 8, 1, rows=64),),
        (512, SINGLE, ""): (Tile(16, 8, 1, rows=16),),
    },
}


def tiles(capability: int, kind: str, height: int, work: str) -> Row:
    """The tiles of a sweep, widest first, for the newest known architecture that is not newer than the device.

    kind: the sweep; height: the state's uncut dimension, a power of 2; work: one of the kinds of work above.
    """
    return row(TILES, capability, height, work, kind)
