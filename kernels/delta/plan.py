"""Which regime a call runs in, and in which tiles: host code that depends on shapes and `suite.target()` alone.

On chip, a program takes a whole sequence. Where sequences x heads x slices leave SMs idle, sequences are cut into
segments of equal length; their number fills the GPU FILL times.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import suite
from kernels.common.shapes import power_of_2
from kernels.common.tiles import distinct, newest, stages_of
from kernels.delta.tiles import ALONE, HALF, HELD, ROWS, SINGLE, Tile, tiles
from suite import Problem
from suite.tuning import Config, choice

ON_CHIP, SEGMENTS = "on-chip", "segments"
# Kernels that read the state, or its map or gradient, that they carry from chunk to chunk; those of dq and dk add two
# products to one sum.
CARRYING = ("output", "map", "state", "dq", "dk")
FILL = 2
# A segment costs a [K, K] map beside its state, so it must be worth some chunks.
MIN_CHUNKS = 8
# Chunks that one program prepares at most.
MOST = 32
# Wider heads have no room for a second stage.
WIDEST = 128


@dataclass(frozen=True)
class Shape:
    """What a plan depends on: sequences, steps of the longest and of all, heads, head dims, chunk, dtype.

    heads: state heads HS; shared: heads H of q and k; variant: what else changes a kernel, as `variant_of` writes it
    """

    sequences: int
    longest: int
    steps: int
    heads: int
    shared: int
    K: int
    V: int
    chunk: int
    dtype: str
    packed: bool
    variant: str

    @property
    def work(self) -> str:
        return SINGLE if self.dtype == "float32" else HALF


@dataclass(frozen=True)
class Sweep:
    """How one kernel is launched.

    tile:     width of a slice, warps, stages
    slices:   slices of the state, or of K in the gradients' kernels
    segment_size: steps of a segment
    segments:     segments of the longest sequence; 1 on chip
    slots:        segments of all sequences
    """

    tile: Tile
    slices: int
    segment_size: int
    segments: int
    slots: int

    @property
    def segmented(self) -> bool:
        return self.segments > 1


@dataclass(frozen=True)
class Plan:
    """The kernels of a call.

    chunk:  steps of a chunk, in all of them
    dq, dk: the gradients' kernels, each program a chunk and `columns` columns of dq or dk
    """

    chunk: int
    output: Sweep
    map: Sweep
    state: Sweep
    dq: Sweep
    dk: Sweep
    columns: int
    prepare: Sweep

    def describe(self, kind: str) -> dict[str, Any]:
        """The plan, as a record's `configuration` holds it."""
        sweep: Sweep = getattr(self, kind)
        regime: dict[str, Any] = {"regime": ON_CHIP}
        if self.output.segmented:
            regime = {"regime": SEGMENTS, "segment": self.output.segment_size}
        tile = sweep.tile
        return {**regime, "chunk": self.chunk, "slice": tile.width, "warps": tile.warps, "stages": tile.stages}


def plan(shape: Shape) -> Plan:
    """Regime, tiles and segments of all kernels, for `suite.target()`."""
    chunk = min(shape.chunk, ROWS[max(64, power_of_2(max(shape.K, shape.V))), shape.work])
    output, segment = _choose(shape, chunk)
    regime = SEGMENTS if segment else ON_CHIP
    # The maps of a whole sequence's segments serve both directions, so both are cut alike.
    whole = -(-shape.longest // chunk) * chunk
    cut = _cut(shape, segment or whole)
    state = _widest(shape, "state", cut.segments, FILL if segment else 1) or _tiles(shape, "state")[-1]
    output = _tuned(shape, chunk, "output", regime, _alone(shape, cut, output))
    state = _tuned(shape, chunk, "state", regime, _alone(shape, cut, state))
    mapped = _tuned(shape, chunk, "map", regime, _tiles(shape, "map")[0])
    columns = min(held_columns(shape.heads, shape.shared), power_of_2(shape.K))
    chunks = replace(_cut(shape, chunk), slices=-(-shape.K // columns))
    together = _together(shape, chunk)
    # The first tile is for calls whose programs fill more than what two per SM take.
    many = -(-_chunks(shape, chunk) // together) > FILL * suite.target().sms
    prepare = _tuned(shape, chunk, "prepare", regime, _tiles(shape, "prepare")[0 if many else -1])
    return Plan(
        chunk=chunk,
        output=replace(cut, tile=output, slices=-(-shape.V // output.width)),
        map=replace(cut, tile=mapped, slices=-(-shape.V // mapped.width) - (-shape.K // mapped.width)),
        state=replace(cut, tile=state, slices=-(-shape.V // state.width)),
        dq=replace(chunks, tile=_tuned(shape, chunk, "dq", regime, _tiles(shape, "dq")[0])),
        dk=replace(chunks, tile=_tuned(shape, chunk, "dk", regime, _tiles(shape, "dk")[0])),
        columns=columns,
        prepare=replace(_cut(shape, together * chunk), tile=prepare, slices=1),
    )


def held_columns(heads: int, shared: int) -> int:
    """Columns of dq or dk that the gradients' kernels hold. Wider heads are cut, so no program sees a row's norm.

    heads: state heads; shared: heads of q and k
    """
    return newest(HELD, suite.target().tile_class)[heads > shared]


def key(shape: Shape, chunk: int, kind: str, regime: str) -> str:
    """The key of a kernel's config in tuning tables."""
    group = shape.heads // shape.shared
    variant = shape.variant + f"-g{group}" * (group > 1)
    return f"delta/{kind}/K{shape.K}/V{shape.V}/{shape.dtype}/C{chunk}/{variant}/{regime}"


def search(shape: Shape, kinds: list[str]) -> dict[str, list[Config]]:
    """Configs of these kernels that are worth measuring, the plan's own first."""
    chosen = plan(shape)
    regime = SEGMENTS if chosen.output.segmented else ON_CHIP
    found: dict[str, list[Config]] = {}
    for kind in kinds:
        own: Tile = getattr(chosen, kind).tile
        if kind == "prepare":
            tried = [own, *(Tile(own.width, 4, stages, most) for most in (0, 168) for stages in (1, 2, 3))]
        else:
            deep = [Tile(64, 4, stages) for stages in (1, 2, 3, 4)] + [Tile(128, 8, stages) for stages in (1, 2, 3)]
            tried = [own, *deep, Tile(32, 4, 2), Tile(32, 8, 1), Tile(64, 8, 2)]
            tried = [tile for tile in tried if tile.width <= max(own.width, power_of_2(shape.V))]
        configs = [
            {name: value for name, value in asdict(tile).items() if name != "registers" or value} for tile in tried
        ]
        found[key(shape, chosen.chunk, kind, regime)] = distinct(configs, carries=kind in CARRYING)
    return found


def _tuned(shape: Shape, chunk: int, kind: str, regime: str, tile: Tile) -> Tile:
    found = choice(key(shape, chunk, kind, regime)) or {}
    tile = replace(tile, **{name: found[name] for name in ("width", "warps", "stages", "registers") if name in found})
    return replace(tile, stages=stages_of(tile.stages, carries=kind in CARRYING))


def executed(shape: Shape, chosen: Plan, pass_: str) -> float:
    """FLOPs that a pass executes: full chunk x chunk products, inverses and segments' maps."""
    K, V, C = shape.K, shape.V, chosen.chunk
    flops = 0.0
    if pass_ in ("fwd", "fwdbwd"):
        flops += 6 * K * V + 4 * C * V + 4 * C * K + _inverse_flops(C)
        if chosen.output.segmented:
            flops += 4 * K * (K + V) + 2 * C * (K + V)
            flops += 2 * K * K * V / chosen.output.segment_size
    if pass_ in ("bwd", "fwdbwd"):
        sweep = 6 * K * V + 4 * C * V
        flops += sweep * (1 + chosen.output.segmented)
        flops += 6 * K * V + 4 * C * V * chosen.dq.slices + 10 * C * K
        # The product whose diagonal is <S, dS>, in tiles of V.
        flops += 2 * K * V * chosen.dk.tile.width / C if "gated" in shape.variant else 0
    return shape.steps * shape.heads * flops


def _inverse_flops(C: int) -> float:
    """A row of a chunk: three merges in blocks of 16, then full tiles from 16 to C; a merge is two products."""
    merges = (C // 16).bit_length() - 1
    return 2 * 2 * (3 * 16 * 16 + merges * C * C)


def _choose(shape: Shape, chunk: int) -> tuple[Tile, int]:
    """The tile of the output sweep, and steps per segment, 0 where it stays on chip.

    The widest slice that gives three SMs of four a program stays on chip, since each slice makes the inverse again;
    where none does, sequences are cut into as many segments as fill the GPU at once, and swept in the widest.
    """
    if tile := _widest(shape, "output", 1, 1):
        return tile, 0
    choices = _tiles(shape, "output")
    programs = _rows(shape) * -(-shape.V // choices[0].width)
    count = max(1, FILL * suite.target().sms // programs)
    segment = max(MIN_CHUNKS, -(-shape.longest // (chunk * count))) * chunk
    return (choices[-1], 0) if segment >= shape.longest else (choices[0], segment)


def _alone(shape: Shape, cut: Sweep, tile: Tile) -> Tile:
    """A sweep's tile with more stages where each SM has one program at most, so that none hides another's loads."""
    programs = _rows(shape) * cut.segments * -(-shape.V // tile.width)
    more = newest(ALONE, suite.target().tile_class) if programs <= suite.target().sms else 0
    return replace(tile, stages=tile.stages + more) if shape.work == HALF and tile.stages > 1 else tile


def _together(shape: Shape, chunk: int) -> int:
    """Chunks that a program prepares, one after another: as many as leave the GPU FILL programs per SM, or MOST."""
    return min(MOST, -(-_chunks(shape, chunk) // (FILL * suite.target().sms)))


def _chunks(shape: Shape, chunk: int) -> int:
    return _rows(shape) * -(-shape.longest // chunk)


def _widest(shape: Shape, kind: str, segments: int, fill: int) -> Tile | None:
    """The widest tile whose slices give three SMs of four `fill` programs, or None."""
    for tile in _tiles(shape, kind):
        if _rows(shape) * segments * -(-shape.V // tile.width) * 4 >= suite.target().sms * 3 * fill:
            return tile
    return None


def _rows(shape: Shape) -> int:
    """State heads of the sequences of equal length that would keep the GPU busy as long: of few, where one is long."""
    return max(1, shape.steps // shape.longest) * shape.heads


def _cut(shape: Shape, segment: int) -> Sweep:
    segments = -(-shape.longest // segment)
    # Packed, the slots follow from the sequences' offsets: see `locate` in device.py.
    slots = shape.steps // segment + shape.sequences if shape.packed else shape.sequences * segments
    return Sweep(Tile(0, 0, 0), slices=1, segment_size=segment, segments=segments, slots=slots)


def _tiles(shape: Shape, kind: str) -> list[Tile]:
    height = power_of_2(max(shape.K, shape.V))
    rows = tiles(suite.target().tile_class, kind, height, shape.work)
    widest = power_of_2(max(shape.K, shape.V) if kind == "map" else shape.V)
    return [replace(tile, width=min(tile.width, widest)) for tile in rows]


def variant_of(*, gated: bool, l2norm: bool, steps: int) -> str:
    """What changes a kernel besides sizes, as text: "gated", "plain-norm", "gated-n3"."""
    return ("gated" if gated else "plain") + "-norm" * l2norm + f"-n{steps}" * (steps > 1)


def of_problem(problem: Problem, chunk: int, *, gated: bool, steps: int) -> Shape:
    """The shape that a problem's sequence passes are planned for; steps: delta steps per token."""
    p, bounds = problem, problem.cu_seqlens
    longest = p.T if bounds is None else max(b - a for a, b in pairwise(bounds))
    l2norm = bool(p.axis("l2norm")) and held_columns(p.HS, p.H) >= p.K
    variant = variant_of(gated=gated, l2norm=l2norm, steps=steps)
    lengths = {"sequences": p.N, "longest": longest * steps, "steps": p.B * p.T * steps, "chunk": chunk}
    dims = {"heads": p.HS, "shared": p.H, "K": p.K, "V": p.V}
    return Shape(**lengths, **dims, dtype=p.dtype, packed=bounds is not None, variant=variant)
