"""Triton functions that several families call: where a program works, loads and stores of tokens and states."""

# Triton types a device function as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

LOG2E = tl.constexpr(1.4426950408889634)
# The lowest log decay of a token, as a natural logarithm and in powers of 2; a lower one, -inf too, counts as this one.
# It is finite, so that no difference of two sums is inf - inf. It is low enough: what decays to 2^-96 is lost in fp32
# beside anything else. It is no lower than that, because sums of many such gates must keep the digits of the others.
# bf16 and fp16 hold the first exactly.
MIN_LOG_DECAY = tl.constexpr(-66.5)
MIN_LOG2_DECAY = tl.constexpr(-66.5 * 1.4426950408889634)


class Sizes(NamedTuple):
    """Heads of q, of k, of v and of the state, and head dims: what a kernel passes on to its device functions."""

    H: tl.constexpr
    HK: tl.constexpr
    HV: tl.constexpr
    HS: tl.constexpr
    K: tl.constexpr
    V: tl.constexpr


class Place(NamedTuple):
    """Where a program works, as `locate` finds it: sequence n, head h, tokens begin .. end of a segment.

    segment, state_slot: number of the segment in its sequence, and of its state among all
    """

    n: Any
    h: Any
    segment: Any
    state_slot: Any
    begin: Any
    end: Any


@triton.jit
def locate(T, segment_size, segments, cu_seqlens, SLICES: tl.constexpr, HS: tl.constexpr):
    """A program's (slice, head, sequence, segment, slot of the segment's state, its first token, its end, eos).

    bos, eos: first token and end of the sequence; segment_size: tokens of a segment. Slices are neighbours in the grid,
    so that the tiles they share come from L2. Packed sequences differ in length, and their slots follow from their
    offsets: segments of all sequences fit in ceil(T / segment_size) + N slots without a table.
    """
    pid = tl.program_id(0)
    slice_index = pid % SLICES
    head = pid // SLICES % HS
    segment = pid // (SLICES * HS) % segments
    sequence = (pid // (SLICES * HS) // segments).to(tl.int64)
    if cu_seqlens is None:
        bos = sequence * T
        eos = bos + T
        state_slot = sequence * segments + segment
    else:
        bos = tl.load(cu_seqlens + sequence).to(tl.int64)
        eos = tl.load(cu_seqlens + sequence + 1).to(tl.int64)
        state_slot = bos // segment_size + sequence + segment
    begin = bos + segment.to(tl.int64) * segment_size
    return slice_index, head, sequence, segment, state_slot, begin, tl.minimum(begin + segment_size, eos), eos


@triton.jit
def slots_of(n, segment_size, segments, cu_seqlens, STEPS: tl.constexpr = 1):
    """(slot of the first segment's state, number of segments) of sequence n, 64 bits wide; see `locate`.

    STEPS: rows of q, k, v per token of cu_seqlens
    """
    if cu_seqlens is None:
        state_slot = n * segments
        count = segments
    else:
        bos = tl.load(cu_seqlens + n).to(tl.int64) * STEPS
        state_slot = bos // segment_size + n
        count = tl.cdiv(tl.load(cu_seqlens + n + 1).to(tl.int64) * STEPS - bos, segment_size).to(tl.int32)
    return state_slot, count


@triton.jit
def segments_of(end, eos, segment, segment_size):
    """The number of segments of the sequence to which a program's segment belongs."""
    return segment + 1 + tl.cdiv(eos - end, segment_size).to(tl.int32)


@triton.jit
def load_rows(base, stride: tl.constexpr, keep, start, BT: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    """Load columns start .. start + BD of BT rows: [BT, BD]. Rows outside `keep` and columns beyond D are zero."""
    columns = start + tl.arange(0, BD)
    mask = keep[:, None]
    if D % BD:
        mask = mask & (columns < D)[None, :]
    return tl.load(base + tl.arange(0, BT)[:, None] * stride + columns[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(base, x, stride: tl.constexpr, keep, start, BT: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    """Store what load_rows loads, in the pointer's dtype."""
    columns = start + tl.arange(0, BD)
    mask = keep[:, None]
    if D % BD:
        mask = mask & (columns < D)[None, :]
    x = x.to(base.dtype.element_ty)
    tl.store(base + tl.arange(0, BT)[:, None] * stride + columns[None, :], x, mask=mask)


@triton.jit
def load_state(base, index, k, v, K: tl.constexpr, V: tl.constexpr, SIZE: tl.constexpr):
    """Load elements (k, v), broadcast, of state number `index` in fp32. States are SIZE elements apart."""
    return tl.load(base + index * SIZE + k * V + v, mask=(k < K) & (v < V), other=0.0).to(tl.float32)


@triton.jit
def store_state(base, index, x, k, v, K: tl.constexpr, V: tl.constexpr, SIZE: tl.constexpr):
    """Store what load_state loads, in the pointer's dtype."""
    tl.store(base + index * SIZE + k * V + v, x.to(base.dtype.element_ty), mask=(k < K) & (v < V))


@triton.jit
def load_normaliser(base, index, k, K: tl.constexpr, SIZE: tl.constexpr):
    """Load elements k of normaliser number `index` in fp32. Normalisers are SIZE elements apart."""
    return tl.load(base + index * SIZE + k, mask=k < K, other=0.0).to(tl.float32)


@triton.jit
def store_normaliser(base, index, z, k, K: tl.constexpr, SIZE: tl.constexpr):
    """Store what load_normaliser loads, in the pointer's dtype."""
    tl.store(base + index * SIZE + k, z.to(base.dtype.element_ty), mask=k < K)


@triton.jit
def times_state(x, X, PRECISION: tl.constexpr, PRECISE: tl.constexpr = False):
    """x X in fp32, for rows x [BT, D] and a state X [D, W] that is rounded to x's dtype.

    PRECISE: the remainder of the rounding is also rounded and multiplied, so X has twice as many bits.
    """
    unit = 1.0
    if x.dtype == tl.float16:
        # fp16 ends at 65504 and loses digits below 6e-5: a state, or its gradient, can pass both on a long sequence.
        unit = tl.max(tl.max(tl.abs(X), 1), 0)
        unit = tl.where(unit > 0.0, unit, 1.0)
        X = X / unit
    rounded = X.to(x.dtype)
    y = tl.dot(x, rounded, input_precision=PRECISION)
    if PRECISE and x.dtype != tl.float32:
        y = tl.dot(x, (X - rounded.to(tl.float32)).to(x.dtype), y, input_precision=PRECISION)
    return y * unit


@triton.jit
def only_if(mask, condition):
    """`mask` if a scalar condition holds, else all False.

    Not `mask & condition`: Triton 3.9's interpreter widens a scalar truth to an integer when it fills a block with it,
    and takes no such block as a mask. Compiled, both are the same.
    """
    return mask & ((tl.zeros(mask.shape, tl.int32) + condition.to(tl.int32)) > 0)


@triton.jit
def at_least(x, lowest):
    """max(x, lowest); NaN where x is NaN."""
    return tl.maximum(x, lowest, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def between(later, earlier, valid):
    """2^(G_i - E_j) for tokens i (`later`) and j (`earlier`) where valid, else 1. No decay is above 1."""
    return tl.exp2(tl.where(valid, later - earlier, 0.0))


@triton.jit
def summed(x):
    """The sum of rows [BT] as [1]: a scalar reduced from a product's rows makes Triton 3.6 abort for sm_100."""
    return tl.sum(x[:, None], 0)


@triton.jit
def rounding(x, factor, y):
    """sum over D of (round(x factor) - x factor) y, [BT]: the error of rows that are rounded to x's dtype."""
    exact = x.to(tl.float32) * factor
    return tl.sum((exact.to(x.dtype).to(tl.float32) - exact) * y, 1)


@triton.jit
def silu(x):
    """(x sigmoid(x), its derivative) in fp32."""
    x = x.to(tl.float32)
    s = 1.0 / (1.0 + tl.exp(-tl.abs(x)))
    s = tl.where(x < 0.0, 1.0 - s, s)
    return x * s, s * (1.0 + x * (1.0 - s))
