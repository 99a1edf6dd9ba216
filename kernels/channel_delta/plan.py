"""Which regime a call runs in, and in which tiles: host code that depends on shapes and `suite.target()` alone.

On chip, a program of a sweep takes a whole sequence. Where sequences x heads x slices leave SMs idle, sequences are cut
into segments of equal length; their number fills the GPU.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import suite
from kernels.channel_delta.tiles import HALF, ROWS, SINGLE, Tile, tiles
from kernels.common.shapes import power_of_2
from kernels.common.tiles import distinct, stages_of
from suite import Problem
from suite.tuning import choice

# Warps that fill an SM: programs of a sweep take all the registers that a thread can have.
WARPS_SM = 8
# A segment costs a [K, K] map beside its state, so it must be worth some chunks.
MIN_CHUNKS = 8
COMBINE_WIDTH, COMBINE_ROWS = 16, 32
FORWARD, BACKWARD = ("prepare", "map", "output"), ("reverse", "gradients")
# Kernels that read the state, or its map or gradient, that they carry from chunk to chunk.
CARRYING = ("map", "output", "reverse")
KERNELS = {"fwd": FORWARD, "bwd": BACKWARD, "fwdbwd": FORWARD + BACKWARD}


@dataclass(frozen=True)
class Shape:
    """What a plan depends on: sequences, tokens of the longest and of all, heads, head dims, chunk, dtype.

    heads: state heads HS; shared: heads H of q and k; dplr: four operands a token instead of q, k and beta; training:
    a backward pass follows, for which operands, states and corrections are stored; l2norm: q and k are normalised here
    """

    sequences: int
    longest: int
    tokens: int
    heads: int
    shared: int
    K: int
    V: int
    chunk: int
    dtype: str
    packed: bool
    dplr: bool
    training: bool
    l2norm: bool

    @property
    def work(self) -> str:
        return SINGLE if self.dtype == "float32" else HALF


@dataclass(frozen=True)
class Plan:
    """The kernels of a call.

    chunk:    tokens of a chunk, in all kernels; chunks: of a dense sequence, or of the longest packed one
    segment_size: tokens of a segment, a multiple of the chunk; segments: of the longest sequence, 1 on chip
    slots:        segments of all sequences; numbers: chunks of all sequences
    """

    chunk: int
    chunks: int
    numbers: int
    segment_size: int
    segments: int
    slots: int
    prepare: Tile
    output: Tile
    map: Tile
    reverse: Tile
    gradients: Tile

    @property
    def segmented(self) -> bool:
        return self.segments > 1

    def describe(self, kind: str) -> dict[str, Any]:
        """The plan, as a record's `configuration` holds it."""
        tile = getattr(self, kind)
        regime: dict[str, Any] = {"regime": "on-chip"}
        if self.segmented:
            regime = {"regime": "segments", "segment": self.segment_size}
        return {**regime, "chunk": self.chunk, "width": tile.width, "warps": tile.warps, "stages": tile.stages}


def plan(shape: Shape) -> Plan:
    """Regime, tiles and segments of all kernels, for `suite.target()`."""
    chunk = chunk_of(shape)
    chunks = -(-shape.longest // chunk)
    output, length = _regime(shape, chunk)
    segmented = length < chunks
    rows = {kind: _tiles(shape, kind)[0] for kind in ("prepare", "map", "reverse", "gradients")}
    rows["output"] = output
    chosen: dict[str, Any] = {kind: _tuned(shape, kind, tile, segmented) for kind, tile in rows.items()}
    segment = length * chunk
    segments = -(-shape.longest // segment)
    cut: dict[str, Any] = {"segment_size": segment, "segments": segments, "slots": _numbers(shape, segment)}
    return Plan(chunk=chunk, chunks=chunks, numbers=_numbers(shape, chunk), **cut, **chosen)


def launched(chosen: Plan, pass_: str) -> list[str]:
    """The kernels of a pass that are tuned and described, by kind."""
    return [kind for kind in KERNELS[pass_] if kind != "map" or chosen.segmented]


def chunk_of(shape: Shape) -> int:
    """Tokens of a chunk: the call's, or fewer if the tiles take fewer."""
    return min(shape.chunk, ROWS[max(64, power_of_2(max(shape.K, shape.V))), shape.work])


def key(shape: Shape, kind: str, segmented: bool) -> str:
    """The key of a kernel's config in tuning tables: everything that changes which config is fastest."""
    family = "dplr" if shape.dplr else "kda"
    regime = "segments" if segmented else "on-chip"
    sizes = f"K{shape.K}/V{shape.V}/{shape.dtype}/C{chunk_of(shape)}"
    if shape.l2norm and kind in ("prepare", "gradients"):
        family += "-norm"
    return f"channel_delta/{kind}/{family}/{sizes}/{regime}"


def candidates(shape: Shape, pass_: str) -> dict[str, list[dict[str, int]]]:
    """Configs worth trying for each kernel of a pass, the table's own first."""
    chosen = plan(shape)
    found = {}
    for kind in launched(chosen, pass_):
        first = getattr(chosen, kind)
        widths = sorted({first.width, max(16, first.width // 2)})
        # Where the table has one stage for a sweep, two need more shared memory than there is, or none is staged.
        stages = (1, 2) if kind in ("prepare", "gradients") else (1, first.stages)
        tried = [first, *(Tile(w, n, s) for w in widths for n in (4, 8) for s in stages)]
        configs = [{"width": t.width, "warps": t.warps, "stages": t.stages} for t in tried]
        found[key(shape, kind, chosen.segmented)] = distinct(configs, carries=kind in CARRYING)
    return found


def executed(shape: Shape, chosen: Plan, pass_: str) -> float:
    """FLOPs that a pass executes: full chunk x chunk products at each level, the inverse, and the segments' maps.

    One level is counted, of gates that take a whole chunk at once; fp16 takes every level.
    """
    K, V, C = shape.K, shape.V, chosen.chunk
    family = 2 if shape.dplr else 1
    every = shape.dtype == "float16"
    levels = C.bit_length() - 1 if every else 1
    # `prepare` sums gates by two products a kind of sum: three kinds, and one more a level.
    sums = 4 * C * K * family * (3 + every * levels)
    reads = 2 * K * V
    flops = 0.0
    if pass_ in ("fwd", "fwdbwd"):
        flops += (2 + family) * reads + 4 * C * V * family
        if chosen.segmented:
            flops += (1 + family) * reads * (K + V) / V + 2 * C * (K + V) * family
            flops += reads * K / chosen.segment_size
        flops += 4 * C * K * levels * family + sums + 2 * C * K + _inverse_flops(C)
    if pass_ in ("bwd", "fwdbwd"):
        flops += (2 + family) * reads + 4 * C * V * family
        if chosen.segmented:
            flops += 3 * reads + 2 * C * V + reads * K / chosen.segment_size
        flops += (2 + family) * reads + 4 * C * V * family + 8 * C * K * levels * family
    return shape.tokens * shape.heads * flops


def _inverse_flops(C: int) -> float:
    """A row of a chunk: three merges in blocks of 16, then full tiles from 16 to C, each merge two products."""
    return 4.0 * (3 * 16 * 16 + ((C // 16).bit_length() - 1) * C * C)


def _regime(shape: Shape, chunk: int) -> tuple[Tile, int]:
    """The output sweep's tile, and chunks of a segment: all of the longest sequence's on chip.

    The widest slice that gives three SMs of four a program stays on chip, since slices share all operands but v; where
    none does, sequences are cut into segments and swept in the widest, so many that its programs fill the SMs once.
    """
    sms = suite.target().sms
    choices = _tiles(shape, "output")
    whole = -(-shape.longest // chunk)
    # Sequences of equal length that would keep the GPU busy as long: a long one among short ones counts as few.
    rows = max(1, shape.tokens // shape.longest) * shape.heads
    for tile in choices:
        if rows * -(-shape.V // tile.width) * 4 >= sms * 3:
            return tile, whole
    slices = -(-shape.V // choices[0].width)
    resident = max(1, WARPS_SM // choices[0].warps)
    chunks = max(MIN_CHUNKS, -(-shape.tokens * shape.heads * slices // (resident * sms * chunk)))
    return (choices[-1], whole) if chunks >= whole else (choices[0], chunks)


def _numbers(shape: Shape, length: int) -> int:
    # Packed, the numbers follow from the sequences' offsets: see `locate` in kernels/common/device.py.
    if shape.packed:
        return shape.tokens // length + shape.sequences
    return shape.sequences * -(-shape.longest // length)


def _tuned(shape: Shape, kind: str, tile: Tile, segmented: bool) -> Tile:
    found = choice(key(shape, kind, segmented))
    tile = tile if found is None else Tile(found["width"], found["warps"], found["stages"])
    return replace(tile, stages=stages_of(tile.stages, carries=kind in CARRYING))


def _tiles(shape: Shape, kind: str) -> list[Tile]:
    rows = tiles(suite.target().tile_class, kind, power_of_2(shape.K), shape.work, dplr=shape.dplr)
    widest = power_of_2(shape.K if kind in ("prepare", "gradients") else shape.V)
    return [replace(tile, width=min(tile.width, widest)) for tile in rows]


def of_problem(problem: Problem, chunk: int, *, dplr: bool, l2norm: bool = False) -> Shape:
    """The shape that a problem's sequence passes are planned for; dplr: its operator is RWKV-7."""
    p, bounds = problem, problem.cu_seqlens
    longest = p.T if bounds is None else max(b - a for a, b in pairwise(bounds))
    lengths = {"sequences": p.N, "longest": longest, "tokens": p.B * p.T, "chunk": chunk}
    dims = {"heads": p.HS, "shared": p.H, "K": p.K, "V": p.V}
    kinds = {"packed": bounds is not None, "dplr": dplr, "training": p.pass_ != "fwd", "l2norm": l2norm}
    return Shape(**lengths, **dims, **kinds, dtype=p.dtype)
