"""What the kernels of this folder call on the device: gates, derived keys, and the exact form of a small tile."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from kernels.common.device import LOG2E, MIN_LOG_DECAY, load_rows

# A tile whose channels all keep more than 2^-170 is multiplied with its midpoint as the reference: q and k are scaled
# by at most 2^85, which bf16, tf32 and fp32 hold with all their digits. Any other tile is taken one token at a time.
NARROWEST = tl.constexpr(-170.0)


class Inputs(NamedTuple):
    """What the sweeps of dk and dv read; k, u and dS_end may be None."""

    q: Any
    k: Any
    v: Any
    g: Any
    u: Any
    do: Any
    dS_end: Any


class Checkpoints(NamedTuple):
    """States after every INTERVAL tokens, and what finds them: see `block_of`."""

    states: Any
    cu_seqlens: Any
    T: Any
    segment_size: Any


class Gradients(NamedTuple):
    """What the sweeps of dk and dv write; dk, du and dS_start may be None."""

    dq: Any
    dk: Any
    dv: Any
    dg: Any
    du: Any
    dS_start: Any


class Settings(NamedTuple):
    """How a sweep runs: tokens of a tile and between checkpoints, stages of its loop, and how products round."""

    BT: tl.constexpr
    SEGMENTED: tl.constexpr
    INTERVAL: tl.constexpr
    STAGES: tl.constexpr
    WIDE: tl.constexpr
    PRECISION: tl.constexpr


@triton.jit
def load_gates(g, stride: tl.constexpr, keep, start, BT: tl.constexpr, K: tl.constexpr, BK: tl.constexpr):
    """Log decays [BT, BK], in g's dtype; 0 where nothing is stored."""
    x = load_rows(g, stride=stride, keep=keep, start=start, BT=BT, D=K, BD=BK)
    # Not maximum: it would turn a NaN into a number.
    return tl.where(x < MIN_LOG_DECAY, MIN_LOG_DECAY, x).to(x.dtype)


@triton.jit
def derived_key(g):
    """1 - e^g in fp32, with the leading terms of its series where the difference would cancel."""
    x = g.to(tl.float32)
    series = -x * (1.0 + x * (0.5 + x * (0.16666667 + x * (0.041666668 + x * 0.008333334))))
    return tl.where(x > -0.25, series, 1.0 - tl.exp(x))


@triton.jit
def load_keys(k, g, stride: tl.constexpr, keep, start, BT: tl.constexpr, K: tl.constexpr, BK: tl.constexpr):
    """Keys [BT, BK] in fp32: stored ones, or 1 - e^g where k is None."""
    return (
        derived_key(g)
        if k is None
        else load_rows(k, stride=stride, keep=keep, start=start, BT=BT, D=K, BD=BK).to(tl.float32)
    )


@triton.jit
def operand(x, WIDE: tl.constexpr):
    """x as a product takes it: fp32 (three TF32 products, or one for fp16 inputs) if WIDE, else bf16."""
    return x.to(tl.float32) if WIDE else x.to(tl.bfloat16)


@triton.jit
def times(x, y, WIDE: tl.constexpr, PRECISION: tl.constexpr):
    """x y in fp32."""
    return tl.dot(operand(x, WIDE), operand(y, WIDE), input_precision=PRECISION)


@triton.jit
def times_add(x, y, total, WIDE: tl.constexpr, PRECISION: tl.constexpr):
    """x y + total in fp32."""
    return tl.dot(operand(x, WIDE), operand(y, WIDE), total, input_precision=PRECISION)


@triton.jit
def total_of(g):
    """log2 of the decay [D] of all tokens of a tile [BT, D]."""
    return tl.sum(g.to(tl.float32), 0) * LOG2E


@triton.jit
def load_token(base, columns, D: tl.constexpr):
    """One token's vector, fp32."""
    return tl.load(base + columns, mask=columns < D, other=0.0).to(tl.float32)


@triton.jit
def store_token(base, x, columns, D: tl.constexpr):
    """The inverse of load_token, in the pointer's dtype."""
    tl.store(base + columns, x.to(base.dtype.element_ty), mask=columns < D)


@triton.jit
def load_key(k, g, columns, K: tl.constexpr):
    """One token's key, fp32, given its gates: the stored one, or 1 - e^g where k is None."""
    return derived_key(g) if k is None else load_token(k, columns, K)


@triton.jit
def sums_of(g, EXCLUSIVE: tl.constexpr, BT: tl.constexpr):
    """Sums of log decays [BT, D] in powers of 2, fp32: up to each token, without its own if EXCLUSIVE, and after it.

    Sums of bf16 and fp16 are products with a triangle of ones: as exact, and no thread has to wait for another.
    """
    if g.dtype == tl.float32:
        g *= LOG2E
        R, later = tl.cumsum(g, 0), tl.cumsum(g, 0, reverse=True) - g
        R = R - g if EXCLUSIVE else R
    else:
        rows = tl.arange(0, BT)
        read = rows[:, None] > rows[None, :] if EXCLUSIVE else rows[:, None] >= rows[None, :]
        R = tl.dot(read.to(g.dtype), g) * LOG2E
        later = tl.dot((rows[:, None] < rows[None, :]).to(g.dtype), g) * LOG2E
    return R, later


@triton.jit
def around_middle(g, total, EXCLUSIVE: tl.constexpr):
    """What q and k [BT, D] are scaled by when the step's midpoint is their reference: 2^(R - E/2), 2^(E/2 - G)."""
    g = g.to(tl.float32) * LOG2E
    G = tl.cumsum(g, 0) - total[None, :] * 0.5
    return tl.exp2(G - g if EXCLUSIVE else G), tl.exp2(-G)


@triton.jit
def with_own(scores, q, k, u, bonus, BT: tl.constexpr, TRANSPOSED: tl.constexpr):
    """Scores [BT, BT], queries by keys or TRANSPOSED, of earlier keys, and each token's own: q . k, or q . (u k)."""
    rows = tl.arange(0, BT)
    own = tl.sum(q * k if u is None else q * k * bonus[None, :], 1)
    earlier = rows[:, None] < rows[None, :] if TRANSPOSED else rows[:, None] > rows[None, :]
    scores = tl.where(earlier, scores, 0.0)
    return tl.where(rows[:, None] == rows[None, :], own[:, None], scores)


@triton.jit
def swept(
    X,
    reads,
    writes,
    q,
    k,
    u,
    bonus,
    y,
    total,
    BT: tl.constexpr,
    TRANSPOSED: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """(what a tile reads out [BT, BV], the state after it) of the state X [BK, BV] before it, in the sweep's direction.

    reads, writes: q and k, or k and q, around the midpoint [BT, BK]; y: what is written [BT, BV]
    q, k:          as they are, for a token's own score; TRANSPOSED: keys by queries, from last to first
    """
    scores = times(reads, tl.trans(writes), WIDE, PRECISION)
    scores = with_own(scores, q, k, u, bonus, BT=BT, TRANSPOSED=TRANSPOSED)
    factor = tl.exp2(total * 0.5)[:, None]
    X *= factor
    out = times(reads, X, WIDE, PRECISION)
    out = times_add(scores, y, out, WIDE, PRECISION)
    return out, times_add(tl.trans(writes), y, X, WIDE, PRECISION) * factor


@triton.jit
def block_of(begin, segment, n, segment_size, interval, T, cu_seqlens):
    """Slot of the checkpoint after the first block of `interval` tokens of segment `segment`.

    Segments are a multiple of an interval long; slots follow from offsets, as those of segments do in `locate`.
    """
    within = segment * (segment_size // interval)
    if cu_seqlens is None:
        return n * tl.cdiv(T, interval) + within
    bos = begin - segment.to(tl.int64) * segment_size
    return bos // interval + n + within


@triton.jit
def load_square(base, slot, BT: tl.constexpr):
    """The scores [BT, BT] of a chunk and head."""
    rows = tl.arange(0, BT)
    return tl.load(base + slot * BT * BT + rows[:, None] * BT + rows[None, :])


@triton.jit
def load_decays(decays, slot, K: tl.constexpr, BK: tl.constexpr):
    """A chunk's whole decay e^E of every channel, fp32 [1, BK]."""
    o_k = tl.arange(0, BK)[None, :]
    return tl.load(decays + slot * K + o_k, mask=o_k < K, other=0.0)
