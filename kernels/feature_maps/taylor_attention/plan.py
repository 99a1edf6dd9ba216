"""Tiles of the kernels as data, chosen by compiling, and what tuning may try instead.

A key is "taylor_attention/<kernel>/K<K>/V<V>/<dtype>/<causal or full>"; a config is the block that a program holds, the
block of its loop, warps and pipeline stages.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

import suite
from kernels.common.shapes import power_of_2
from kernels.common.tiles import newest
from suite.tuning import Config, choice


@dataclass(frozen=True)
class Tile:
    """held: rows of the block that a program holds; walked: rows of the blocks it walks over; warps; stages."""

    held: int
    walked: int
    warps: int
    stages: int


# Architecture -> (largest head dim: 64, 128 or 256; kernel) -> tile. fp32 has tiles of its own: its products are three.
TILES: dict[int, dict[tuple[int, str], Tile]] = {
    80: {
        (64, "direct"): Tile(128, 64, 4, 2),
        (64, "dq"): Tile(64, 64, 4, 2),
        (64, "dk_dv"): Tile(64, 64, 4, 2),
        (64, "efficient"): Tile(64, 64, 4, 2),
        (128, "efficient"): Tile(64, 64, 8, 1),
        (256, "efficient"): Tile(32, 32, 8, 1),
        (64, "efficient_dq"): Tile(64, 64, 4, 2),
        (128, "efficient_dq"): Tile(64, 64, 8, 1),
        (256, "efficient_dq"): Tile(32, 32, 8, 1),
        (64, "efficient_dk_dv"): Tile(64, 64, 4, 2),
        (128, "efficient_dk_dv"): Tile(64, 64, 8, 1),
        (256, "efficient_dk_dv"): Tile(32, 32, 8, 1),
        (128, "direct"): Tile(128, 32, 8, 2),
        (128, "dq"): Tile(64, 32, 4, 2),
        (128, "dk_dv"): Tile(64, 32, 8, 1),
        (256, "direct"): Tile(64, 32, 8, 1),
        (256, "dq"): Tile(32, 32, 4, 1),
        (256, "dk_dv"): Tile(32, 32, 8, 1),
    },
    90: {
        (64, "direct"): Tile(128, 64, 8, 2),
        (64, "dq"): Tile(64, 64, 4, 2),
        (64, "dk_dv"): Tile(64, 32, 4, 2),
        (64, "efficient"): Tile(64, 64, 4, 2),
        (128, "efficient"): Tile(64, 64, 8, 2),
        (256, "efficient"): Tile(64, 32, 8, 1),
        (64, "efficient_dq"): Tile(64, 64, 4, 2),
        (128, "efficient_dq"): Tile(64, 64, 8, 2),
        (256, "efficient_dq"): Tile(64, 32, 8, 1),
        (64, "efficient_dk_dv"): Tile(64, 64, 4, 2),
        (128, "efficient_dk_dv"): Tile(64, 64, 8, 2),
        (256, "efficient_dk_dv"): Tile(64, 32, 8, 1),
        (128, "direct"): Tile(128, 64, 8, 2),
        (128, "dq"): Tile(64, 32, 8, 2),
        (128, "dk_dv"): Tile(64, 32, 8, 2),
        (256, "direct"): Tile(64, 64, 8, 1),
        (256, "dq"): Tile(64, 32, 8, 1),
        (256, "dk_dv"): Tile(64, 32, 8, 1),
    },
}
SINGLE = {64: Tile(32, 32, 4, 1), 128: Tile(32, 16, 8, 1), 256: Tile(16, 16, 8, 1)}


def key(kernel: str, K: int, V: int, dtype: str, causal: bool) -> str:
    """The key of a config in tuning tables: everything that changes which config is fastest."""
    return f"taylor_attention/{kernel}/K{K}/V{V}/{dtype}/{'causal' if causal else 'full'}"


def table_tile(kernel: str, K: int, V: int, dtype: str) -> Tile:
    """The table's tile for the newest known architecture that is not newer than the device."""
    size = max(64, power_of_2(max(K, V)))
    if dtype == "float32":
        return SINGLE[size]
    return newest(TILES, suite.target().tile_class)[size, kernel]


def tile(kernel: str, K: int, V: int, dtype: str, causal: bool) -> Tile:
    """The tuned or forced tile, where there is one, else the table's."""
    own = table_tile(kernel, K, V, dtype)
    config = choice(key(kernel, K, V, dtype, causal))
    return own if config is None else replace(own, **config)


def candidates(kernel: str, K: int, V: int, dtype: str) -> list[Config]:
    """Configs worth trying, the table's own first."""
    own = asdict(table_tile(kernel, K, V, dtype))
    if dtype == "float32":
        return [own]
    held = (64, 128) if max(K, V) <= 128 else (32, 64)
    others = [asdict(Tile(h, w, n, s)) for h in held for w in (32, 64) for n, s in ((4, 2), (8, 2), (8, 1))]
    return [own, *(each for each in others if each != own)]
