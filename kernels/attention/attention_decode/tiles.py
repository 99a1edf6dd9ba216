"""Tiles of the two kernels as data: rows of a tile, warps, stages and programs per SM, by architecture and head dim.

They follow from what the compiler reports (spills, tensor-core instructions, shared memory), not from timing. What
decides is how many bytes an SM has in flight: programs x (stages - 1) x tile.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernels.common.tiles import newest


@dataclass(frozen=True)
class Tile:
    """width: tokens of a tile; warps of a program; stages of its load pipeline; resident: programs of an SM."""

    width: int
    warps: int
    stages: int
    resident: int


# Head dims in classes, and the most query rows that a program takes by (class, bytes of an element): more would spill.
DIMS = (64, 128, 256)
ROWS = {(64, 2): 64, (128, 2): 64, (256, 2): 32, (64, 4): 16, (128, 4): 16, (256, 4): 16}

# Architecture -> (class of the larger head dim, bytes of an element, at most 16 rows or more) -> tile. float32 is
# multiplied in three TF32 products, which take more registers than anything else: it is served to be exact.
_SINGLE = {
    (64, 4, 16): Tile(32, 4, 2, 2),
    (128, 4, 16): Tile(32, 8, 2, 1),
    (256, 4, 16): Tile(16, 8, 2, 1),
}
TILES: dict[int, dict[tuple[int, int, int], Tile]] = {
    80: {
        (64, 2, 16): Tile(64, 4, 3, 3),
        (128, 2, 16): Tile(64, 4, 3, 2),
        (256, 2, 16): Tile(32, 4, 3, 2),
        (64, 2, 64): Tile(64, 8, 3, 1),
        (128, 2, 64): Tile(64, 8, 3, 1),
        (256, 2, 64): Tile(64, 8, 2, 1),
        **_SINGLE,
    },
    90: {
        (64, 2, 16): Tile(64, 4, 4, 3),
        (128, 2, 16): Tile(64, 4, 3, 2),
        (256, 2, 16): Tile(64, 4, 3, 1),
        (64, 2, 64): Tile(64, 4, 4, 2),
        (128, 2, 64): Tile(64, 4, 3, 2),
        (256, 2, 64): Tile(64, 8, 2, 1),
        **_SINGLE,
    },
    100: {
        (64, 2, 16): Tile(64, 4, 4, 2),
        (128, 2, 16): Tile(64, 4, 3, 2),
        (256, 2, 16): Tile(64, 8, 3, 1),
        (64, 2, 64): Tile(64, 8, 3, 1),
        (128, 2, 64): Tile(64, 8, 3, 1),
        (256, 2, 64): Tile(64, 8, 2, 1),
        **_SINGLE,
    },
}


def class_of(dim: int) -> int:
    """The class of a head dim: the smallest of DIMS that holds it."""
    return next(most for most in DIMS if dim <= most)


def tile_of(capability: int, dim: int, itemsize: int, rows: int) -> Tile:
    """The tile for the newest known architecture that is not newer than the device.

    dim: the larger head dim; itemsize: bytes of an element; rows: query rows of a program
    """
    return newest(TILES, capability)[class_of(dim), itemsize, 16 if rows <= 16 else 64]
