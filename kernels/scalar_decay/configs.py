"""Tuned configs of the sweeps: the key under which a plan asks for one, and the candidates that tuning tries.

A key is "scalar_decay/<sweep>/<kind of recurrence>/K<K>/V<V>/<dtype>/C<chunk>/<regime>"; a config is a slice's width,
the warps of a program and the stages of its load pipeline.
"""

from __future__ import annotations

from dataclasses import replace

from kernels.common.tiles import distinct
from kernels.scalar_decay.shape import Shape
from kernels.scalar_decay.tiles import Tile
from suite.tuning import Config, choice

# Widths to try, by the most that a head dimension may be.
WIDTHS = {128: (64, 32), 256: (32, 16)}


def key(shape: Shape, sweep: str, regime: str) -> str:
    """The key of a config in tuning tables: the sweep, and everything that changes which config is fastest."""
    s = shape
    flags = ("normalised" * s.normalised, "full" * (not s.causal))
    kind = "-".join([s.decay, s.feature_map, *filter(None, flags)])
    return f"scalar_decay/{sweep}/{kind}/K{s.K}/V{s.V}/{s.dtype}/C{s.chunk}/{regime}"


def tuned(shape: Shape, sweep: str, regime: str, tile: Tile) -> Tile:
    """The forced or tuned config in place of the table's tile, where there is one."""
    config = choice(key(shape, sweep, regime))
    return tile if config is None else replace(tile, **config)


def candidates(shape: Shape, tile: Tile, *, carries: bool) -> list[Config]:
    """Configs worth trying, the given one first. carries: as of `stages_of`."""
    largest = min(max(shape.K, shape.V), max(WIDTHS))
    widths = next(widths for most, widths in WIDTHS.items() if largest <= most)
    others = [Tile(w, n, stages) for w in widths for n in (4, 8) for stages in (2, 1)]
    return distinct(map(_config, (tile, *others)), carries=carries)


def _config(tile: Tile) -> dict[str, int]:
    return {"width": tile.width, "warps": tile.warps, "stages": tile.stages}
