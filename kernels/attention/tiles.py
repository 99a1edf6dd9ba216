"""Tiles of the kernels as data: block sizes, warps and stages by architecture, head dim and kernel.

They follow from what the compiler reports (spills, tensor-core instructions, shared memory), not from timing.
"""

from __future__ import annotations

from dataclasses import dataclass

from suite.targets import SMALL


@dataclass(frozen=True)
class Tile:
    """rows: a program's own queries (keys in dk_dv); columns: keys (queries) it takes at a time; warps; stages of its
    load pipeline; special: 1 where loads and products have warps of their own; parts: blocks of queries that the rows
    of the forward kernel are taken in, one or two."""

    rows: int
    columns: int
    warps: int
    stages: int
    special: int = 0
    parts: int = 1


FORWARD, DQ, DK_DV = "forward", "dq", "dk_dv"
HALF, SINGLE = "half", "single"

# (head dim: 64, 128 or 256; precision; kernel) -> tile.
Table = dict[tuple[int, str, str], Tile]
# fp32 operands take twice the registers, and their three products more: few rows at a time.
_SINGLE: Table = {
    (64, SINGLE, FORWARD): Tile(64, 32, 4, 2),
    (64, SINGLE, DQ): Tile(64, 32, 4, 1),
    (64, SINGLE, DK_DV): Tile(64, 32, 8, 1),
    (128, SINGLE, FORWARD): Tile(64, 32, 8, 1),
    (128, SINGLE, DQ): Tile(64, 32, 8, 1),
    (128, SINGLE, DK_DV): Tile(32, 32, 8, 1),
    (256, SINGLE, FORWARD): Tile(32, 16, 8, 1),
    (256, SINGLE, DQ): Tile(32, 16, 8, 1),
    (256, SINGLE, DK_DV): Tile(16, 16, 8, 1),
}
# Of a pipeline of two stages, Triton issues a tile's loads at the end of the step before: they are waited for at once.
_HOPPER: Table = _SINGLE | {
    (64, HALF, FORWARD): Tile(128, 64, 4, 3),
    (64, HALF, DQ): Tile(128, 64, 4, 3),
    (64, HALF, DK_DV): Tile(128, 64, 8, 3),
    (128, HALF, FORWARD): Tile(256, 64, 8, 3, parts=2),
    (128, HALF, DQ): Tile(128, 64, 8, 4),
    (128, HALF, DK_DV): Tile(128, 64, 8, 3),
    (256, HALF, FORWARD): Tile(128, 32, 8, 3),
    (256, HALF, DQ): Tile(128, 32, 8, 3),
    (256, HALF, DK_DV): Tile(64, 32, 8, 3),
}
_AMPERE: Table = _SINGLE | {
    (64, HALF, FORWARD): Tile(128, 64, 4, 3),
    (64, HALF, DQ): Tile(64, 64, 4, 2),
    (64, HALF, DK_DV): Tile(64, 32, 4, 2),
    (128, HALF, FORWARD): Tile(64, 64, 4, 2),
    (128, HALF, DQ): Tile(64, 32, 4, 2),
    (128, HALF, DK_DV): Tile(64, 32, 8, 2),
    (256, HALF, FORWARD): Tile(64, 32, 8, 2),
    (256, HALF, DQ): Tile(64, 32, 8, 1),
    (256, HALF, DK_DV): Tile(32, 32, 8, 1),
}
# Of Ampere's tiles with fp32 operands these need more than the 99 KiB of shared memory that smaller GPUs' blocks have.
_SMALL: Table = _AMPERE | {
    (128, SINGLE, DQ): Tile(32, 32, 8, 1),
    (256, SINGLE, DQ): Tile(16, 16, 8, 1),
}
_BLACKWELL: Table = _SINGLE | {
    (64, HALF, FORWARD): Tile(128, 64, 8, 3),
    (64, HALF, DQ): Tile(128, 64, 8, 2),
    (64, HALF, DK_DV): Tile(128, 32, 8, 2),
    (128, HALF, FORWARD): Tile(128, 64, 8, 3),
    (128, HALF, DQ): Tile(128, 64, 8, 2),
    (128, HALF, DK_DV): Tile(64, 64, 8, 2),
    (256, HALF, FORWARD): Tile(128, 64, 8, 2),
    (256, HALF, DQ): Tile(128, 32, 8, 2),
    (256, HALF, DK_DV): Tile(64, 16, 8, 2),
}
TILES: dict[int, Table] = {80: _AMPERE, SMALL: _SMALL, 90: _HOPPER, 100: _BLACKWELL}


# With a window, in place of the table's: faster there by predicted time (293 us and not 325, window 1024).
WINDOWED: dict[tuple[int, int, str, str], Tile] = {(90, 256, HALF, FORWARD): Tile(128, 64, 8, 2)}


def tile(tile_class: int, kernel: str, size: int, dtype: str, windowed: bool = False) -> Tile:
    """The tile for a class of GPUs (see suite.targets), a kernel and the larger head dim, a power of 2."""
    at = max(64, size), SINGLE if dtype == "float32" else HALF, kernel
    special = WINDOWED.get((tile_class, *at)) if windowed else None
    return special or TILES[tile_class][at]
