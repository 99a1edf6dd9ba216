"""What the kernels of this folder call on the device: where a program works, which tiles it sees, loads and stores.

Positions count within one sequence; the token of position i is bos + i * DILATION. CAUSAL: a query sees no key ahead
of itself. WINDOWED: it sees none that is `window` positions or more away.
"""

# Triton types a device function, tl.range too, as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

# Of the runs 0 to 2 of a block's loop, the one that needs no mask: see `spans`.
FULL = tl.constexpr(1)


@triton.jit
def locate(T, blocks, rows, section, cu_seqlens, HEADS: tl.constexpr, DILATION: tl.constexpr, LAST_FIRST: tl.constexpr):
    """A program's (head, sequence, its first token, its length in positions, block).

    Rows (sequence, residue, head) come in sections whose keys and values fit in the L2 cache together. Within one, the
    blocks with most work come first: the last ones where LAST_FIRST, so that no long one is left for the end.
    """
    pid = tl.program_id(0)
    chosen = pid // (section * blocks) * section
    within = pid % (section * blocks)
    size = tl.minimum(section, rows - chosen)
    row = chosen + within % size
    block = within // size
    if LAST_FIRST:
        block = blocks - 1 - block
    head = row % HEADS
    residue = row // HEADS % DILATION
    sequence = (row // (HEADS * DILATION)).to(tl.int64)
    if cu_seqlens is None:
        bos = sequence * T
        tokens = T
    else:
        bos = tl.load(cu_seqlens + sequence).to(tl.int64)
        tokens = (tl.load(cu_seqlens + sequence + 1).to(tl.int64) - bos).to(tl.int32)
    return head, sequence, bos + residue, tl.cdiv(tokens - residue, DILATION), block


@triton.jit
def scalar_row(x, sequence, bos, head, T, ROW, HEADS: tl.constexpr, cu_seqlens):
    """Where a sequence's scalars of one head begin in x [B, HEADS, T], its rows ROW apart; packed ones lie in B = 1."""
    skipped = head.to(tl.int64) * ROW
    if cu_seqlens is None:
        skipped += sequence * (ROW.to(tl.int64) * HEADS - T)
    return x + skipped + bos


@triton.jit
def load_scalars(x, row, start, length, SIZE: tl.constexpr, DILATION: tl.constexpr, LOADS: tl.constexpr):
    """Scalars of positions start .. start + SIZE [SIZE], zero beyond `length`; x: the row, or a descriptor of all."""
    if LOADS == "descriptors":
        found = x.load([row.to(tl.int32), start]).reshape([SIZE])
    else:
        positions = start + tl.arange(0, SIZE)
        found = tl.load(x + positions * DILATION, mask=positions < length, other=0.0)
    return found


@triton.jit
def spans(start, SIZE: tl.constexpr, STEP: tl.constexpr, length, back, fore, LEFT: tl.constexpr, RIGHT: tl.constexpr):
    """The positions that SIZE rows from `start` meet: `back` behind each (if LEFT) to `fore` ahead (if RIGHT).

    (span_begin, full_begin, full_end, span_end), in steps of STEP: all rows meet [full_begin, full_end), some
    rows meet [span_begin, full_begin) and [full_end, span_end).
    """
    span_begin = start * 0
    full_begin = start * 0
    span_end = length
    full_end = length // STEP * STEP
    if LEFT:
        span_begin = tl.maximum(start - back, 0) // STEP * STEP
        full_begin = tl.cdiv(tl.maximum(start + SIZE - 1 - back, 0), STEP) * STEP
    if RIGHT:
        span_end = tl.minimum(span_end, start + SIZE + fore)
        full_end = tl.minimum(full_end, (start + fore + 1) // STEP * STEP)
    full_begin = tl.minimum(full_begin, tl.cdiv(span_end, STEP) * STEP)
    return span_begin, full_begin, tl.maximum(full_end, full_begin), span_end


@triton.jit
def run_bounds(RUN: tl.constexpr, span_begin, full_begin, full_end, span_end):
    """Where one of the three runs of steps that `spans` gives begins and ends; run FULL is the one met by all rows."""
    begin = span_begin if RUN < FULL else full_begin if RUN == FULL else full_end
    end = tl.minimum(full_begin, span_end) if RUN < FULL else full_end if RUN == FULL else span_end
    return begin, end


@triton.jit
def hidden(b_s, queries, keys, length, window, CAUSAL: tl.constexpr, WINDOWED: tl.constexpr):
    """Scores, -inf where a query does not see a key; queries and keys are positions, broadcast against each other."""
    outside = float("-inf")
    ahead = keys - queries
    # Where causal, a key beyond the end is ahead of every query.
    b_s = tl.where(ahead <= 0 if CAUSAL else keys < length, b_s, outside)
    if WINDOWED:
        b_s = tl.where(ahead > -window, b_s, outside)
    if WINDOWED and not CAUSAL:
        b_s = tl.where(ahead < window, b_s, outside)
    return b_s


@triton.jit
def load_tile(
    x,
    sequence,
    head,
    start,
    length,
    STRIDE: tl.constexpr,
    SIZE: tl.constexpr,
    D: tl.constexpr,
    BD: tl.constexpr,
    RAGGED: tl.constexpr,
    LOADS: tl.constexpr,
):
    """Positions start .. start + SIZE of one head [SIZE, BD]; zero beyond D columns and, where RAGGED, beyond `length`.

    x: the head's first element, or a descriptor of [sequences, heads, T, D]
    """
    if LOADS == "descriptors":
        tile = x.load([sequence.to(tl.int32), head, start, 0]).reshape([SIZE, BD])
    else:
        rows = tl.arange(0, SIZE)
        columns = tl.arange(0, BD)
        pointers = x + tl.cast(start, tl.int64) * STRIDE + rows[:, None] * STRIDE + columns[None, :]
        if RAGGED and D < BD:
            tile = tl.load(pointers, mask=(rows < length - start)[:, None] & (columns < D)[None, :], other=0.0)
        elif RAGGED:
            tile = tl.load(pointers, mask=(rows < length - start)[:, None], other=0.0)
        elif D < BD:
            tile = tl.load(pointers, mask=(columns < D)[None, :], other=0.0)
        else:
            tile = tl.load(pointers)
    return tile


@triton.jit
def store_tile(x, tile, start, length, STRIDE: tl.constexpr, SIZE: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    """Store what load_tile loads, in the pointer's dtype."""
    rows = tl.arange(0, SIZE)
    columns = tl.arange(0, BD)
    pointers = x + tl.cast(start, tl.int64) * STRIDE + rows[:, None] * STRIDE + columns[None, :]
    mask = (rows < length - start)[:, None]
    if D < BD:
        mask = mask & (columns < D)[None, :]
    tl.store(pointers, tile.to(x.dtype.element_ty), mask=mask)


@triton.jit
def weigh(b_s, largest, total, factor, DTYPE: tl.constexpr, UNMET: tl.constexpr):
    """2^(S - m') in DTYPE, m', l' and 2^(m - m') from scores S = factor b_s; UNMET: a row may have met no key yet."""
    larger = tl.maximum(largest, tl.max(b_s, 1) * factor)
    shift = larger
    if UNMET:
        # -inf - -inf is no number.
        shift = tl.where(larger == float("-inf"), 0.0, larger)
    b_p = tl.exp2(b_s * factor - shift[:, None])
    rescale = tl.exp2(largest - shift)
    return b_p.to(DTYPE), larger, total * rescale + tl.sum(b_p, 1), rescale
