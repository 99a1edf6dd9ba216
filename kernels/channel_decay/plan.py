"""Which regime a call runs in, and in which tiles: host code that depends on shapes and `suite.target()` alone.

On chip, a program takes a whole sequence. Where sequences x heads x slices leave SMs idle, sequences are cut into
segments of equal length; their number fills the GPU FILL times. All sweeps of a call are cut alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import suite
from kernels.channel_decay.tiles import BONUS, HALF, SINGLE, Tile, candidates, tiles
from kernels.common.shapes import power_of_2
from kernels.common.tiles import distinct, stages_of
from suite import Problem
from suite.tuning import choice

# Head dims that the tiles are made for.
FILL = 2
# A segment costs states written and read, so it must be worth a few chunks.
MIN_CHUNKS = 4
# Tokens between two states that the backward pass keeps: see README.md, "The gradient of the gates".
INTERVAL = 256
# Chunks that one program prepares at most.
MOST = 32
SWEEPS = ("prepare", "output", "state", "dq", "dk_dv")
# Sweeps over what is prepared: their chunk is that of "prepare".
PREPARED = ("output", "state")
# What tuning keys call a kernel, where it is not the sweep's name.
NAMES = {"alone": "output", "output": "prepared_output", "state": "prepared_state"}
# Sweeps that read the state that they carry; "state" only sums it.
CARRYING = ("output", "dq", "dk_dv")


@dataclass(frozen=True)
class Shape:
    """What a plan depends on: sequences, tokens of the longest and of all, state heads, head dims, chunk, dtype.

    derived: k is 1 - e^g; bonus: u is given, and a token is read before the state decays.
    """

    sequences: int
    longest: int
    tokens: int
    heads: int
    K: int
    V: int
    chunk: int
    dtype: str
    packed: bool
    derived: bool
    bonus: bool

    @property
    def wide(self) -> bool:
        """Whether products take fp32 operands: scaled q and k exceed the range of fp16."""
        return self.dtype != "bfloat16"


@dataclass(frozen=True)
class Sweep:
    """How one sweep is launched: its tile, slices of K and of V that its grid holds, tokens of a step."""

    tile: Tile
    slices_k: int
    slices_v: int
    chunk: int

    @property
    def slices(self) -> int:
        return self.slices_k + self.slices_v

    def describe(self) -> dict[str, Any]:
        """The plan, as a record's `configuration` holds it."""
        return {
            "chunk": self.chunk,
            "slice": self.tile.width,
            "warps": self.tile.warps,
            "stages": self.tile.stages,
        }


@dataclass(frozen=True)
class Plan:
    """A call's sweeps and how sequences are cut.

    segment_size: tokens of a segment, a multiple of `interval`, which is a multiple of every sweep's chunk
    segments:     segments of the longest sequence; 1 on chip
    slots:        states of all segments
    interval:     tokens between checkpoints
    blocks:       checkpoints of all sequences
    chunk:        tokens of a chunk that is prepared
    chunks:       chunks of all sequences
    together:     tokens that one program prepares, chunk by chunk
    alone:        whether one slice takes all of V on chip: then the output sweep makes for itself what it needs
    """

    sweeps: dict[str, Sweep]
    segment_size: int
    segments: int
    slots: int
    interval: int
    blocks: int
    chunk: int
    chunks: int
    together: int
    alone: bool

    @property
    def segmented(self) -> bool:
        return self.segments > 1

    def describe(self, *names: str) -> dict[str, Any]:
        """For a record's configuration: the regime and the named sweeps."""
        regime = {"regime": "segments", "segment": self.segment_size} if self.segmented else {"regime": "on-chip"}
        return {name: {**regime, **self.sweeps[name].describe()} for name in names}


def plan(shape: Shape) -> Plan:
    """Regime, tiles and segments of all sweeps, for `suite.target()`."""
    rows, sms = _rows(shape), suite.target().sms
    narrow = min(sum(_slices(shape, name, _tiles(shape, name)[-1])) for name in ("output", "dq"))
    wanted = shape.longest if rows * narrow >= sms else -(-shape.longest * rows * narrow // (FILL * sms))
    unit = INTERVAL if wanted > INTERVAL else min(MIN_CHUNKS * shape.chunk, INTERVAL)
    length = -(-wanted // unit) * unit
    interval = min(length, INTERVAL)
    segments = -(-shape.longest // length)
    sweeps = {name: _sweep(shape, name, rows * segments, segments > 1) for name in SWEEPS}
    alone = segments == 1 and sum(_slices(shape, "alone", _of_table(shape, "alone", rows))) == 1
    if alone:
        sweeps["output"] = _sweep(shape, "alone", rows, False)
    chunk = sweeps["prepare"].chunk
    sweeps |= {name: replace(sweeps[name], chunk=chunk) for name in PREPARED if not alone or name != "output"}
    # As many as leave the GPU FILL programs for each SM.
    together = chunk * min(MOST, -(-rows * -(-shape.longest // chunk) // (FILL * sms)))
    slots, blocks, chunks = (_slots(shape, each) for each in (length, interval, chunk))
    return Plan(sweeps, length, segments, slots, interval, blocks, chunk, chunks, together, alone)


def search(shape: Shape, names: Sequence[str]) -> dict[str, list[dict[str, int]]]:
    """The configs that a tuner may try for the named sweeps, by the key under which `plan` asks; its own first."""
    chosen = plan(shape)
    segments = chosen.segments
    found = {}
    for name in names:
        own = chosen.sweeps[name].tile
        most = power_of_2(shape.V) if name in PREPARED else max(tile.width for tile in _tiles(shape, name))
        kernel = "alone" if name == "output" and chosen.alone else name
        tried = candidates(shape.wide, kernel)
        others = [tile for tile in tried if tile.width <= max(most, 16) and tile != own]
        configs = [asdict(tile) for tile in (own, *others)]
        found[_key(shape, kernel, segments > 1)] = distinct(configs, carries=name in CARRYING)
    return found


def _key(shape: Shape, name: str, segmented: bool) -> str:
    """What changes the winner: the kernel, sizes, dtype, chunk, regime, and what the operator adds."""
    own = [] if name in PREPARED else ["derived"] * shape.derived + ["bonus"] * shape.bonus
    regime = "segments" if segmented else "on-chip"
    sizes = [f"K{shape.K}", f"V{shape.V}", shape.dtype, f"C{shape.chunk}"]
    return "/".join(["channel_decay", NAMES.get(name, name), *sizes, regime, *own])


def _rows(shape: Shape) -> int:
    # Sequences of equal length that would keep the GPU busy as long: a long one among short ones counts as few.
    return max(1, shape.tokens // shape.longest) * shape.heads


def _slots(shape: Shape, length: int) -> int:
    # Packed, the slots follow from the sequences' offsets: see `locate` in scalar_decay/device.py.
    if shape.packed:
        return shape.tokens // length + shape.sequences
    return shape.sequences * -(-shape.longest // length)


def _tiles(shape: Shape, name: str) -> list[Tile]:
    """The table's tiles, no wider than what they slice."""
    largest = max(shape.K, shape.V)
    sizes = {"prepare": (shape.K, shape.K), "dq": (shape.V, shape.K), "dk_dv": (largest, largest)}
    held, sliced = sizes.get(name, (shape.K, shape.V))
    work = SINGLE if shape.wide else BONUS if shape.bonus else HALF
    found = tiles(suite.target().tile_class, name, power_of_2(held), work)
    return [replace(tile, width=min(tile.width, power_of_2(sliced))) for tile in found]


def _slices(shape: Shape, name: str, tile: Tile) -> tuple[int, int]:
    """Slices of K and of V in a sweep's grid."""
    k = -(-shape.K // tile.width) if name in ("dq", "dk_dv") else 0
    return k, -(-shape.V // tile.width) if name not in ("prepare", "dq") else 0


def _of_table(shape: Shape, name: str, rows: int) -> Tile:
    """The widest tile that gives each SM a program, since wide slices load shared tiles fewer times."""
    choices = _tiles(shape, name)
    filling = [tile for tile in choices if rows * sum(_slices(shape, name, tile)) >= suite.target().sms]
    return filling[0] if filling else choices[-1]


def _sweep(shape: Shape, name: str, rows: int, segmented: bool) -> Sweep:
    config = choice(_key(shape, name, segmented))
    tile = _of_table(shape, name, rows) if config is None else Tile(**config)
    tile = replace(tile, stages=stages_of(tile.stages, carries=name in CARRYING))
    return Sweep(tile, *_slices(shape, name, tile), min(shape.chunk, tile.rows))


def executed(shape: Shape, chosen: Plan, pass_: str) -> float:
    """FLOPs that a pass executes: full tiles, products repeated in each slice, the segments' sums.

    The exact form of extreme gates executes others; they are not counted, nor are sums of gates.
    """
    K, V = shape.K, shape.V
    output, dq, dk_dv = (chosen.sweeps[name] for name in ("output", "dq", "dk_dv"))
    flops = 0
    if pass_ in ("fwd", "fwdbwd"):
        flops += 4 * K * V + 2 * output.chunk * (K + V) + 2 * K * V * chosen.segmented
    if pass_ in ("bwd", "fwdbwd"):
        flops += 4 * K * V + 2 * dq.chunk * (V * dq.slices_k + K) + 2 * K * V * chosen.segmented
        flops += 8 * K * V + 2 * dk_dv.chunk * (V * dk_dv.slices_k + K + K * dk_dv.slices_v + V)
    return float(shape.tokens * shape.heads * flops)


def of_problem(problem: Problem, chunk: int, *, derived: bool = False, bonus: bool = False) -> Shape:
    """The shape by which the sequence passes of a problem are planned."""
    p, bounds = problem, problem.cu_seqlens
    longest = p.T if bounds is None else max(b - a for a, b in pairwise(bounds))
    return Shape(p.N, longest, p.B * p.T, p.HS, p.K, p.V, chunk, p.dtype, bounds is not None, derived, bonus)
