"""Regime and tiles of S4D's scan: host code that asks shapes and `suite.target()`, nothing else.

A program is one warp with a block of channels and all pairs of modes of each. Tiles follow from what the compiler
reports, not from timing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from kernels.common.scan.plan import Cut, Span, cut, power_of_2, span_of
from suite import Problem
from suite.tuning import choice

KERNELS = {"fwd": ("local", "output"), "bwd": ("local_reverse", "gradients")}
SEGMENTS_ONLY = ("local", "local_reverse")
MAX_MODES = 256
# Elements of a complex tile: 16 a thread forward, 8 where there are as many again for sensitivities and sums.
ELEMENTS = {"local": 512, "output": 512, "local_reverse": 512, "gradients": 256}
MOST_CHANNELS, ROWS = 64, 8


@dataclass(frozen=True)
class Tile:
    """width: channels of a program; rows: tokens of a step; warps of a program."""

    width: int
    rows: int
    warps: int


@dataclass(frozen=True)
class Shape:
    """What a plan depends on: tokens, channels, pairs of modes, dtype."""

    span: Span
    channels: int
    pairs: int
    dtype: str


@dataclass(frozen=True)
class Plan:
    """How a call is cut, and each kernel's tile."""

    cut: Cut
    tiles: Mapping[str, Tile]

    def launched(self, pass_: str) -> list[str]:
        """The kernels of a pass that have tiles, in order."""
        passes = ("fwd", "bwd") if pass_ == "fwdbwd" else (pass_,)
        names = [name for each in passes for name in KERNELS[each]]
        return [name for name in names if self.cut.segmented or name not in SEGMENTS_ONLY]

    def describe(self, pass_: str) -> dict[str, Any]:
        """For a record's configuration."""
        return {name: {**self.cut.describe(), **asdict(self.tiles[name])} for name in self.launched(pass_)}


def plan(shape: Shape) -> Plan:
    """One block of channels a warp; segments where blocks do not keep the GPU busy."""
    own = {name: Tile(_width(shape, size), ROWS, 1) for name, size in ELEMENTS.items()}
    made = cut(shape.span, -(-shape.channels // own["output"].width))
    return Plan(made, {name: _chosen(key(shape, made, name), tile) for name, tile in own.items()})


def _width(shape: Shape, elements: int) -> int:
    most = min(MOST_CHANNELS, power_of_2(shape.channels))
    return max(1, min(most, elements // power_of_2(shape.pairs)))


def _chosen(name: str, own: Tile) -> Tile:
    launch = choice(name)
    return own if launch is None else Tile(**launch)


def key(shape: Shape, made: Cut, name: str) -> str:
    """The key of a kernel's launch in tuning tables."""
    regime = "segments" if made.segmented else "on-chip"
    return f"s4d/{name}/M{shape.pairs}/{shape.dtype}/{regime}"


def search(shape: Shape, pass_: str) -> dict[str, Sequence[Mapping[str, int]]]:
    """Launches worth trying for each kernel of a pass, the table's own first."""
    made = plan(shape)
    found: dict[str, Sequence[Mapping[str, int]]] = {}
    for name in made.launched(pass_):
        own = made.tiles[name]
        widths = dict.fromkeys(max(1, width) for width in (own.width, own.width // 2, 2 * own.width))
        more = [Tile(width, rows, 1) for width in widths for rows in (4, 8, 16)]
        found[key(shape, made.cut, name)] = [asdict(tile) for tile in dict.fromkeys([own, *more])]
    return found


def of_problem(problem: Problem) -> Shape:
    """The shape that a problem's sequence passes are planned for."""
    return Shape(span_of(problem), problem.HS * problem.V, problem.K // 2, problem.dtype)
