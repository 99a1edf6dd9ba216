"""Tuned configs of the kernels: the key under which a plan asks for one, and the candidates that tuning tries.

A key is "attention/<kernel>/<who sees whom>/K<K>/V<V>/<dtype>/<loads>"; a config is a tile of tiles.py by its fields.
"""

from __future__ import annotations

from dataclasses import asdict, replace

from kernels.attention.shape import DESCRIPTORS, Shape
from kernels.attention.tiles import DK_DV, DQ, FORWARD, Tile
from kernels.common.shapes import power_of_2
from suite.tuning import Config, choice

# What to try in half precision, by kernel and the larger head dim, a power of 2.
OTHERS: dict[tuple[str, int], tuple[Tile, ...]] = {
    (FORWARD, 64): (
        Tile(128, 64, 4, 3),
        Tile(128, 64, 8, 3),
        Tile(128, 128, 8, 3),
        Tile(256, 64, 8, 3, parts=2),
        Tile(256, 128, 8, 3, parts=2),
    ),
    (FORWARD, 128): (
        Tile(256, 64, 8, 3, parts=2),
        Tile(256, 32, 8, 3, parts=2),
        Tile(128, 64, 8, 3),
        Tile(128, 64, 8, 2),
        Tile(64, 64, 4, 2),
    ),
    (FORWARD, 256): (Tile(128, 32, 8, 3), Tile(128, 64, 8, 2), Tile(64, 64, 8, 2), Tile(64, 32, 4, 2)),
    (DQ, 64): (Tile(128, 64, 4, 3), Tile(128, 128, 8, 3), Tile(128, 64, 8, 2), Tile(64, 64, 4, 3)),
    (DQ, 128): (Tile(128, 64, 8, 4), Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(128, 32, 8, 3), Tile(64, 32, 4, 2)),
    (DQ, 256): (Tile(128, 32, 8, 3), Tile(128, 32, 8, 2), Tile(64, 32, 8, 2), Tile(64, 32, 4, 2)),
    (DK_DV, 64): (Tile(128, 64, 8, 3), Tile(128, 64, 8, 2), Tile(128, 32, 8, 3), Tile(64, 64, 4, 3)),
    (DK_DV, 128): (Tile(128, 64, 8, 3), Tile(128, 32, 8, 3), Tile(128, 32, 8, 2), Tile(64, 32, 8, 2)),
    (DK_DV, 256): (Tile(64, 32, 8, 3), Tile(64, 32, 8, 2), Tile(64, 16, 8, 2)),
}
# The first architecture on which Triton splits these loops between warps.
SPECIALISES = 100


def key(shape: Shape, kernel: str) -> str:
    """The key of a config in tuning tables: the kernel, and everything that changes which config is fastest."""
    s = shape
    sight = "causal" if s.causal else "full"
    if s.window:
        sight += f"-window{s.window}"
    return f"attention/{kernel}/{sight}/K{s.K}/V{s.V}/{s.dtype}/{s.loads}"


def tuned(shape: Shape, kernel: str, tile: Tile) -> Tile:
    """The forced or tuned config in place of the table's tile, where there is one.

    A config that lacks a field was chosen for kernels that had not got it yet: it does not count.
    """
    config = choice(key(shape, kernel))
    return Tile(**config) if config and config.keys() == asdict(tile).keys() else tile


def candidates(shape: Shape, kernel: str, tile: Tile, capability: int) -> list[Config]:
    """Configs worth trying, the given one first."""
    if shape.dtype == "float32":
        return [asdict(tile)]
    others = OTHERS[kernel, max(64, power_of_2(max(shape.K, shape.V)))]
    if kernel == FORWARD and shape.loads == DESCRIPTORS and capability >= SPECIALISES:
        others += tuple(replace(each, special=1) for each in others if each.warps == 8)
    return [asdict(each) for each in (tile, *(each for each in others if each != tile))]
