"""Which regime a sweep runs in, and in which tiles: host code that depends on shapes and `suite.target()` alone.

On chip, a program takes a whole sequence. Where sequences x heads x slices leave SMs idle, sequences are cut into
segments of equal length, at most as many as a program can join by itself. kernels/scalar_decay defines a sweep and
counts the FLOPs that it executes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import suite
from kernels.common.shapes import power_of_2
from kernels.common.tiles import stages_of
from kernels.mlstm.tiles import EXP, SIGMOID, SINGLE, WIDE, tiles
from kernels.scalar_decay.configs import candidates
from kernels.scalar_decay.plan import (
    FILL,
    MIN_CHUNKS,
    MOST_JOINED,
    ON_CHIP,
    SEGMENTS,
    Plan,
    Sweep,
    carries,
    describe,
    executed,
    sweep_of,
    sweeps,
)
from kernels.scalar_decay.shape import Shape, of_problem
from kernels.scalar_decay.tiles import Tile
from suite import Problem
from suite.problem import Value
from suite.tuning import Config, choice

# Head dims that the tiles are made for.
MAX_K, MAX_V = 256, 512


def shape_of(problem: Problem, tunables: Mapping[str, Value]) -> Shape:
    """The shape by which a problem is planned; it is `normalised` if the gate is exponential."""
    return of_problem(problem, int(tunables["chunk"]), normalised=problem.axis("gate") == EXP, decay="token")


def plan(shape: Shape) -> Plan:
    """Regime, tiles and segments of all sweeps, for `suite.target()`."""
    output = _cut(shape, "output")
    dq = _cut(shape, "dq", output.segment_size if output.segmented else None)
    return Plan(output, dq, _cut(shape, "dk_dv"))


def plan_state(shape: Shape, sweep: Sweep) -> Sweep:
    """The sweep that sums the contributions of another sweep's segments."""
    return _cut(shape, "state", sweep.segment_size)


def _cut(shape: Shape, kind: str, segment: int | None = None) -> Sweep:
    """A sweep with segments of the given length, or of the length that fills the GPU."""
    tile, slices, own = _plan(shape, kind)
    return sweep_of(shape, tile, slices, segment or own)


def _plan(shape: Shape, kind: str) -> tuple[Tile, int, int]:
    """Tile, slices and tokens a segment of one sweep by itself: the widest slice that fills the GPU, or segments."""
    sms, capability = suite.target().sms, suite.target().tile_class
    held = {"dq": shape.V, "dk_dv": max(shape.K, shape.V)}.get(kind, shape.K)
    choices = tiles(capability, kind, power_of_2(held), _work(shape))
    whole = -(-shape.longest // shape.chunk)
    # Sequences of equal length that would keep the GPU busy as long: a long one among short ones counts as few.
    rows = max(1, shape.tokens // shape.longest) * shape.heads
    filling = [tile for tile in choices if rows * _slices(shape, kind, tile) >= sms]
    regime, tile = (ON_CHIP, filling[0]) if filling else (SEGMENTS, choices[-1])
    config = choice(key(shape, kind, regime))
    tile = tile if config is None else replace(tile, **config)
    tile = replace(tile, stages=stages_of(tile.stages, carries=carries(shape, kind)))
    slices = _slices(shape, kind, tile)
    if filling:
        return tile, slices, whole * shape.chunk
    segments = min(MOST_JOINED, max(1, FILL * sms // (rows * slices)))
    return tile, slices, min(whole, max(MIN_CHUNKS, -(-whole // segments))) * shape.chunk


def _slices(shape: Shape, kind: str, tile: Tile) -> int:
    """Programs a head of a sweep."""
    sliced = {"dq": (shape.K,), "dk_dv": (shape.K, shape.V)}.get(kind, (shape.V,))
    return sum(-(-size // min(tile.width, power_of_2(size))) for size in sliced)


def _work(shape: Shape) -> str:
    if shape.dtype == "float32":
        return SINGLE
    if shape.chunk >= 128:
        return WIDE
    return EXP if shape.normalised else SIGMOID


def key(shape: Shape, sweep: str, regime: str) -> str:
    """The key of a config in tuning tables: the sweep, and everything that changes which config is fastest."""
    s, gate = shape, EXP if shape.normalised else SIGMOID
    return f"mlstm/{sweep}/{gate}/K{s.K}/V{s.V}/{s.dtype}/C{s.chunk}/{regime}"


def searched(shape: Shape, pass_: str) -> dict[str, list[Config]]:
    """The configs that tuning may try for each kernel of a pass, by the key under which `plan` asks."""
    found = {}
    for kind, sweep in sweeps(plan(shape), pass_).items():
        regime, reads = SEGMENTS if sweep.segmented else ON_CHIP, carries(shape, kind)
        found[key(shape, kind, regime)] = candidates(shape, sweep.tile, carries=reads)
        if sweep.segmented:
            own = plan_state(shape, sweep)
            found[key(shape, "state", SEGMENTS)] = candidates(shape, own.tile, carries=False)
    return found


def registered() -> dict[str, Any]:
    """What `Operator.implementation` takes as functions of a problem: limits, configuration, FLOPs, configs."""
    return {
        "supports": supports,
        "configuration": lambda problem, tunables: describe(plan(shape_of(problem, tunables)), problem.pass_),
        "flops_exec": lambda problem, tunables: _executed(shape_of(problem, tunables), problem.pass_),
        "search": lambda problem, tunables: searched(shape_of(problem, tunables), problem.pass_),
    }


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """The reason why our kernels cannot serve a problem, or None."""
    if problem.K > MAX_K or problem.V > MAX_V:
        return f"the kernels take K up to {MAX_K} and V up to {MAX_V}"
    return None


def _executed(shape: Shape, pass_: str) -> float:
    return executed(shape, plan(shape), pass_)
