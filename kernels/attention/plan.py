"""In which tiles a call runs and how its grids are laid out: host code that depends on shapes and `suite.target()`.

A grid's rows (sequence, residue, head) are cut into sections. The keys and values of a section fit in half of the L2
cache, so that its blocks, heaviest first, find there what they share.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import suite
from kernels.attention.configs import candidates, key, tuned
from kernels.attention.shape import Shape
from kernels.attention.tiles import DK_DV, DQ, FORWARD, Tile, tile
from kernels.common.shapes import power_of_2
from suite import dtypes
from suite.tuning import Config

# Programs an SM below which blocks of queries have programs of their own: more of them end sooner. So they do where
# sequences are packed, since there programs beyond the end of a short one do nothing.
FILLED = 1.5
PASSES = {"fwd": (FORWARD,), "bwd": (DQ, DK_DV), "fwdbwd": (FORWARD, DQ, DK_DV)}


@dataclass(frozen=True)
class Kernel:
    """How one kernel is launched: its tile; blocks of the longest sequence; rows and rows of a section of the grid."""

    tile: Tile
    blocks: int
    rows: int
    section: int

    @property
    def programs(self) -> int:
        return self.blocks * self.rows


def plan(shape: Shape, kernel: str) -> Kernel:
    """Tile and grid of `forward`, `dq` or `dk_dv`, for `suite.target()`."""
    target = suite.target()
    size = power_of_2(max(shape.K, shape.V))
    chosen = tuned(shape, kernel, tile(target.tile_class, kernel, size, shape.dtype, shape.window > 0))
    heads = shape.HK if kernel == DK_DV else shape.H
    rows = shape.sequences * shape.dilation * heads
    few = -(-shape.positions // chosen.rows) * rows < FILLED * target.sms
    if chosen.parts > 1 and (few or shape.packed):
        chosen = replace(chosen, rows=chosen.rows // chosen.parts, parts=1)
    return Kernel(chosen, -(-shape.positions // chosen.rows), rows, _section(shape, kernel, rows, target.l2_bytes))


def _section(shape: Shape, kernel: str, rows: int, l2_bytes: int) -> int:
    """Rows whose programs run side by side; those of a key head stay together."""
    shared = shape.H // shape.HK
    head = dtypes.BYTES[shape.dtype] * shape.positions * (shape.K + shape.V)
    if kernel == DK_DV:
        return min(rows, max(1, l2_bytes // 2 // (head * shared)))
    return min(rows, max(1, l2_bytes // 2 // head) * shared)


def executed(shape: Shape, lengths: Mapping[int, int], pass_: str) -> float:
    """FLOPs that a pass executes on so many sequences of each length: whole tiles, masked scores included.

    A pair costs the products q k, p v forward; q k, do v, ds k in dq; q k, p do, do v, ds q in dk_dv.
    """
    K, V = shape.K, shape.V
    widths = {FORWARD: K + V, DQ: 2 * K + V, DK_DV: 2 * K + 2 * V}
    return float(sum(2 * shape.H * widths[kernel] * _pairs(shape, lengths, kernel) for kernel in PASSES[pass_]))


def _pairs(shape: Shape, lengths: Mapping[int, int], kernel: str) -> int:
    """(query, key) pairs of one head in the tiles that a kernel visits."""
    at = plan(shape, kernel).tile
    parts: Counter[int] = Counter()
    for n, count in lengths.items():
        for r in range(shape.dilation):
            parts[-(-(n - r) // shape.dilation)] += count
    return sum(
        count * sum(_met(shape, kernel, at, start, length) for start in range(0, length, at.rows))
        for length, count in parts.items()
    )


def _met(shape: Shape, kernel: str, at: Tile, start: int, length: int) -> int:
    """Pairs in the tiles of one block; `spans` in device.py says the same of the loop's bounds."""
    window = shape.window or length
    back, fore = window - 1, 0 if shape.causal else window - 1
    if kernel == DK_DV:
        back, fore = fore, back
    span_begin = max(start - back, 0) // at.columns
    span_end = min(length, start + at.rows + fore)
    return at.rows * at.columns * (-(-span_end // at.columns) - span_begin)


def describe(shape: Shape, pass_: str) -> dict[str, Any]:
    """For a record's configuration: tile, warps, stages and grid of each kernel of a pass."""
    chosen = {kernel: plan(shape, kernel) for kernel in PASSES[pass_]}
    return {kernel: {"loads": shape.loads, **asdict(at.tile), "section": at.section} for kernel, at in chosen.items()}


def searched(shape: Shape, pass_: str) -> dict[str, list[Config]]:
    """The configs that tuning may try for each kernel of a pass, by the key under which `plan` asks."""
    chosen = {kernel: plan(shape, kernel).tile for kernel in PASSES[pass_]}
    capability = suite.target().tile_class
    return {key(shape, kernel): candidates(shape, kernel, tile, capability) for kernel, tile in chosen.items()}
