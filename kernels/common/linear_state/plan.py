"""Which regime a sweep runs in, and in which tiles: host code that asks shapes and `suite.target()`, nothing else.

On chip, a program takes a whole sequence. Where sequences x heads x slices leave SMs idle, sequences are cut into
segments of equal length; their number fills the GPU FILL times.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import suite
from kernels.common.linear_state.tiles import MAPPED, NORMALISED, PLAIN, SINGLE, WIDE, Tile, tiles
from suite import Problem

# Head dims that the tiles are made for.
MAX_DIM = 256
FILL = 2
# A segment costs a state written and read, so it has to be worth a few chunks.
MIN_CHUNKS = 4


@dataclass(frozen=True)
class Shape:
    """What a plan depends on: sequences, tokens of the longest and of all, state heads, head dims, chunk, dtype."""

    sequences: int
    longest: int
    tokens: int
    heads: int
    K: int
    V: int
    chunk: int
    dtype: str
    normalised: bool
    feature_map: str
    packed: bool


@dataclass(frozen=True)
class Sweep:
    """How one sweep is launched.

    tile:     width of a state slice, warps, stages
    slices:   slices of the state
    segment:  tokens of a segment, a multiple of the chunk
    segments: segments of the longest sequence; 1 on chip
    slots:    states of all segments
    chunk:    tokens of a step: the call's chunk, or fewer where the tile takes no more
    """

    tile: Tile
    slices: int
    segment: int
    segments: int
    slots: int
    chunk: int

    @property
    def segmented(self) -> bool:
        return self.segments > 1

    def describe(self) -> dict[str, Any]:
        """For a record's configuration."""
        regime = {"regime": "segments", "segment": self.segment} if self.segmented else {"regime": "on-chip"}
        return {
            **regime,
            "chunk": self.chunk,
            "slice": self.tile.width,
            "warps": self.tile.warps,
            "stages": self.tile.stages,
        }


def power_of_2(size: int) -> int:
    """The smallest power of 2 that holds `size`, at least 16: the least that a tensor core takes."""
    return max(16, 1 << (size - 1).bit_length())


@dataclass(frozen=True)
class Plan:
    """The sweeps of a call: forward `output`, backward `dq`, `dk`, `dv`.

    dq starts from the segment states of the output sweep where there are any, dk and dv from common ones: such sweeps
    are cut alike.
    """

    output: Sweep
    dq: Sweep
    dk: Sweep
    dv: Sweep


def plan(shape: Shape) -> Plan:
    """Regime, tiles and segments of all sweeps, for `suite.target()`."""
    output = _cut(shape, ("output",))["output"]
    dq = _cut(shape, ("dq",), output.segment if output.segmented else None)
    return Plan(output, **dq, **_cut(shape, ("dk", "dv")))


def plan_state(shape: Shape, sweep: Sweep) -> Sweep:
    """The sweep that sums the contributions of another one's segments."""
    return _cut(shape, ("state",), sweep.segment)["state"]


def executed(shape: Shape, chosen: Plan, pass_: str) -> float:
    """FLOPs that a pass executes: full chunk x chunk products, repeated in each slice, and the segments' sums."""
    K, V = shape.K, shape.V
    flops = 0
    if pass_ in ("fwd", "fwdbwd"):
        flops += _sweep_flops(chosen.output, K, V) + 2 * K * V * chosen.output.segmented
        # z takes two products with 16 columns in every slice.
        flops += 64 * K * chosen.output.slices * shape.normalised
    if pass_ in ("bwd", "fwdbwd"):
        flops += _sweep_flops(chosen.dq, V, K) + _sweep_flops(chosen.dk, V, K) + _sweep_flops(chosen.dv, K, V)
        sums = chosen.dk.segmented + (chosen.dq.segmented and not chosen.output.segmented)
        flops += 2 * K * V * sums
    return float(shape.tokens * shape.heads * flops)


def _sweep_flops(sweep: Sweep, held: int, sliced: int) -> int:
    """A token and head: the state read and updated, a b^T in each slice, its product with c."""
    return 4 * held * sliced + 2 * sweep.chunk * (held * sweep.slices + sliced)


def _cut(shape: Shape, kinds: tuple[str, ...], segment: int | None = None) -> dict[str, Sweep]:
    """Sweeps with segments of one length: the given one, or the shortest that one of them asks for."""
    alone = {kind: _plan(shape, kind) for kind in kinds}
    segment = segment or min(chosen for _, _, chosen in alone.values())
    segments = -(-shape.longest // segment)
    # Packed, the slots follow from the sequences' offsets: see `locate` in device.py.
    slots = shape.tokens // segment + shape.sequences if shape.packed else shape.sequences * segments
    return {
        kind: Sweep(tile, slices, segment, segments, slots, min(shape.chunk, tile.rows))
        for kind, (tile, slices, _) in alone.items()
    }


def _plan(shape: Shape, kind: str) -> tuple[Tile, int, int]:
    """Tile, slices and tokens a segment of one sweep by itself.

    The widest slice that gives each SM a program stays on chip, since wide slices load shared tiles fewer times; where
    none does, sequences are cut into segments and swept in the narrowest.
    """
    held, sliced = (shape.V, shape.K) if kind in ("dq", "dk") else (shape.K, shape.V)
    sms = suite.target().sms
    choices = [
        replace(tile, width=min(tile.width, power_of_2(sliced)))
        for tile in tiles(suite.target().capability, kind, power_of_2(held), _work(shape))
    ]
    whole = -(-shape.longest // shape.chunk)
    # Sequences of equal length that would keep the GPU busy as long: a long one among short ones counts as few.
    rows = max(1, shape.tokens // shape.longest) * shape.heads
    filling = [tile for tile in choices if rows * -(-sliced // tile.width) >= sms]
    tile = filling[0] if filling else choices[-1]
    slices = -(-sliced // tile.width)
    if filling:
        return tile, slices, whole * shape.chunk
    chunks = -(-shape.tokens * shape.heads * slices // (FILL * sms * shape.chunk))
    return tile, slices, min(whole, max(MIN_CHUNKS, chunks)) * shape.chunk


def _work(shape: Shape) -> str:
    if shape.dtype == "float32":
        return SINGLE
    if shape.chunk >= 128:
        return WIDE
    if shape.normalised:
        return NORMALISED
    return PLAIN if shape.feature_map == "identity" else MAPPED


def of_problem(problem: Problem, chunk: int, *, normalised: bool, feature_map: str) -> Shape:
    """The shape that a problem's sequence passes are planned for."""
    p, bounds = problem, problem.cu_seqlens
    longest = p.T if bounds is None else max(b - a for a, b in pairwise(bounds))
    return Shape(p.N, longest, p.B * p.T, p.HS, p.K, p.V, chunk, p.dtype, normalised, feature_map, bounds is not None)
