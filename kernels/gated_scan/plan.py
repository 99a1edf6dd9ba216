"""Regime and tiles of the gated scan: host code that asks shapes and `suite.target()`, nothing else.

Tiles follow from what the compiler reports, not from timing: 16 bytes a thread and row, one warp, no spills.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import suite
from kernels.common.scan.plan import Cut, Span, cut, power_of_2, span_of
from suite import Problem
from suite.dtypes import BYTES
from suite.tuning import choice

KERNELS = {"fwd": ("local", "output"), "bwd": ("local_reverse", "gradients")}
SEGMENTS_ONLY = ("local", "local_reverse")


@dataclass(frozen=True)
class Tile:
    """width: channels of a program; rows: tokens of a step; warps of a program; stages of its load pipeline."""

    width: int
    rows: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Shape:
    """What a plan depends on."""

    span: Span
    channels: int
    dtype: str
    scaled: bool


# Itemsize -> widths from wide to narrow. A warp takes 16 bytes a thread in the widest one.
WIDTHS = {2: (256, 128, 64), 4: (128, 64)}
ROWS, STAGES = 8, 2
# Six tensors' rows and the scale's slope do not fit in registers with 8 tokens a step.
SCALED_ROWS = {"gradients": 4}


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
    """The widest tile whose programs fill the GPU, cut into segments where whole sequences do not."""
    widths = [min(width, power_of_2(shape.channels)) for width in WIDTHS[BYTES[shape.dtype]]]
    cuts = [(width, cut(shape.span, -(-shape.channels // width))) for width in widths]
    filling = [(w, c) for w, c in cuts if _programs(shape, w, c) >= suite.target().sms]
    width, made = filling[0] if filling else cuts[-1]
    tiles = {}
    for name in (name for names in KERNELS.values() for name in names):
        rows = SCALED_ROWS.get(name, ROWS) if shape.scaled else ROWS
        tiles[name] = _chosen(key(shape, made, name), Tile(width, rows, 1, STAGES))
    return Plan(made, tiles)


def _programs(shape: Shape, width: int, made: Cut) -> int:
    return shape.span.rows * -(-shape.channels // width) * made.segments


def _chosen(name: str, own: Tile) -> Tile:
    launch = choice(name)
    return own if launch is None else Tile(**launch)


def key(shape: Shape, made: Cut, name: str) -> str:
    """The key of a kernel's launch in tuning tables."""
    regime = "segments" if made.segmented else "on-chip"
    scaled = "sqrt" if shape.scaled else "none"
    return f"gated_scan/{name}/D{shape.channels}/{shape.dtype}/{scaled}/{regime}"


def search(shape: Shape, pass_: str) -> dict[str, Sequence[Mapping[str, int]]]:
    """Launches worth trying for each kernel of a pass, the table's own first."""
    made = plan(shape)
    found: dict[str, Sequence[Mapping[str, int]]] = {}
    for name in made.launched(pass_):
        own = made.tiles[name]
        more = [Tile(own.width, rows, 1, stages) for rows in (own.rows, 2 * own.rows) for stages in (1, 2, 3)]
        if shape.channels >= 4 * own.width:
            more += [Tile(4 * own.width, 8, 4, stages) for stages in (1, 2)]
        if own.width >= 128:
            more.append(Tile(own.width // 2, 16, 1, 2))
        found[key(shape, made.cut, name)] = [asdict(tile) for tile in dict.fromkeys([own, *more])]
    return found


def of_problem(problem: Problem) -> Shape:
    """The shape that a problem's sequence passes are planned for."""
    scaled = problem.axis("input_scaling") == "sqrt"
    return Shape(span_of(problem), problem.HS * problem.V, problem.dtype, scaled)
