"""Which regime a sweep runs in, and in which tiles: host code that depends on shapes and `suite.target()` alone.

On chip, a program takes a whole sequence. Where sequences x heads x slices leave SMs idle, sequences are cut into
segments of equal length; their number fills the GPU FILL times. The sweep of dk and dv is one launch: its slices are
those of K, then those of V.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import suite
from kernels.common.shapes import power_of_2
from kernels.common.tiles import stages_of
from kernels.scalar_decay.configs import candidates, key, tuned
from kernels.scalar_decay.shape import Shape
from kernels.scalar_decay.tiles import DECAYED, GATED, MAPPED, NORMALISED, PLAIN, SINGLE, WIDE, Tile, tiles
from suite.tuning import Config

# Head dims that the tiles are made for.
FILL = 2
# A segment costs a state written and read, so it must be worth a few chunks.
MIN_CHUNKS = 4
# Up to so many segments, a program sums the contributions before its own by itself; more are combined in a launch.
MOST_JOINED = 16
# Decays that have a gradient.
GATES = ("token", "step")
# What a program starts from: see start_state in device.py.
WHOLE, JOINED, COMBINED, ALL = "whole", "join", "segment", "all"
ON_CHIP, SEGMENTS = "on-chip", "segments"


@dataclass(frozen=True)
class Sweep:
    """How one sweep is launched.

    tile:         width of a state slice, warps, stages
    slices:       slices of the state
    segment_size: tokens of a segment, a multiple of the chunk
    segments:     segments of the longest sequence; 1 on chip
    slots:        states of all segments
    chunk:        tokens of a step: the call's chunk, or fewer where the tile takes no more
    causal:       whether a token reads the state up to itself, or that of all segments
    """

    tile: Tile
    slices: int
    segment_size: int
    segments: int
    slots: int
    chunk: int
    causal: bool = True

    @property
    def segmented(self) -> bool:
        return self.segments > 1

    @property
    def from_states(self) -> bool:
        """Whether an earlier launch leaves the states that this sweep starts from."""
        return self.segmented or not self.causal

    @property
    def start(self) -> str:
        if not self.causal:
            return ALL
        if not self.segmented:
            return WHOLE
        return JOINED if self.segments <= MOST_JOINED else COMBINED

    def describe(self) -> dict[str, Any]:
        """The plan, as a record's `configuration` holds it."""
        regime = {"regime": SEGMENTS, "segment": self.segment_size} if self.segmented else {"regime": ON_CHIP}
        return {
            **regime,
            "chunk": self.chunk,
            "slice": self.tile.width,
            "warps": self.tile.warps,
            "stages": self.tile.stages,
        }


@dataclass(frozen=True)
class Plan:
    """The sweeps of a call: forward `output`, backward `dq`, then `dk_dv`.

    dq starts from the segment states of the output sweep where there are any: such sweeps are cut alike.
    """

    output: Sweep
    dq: Sweep
    dk_dv: Sweep


def plan(shape: Shape) -> Plan:
    """Regime, tiles and segments of all sweeps, for `suite.target()`."""
    output = _cut(shape, "output")
    dq = _cut(shape, "dq", output.segment_size if output.segmented else None)
    return Plan(output, dq, _cut(shape, "dk_dv"))


def plan_state(shape: Shape, sweep: Sweep) -> Sweep:
    """The sweep that sums the contributions of another sweep's segments."""
    return _cut(shape, "state", sweep.segment_size)


def executed(shape: Shape, chosen: Plan, pass_: str) -> float:
    """FLOPs that a pass executes: full chunk x chunk products, repeated in each slice, and the segments' sums."""
    K, V = shape.K, shape.V
    flops = 0
    if pass_ in ("fwd", "fwdbwd"):
        flops += _sweep_flops(chosen.output, K, V, chosen.output.slices) + 2 * K * V * chosen.output.from_states
        # z takes two products with 16 columns in every slice.
        flops += 64 * K * chosen.output.slices * shape.normalised
    if pass_ in ("bwd", "fwdbwd"):
        dq, both = chosen.dq, chosen.dk_dv
        flops += _sweep_flops(dq, V, K, dq.slices)
        flops += _sweep_flops(both, V, K, _slices(both.tile, K)) + _sweep_flops(both, K, V, _slices(both.tile, V))
        flops += 2 * K * V * (both.from_states + (dq.from_states and not chosen.output.from_states))
        # For a gate's gradient, dq and dk read the state with twice as many bits: in two products.
        flops += 4 * K * V * (shape.decay in GATES)
    return float(shape.tokens * shape.heads * flops)


def _sweep_flops(sweep: Sweep, held: int, sliced: int, slices: int) -> int:
    """A token and head: the state read and, causal, updated, a b^T in each slice, its product with c."""
    if not sweep.causal:
        return 2 * held * sliced
    return 4 * held * sliced + 2 * sweep.chunk * (held * slices + sliced)


def _cut(shape: Shape, kind: str, segment: int | None = None) -> Sweep:
    """A sweep with segments of the given length, or of the length that fills the GPU."""
    tile, slices, own = _plan(shape, kind)
    return sweep_of(shape, tile, slices, segment or own)


def sweep_of(shape: Shape, tile: Tile, slices: int, segment: int) -> Sweep:
    """A sweep in a tile, with segments of so many tokens."""
    segments = -(-shape.longest // segment)
    # Packed, the slots follow from the sequences' offsets: see `locate` in device.py.
    slots = shape.tokens // segment + shape.sequences if shape.packed else shape.sequences * segments
    return Sweep(tile, slices, segment, segments, slots, min(shape.chunk, tile.rows), shape.causal)


def _plan(shape: Shape, kind: str) -> tuple[Tile, int, int]:
    """Tile, slices and tokens a segment of one sweep by itself.

    The widest slice that gives each SM a program stays on chip, since wide slices load shared tiles fewer times; where
    none does, sequences are cut into segments and swept in the narrowest.
    """
    sms = suite.target().sms
    choices = tiles(suite.target().tile_class, kind, power_of_2(_held(shape, kind)), _work(shape))
    whole = -(-shape.longest // shape.chunk)
    # Sequences of equal length that would keep the GPU busy as long: a long one among short ones counts as few.
    rows = max(1, shape.tokens // shape.longest) * shape.heads
    filling = [tile for tile in choices if rows * _parts(shape, kind, tile) >= sms]
    tile = tuned(shape, kind, ON_CHIP, filling[0]) if filling else tuned(shape, kind, SEGMENTS, choices[-1])
    tile = replace(tile, stages=stages_of(tile.stages, carries=carries(shape, kind)))
    slices = _parts(shape, kind, tile)
    if filling:
        return tile, slices, whole * shape.chunk
    # As many as can be resident FILL times: one more would make a last round that is nearly empty.
    segments = max(1, FILL * sms // (rows * slices))
    if not shape.causal:
        # Every program reads the contributions of all of them.
        segments = min(segments, MOST_JOINED)
    return tile, slices, min(whole, max(MIN_CHUNKS, -(-whole // segments))) * shape.chunk


def carries(shape: Shape, kind: str) -> bool:
    """Whether a sweep reads the state that it carries: not where it sums states, nor where all tokens read the same."""
    return shape.causal and kind != "state"


def _held(shape: Shape, kind: str) -> int:
    """The dimension of the state that a sweep's programs hold uncut."""
    return {"dq": shape.V, "dk_dv": max(shape.K, shape.V)}.get(kind, shape.K)


def _parts(shape: Shape, kind: str, tile: Tile) -> int:
    """Programs a head of a sweep."""
    sliced = {"dq": (shape.K,), "dk_dv": (shape.K, shape.V)}.get(kind, (shape.V,))
    return sum(_slices(tile, size) for size in sliced)


def _slices(tile: Tile, size: int) -> int:
    return -(-size // min(tile.width, power_of_2(size)))


def _work(shape: Shape) -> str:
    if shape.dtype == "float32":
        return SINGLE
    if shape.chunk >= 128:
        return WIDE
    if shape.normalised:
        return NORMALISED
    if shape.decay != "none":
        return DECAYED if shape.decay == "head" else GATED
    return PLAIN if shape.feature_map == "identity" else MAPPED


def sweeps(chosen: Plan, pass_: str) -> dict[str, Sweep]:
    """The sweeps of a pass by name."""
    found = {"output": chosen.output} if pass_ != "bwd" else {}
    return found if pass_ == "fwd" else found | {"dq": chosen.dq, "dk_dv": chosen.dk_dv}


def describe(chosen: Plan, pass_: str) -> dict[str, Any]:
    """For a record's configuration: regime, slice width, warps and stages of each sweep of a pass."""
    return {kind: sweep.describe() for kind, sweep in sweeps(chosen, pass_).items()}


def searched(shape: Shape, pass_: str) -> dict[str, list[Config]]:
    """The configs that tuning may try for each kernel of a pass, by the key under which `plan` asks."""
    found = {}
    for kind, sweep in sweeps(plan(shape), pass_).items():
        regime, reads = SEGMENTS if sweep.segmented else ON_CHIP, carries(shape, kind)
        found[key(shape, kind, regime)] = candidates(shape, sweep.tile, carries=reads)
        if sweep.from_states:
            own = plan_state(shape, sweep)
            found[key(shape, "state", SEGMENTS)] = candidates(shape, own.tile, carries=False)
    return found
