"""Combines the partial results of a pair, each (o, l, m) as `attend` left it, in the order of the cache.

    m = max_i m_i        o = sum_i 2^(m_i - m) o_i / sum_i 2^(m_i - m) l_i

The operation is associative and commutative; the order is fixed all the same, so that two runs agree bit for bit.
"""

# Triton types a device function as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.attention_decode.device import length_of, row_index
from kernels.attention.attention_decode.split import span_of
from kernels.attention.attention_decode.stream import all_tiles, owner_of, tile_counts


@triton.jit
def owners_of(lengths, n, pair, length, B, T, programs, BN: tl.constexpr, PAIRS: tl.constexpr, BB: tl.constexpr):
    """(first program of a stream that has tiles of a pair, how many programs have some)."""
    tiles = all_tiles(lengths, B, T, BN=BN, PAIRS=PAIRS, BB=BB)
    own = tl.cdiv(length, BN)
    if lengths is None:
        begin = n * own * PAIRS
    else:
        counts = tile_counts(lengths, B, BN, PAIRS, BB)
        begin = tl.sum(tl.where(tl.arange(0, BB) < n, counts, 0), 0)
    begin += pair * own
    first = owner_of(begin, tiles, programs)
    last = owner_of(begin + own - 1, tiles, programs)
    return first, tl.where(own > 0, last - first + 1, 0)


@triton.jit(do_not_specialize=["B", "T", "programs"])
def attention_decode_combine_kernel(
    o_partial,
    l_partial,
    m_partial,
    lengths,
    o,
    B,
    T,
    programs,
    Q: tl.constexpr,
    H: tl.constexpr,
    HK: tl.constexpr,
    V: tl.constexpr,
    WIDTH: tl.constexpr,
    BN: tl.constexpr,
    R: tl.constexpr,
    BLOCKS: tl.constexpr,
    BB: tl.constexpr,
    SPLITS: tl.constexpr,
    MANY: tl.constexpr,
):
    """o of one query row from the partial results of its pair, MANY at a time; SPLITS is 0 if a stream left them.

    Grid:    sequences x HK x query rows of a kv head x slices of V, one axis, slices fastest.
    On chip: o [WIDTH], m and l of one row, fp32.
    Reads and writes: lengths; (o, l, m) of the row once per partial result; o once. A stream's pair that lies whole in
             one share has no partial results: its o is there already. That of a sequence without tokens is 0.
    """
    pid = tl.program_id(0)
    SLICES: tl.constexpr = (V + WIDTH - 1) // WIDTH
    GROUP: tl.constexpr = H // HK
    ROWS: tl.constexpr = Q * GROUP
    row = pid // SLICES % ROWS
    h = pid // (SLICES * ROWS) % HK
    n = pid // (SLICES * ROWS * HK)
    pair = h * BLOCKS + row // R
    length = length_of(lengths, n, T)
    if SPLITS > 0:
        first = (n * HK * BLOCKS + pair) * SPLITS
        _, size = span_of(length, 0, BN, SPLITS)
        count = tl.cdiv(tl.cdiv(length, BN), tl.maximum(size, 1))
    else:
        owner, count = owners_of(lengths, n, pair, length, B, T=T, programs=programs, BN=BN, PAIRS=HK * BLOCKS, BB=BB)
        first = owner + n * HK * BLOCKS + pair
        if count == 1:
            return
    o_v = pid % SLICES * WIDTH + tl.arange(0, WIDTH)
    b_o = tl.zeros([WIDTH], tl.float32)
    total = tl.sum(tl.zeros([WIDTH], tl.float32), 0)
    largest = total - float("inf")
    for chosen in range(0, count, MANY):
        i = chosen + tl.arange(0, MANY)
        within = (first + i).to(tl.int64) * R + row % R
        there = i < count
        b_m = tl.load(m_partial + within, mask=there, other=float("-inf"))
        b_l = tl.load(l_partial + within, mask=there, other=0.0)
        b_partial = tl.load(
            o_partial + within[:, None] * V + o_v[None, :], mask=there[:, None] & (o_v < V)[None, :], other=0.0
        )
        larger = tl.maximum(largest, tl.max(b_m, 0))
        # A row may see nothing at all: -inf - -inf is no number.
        shift = tl.where(larger == float("-inf"), 0.0, larger)
        weight = tl.exp2(b_m - shift)
        kept = tl.exp2(largest - shift)
        b_o = b_o * kept + tl.sum(weight[:, None] * b_partial, 0)
        total = total * kept + tl.sum(weight * b_l, 0)
        largest = larger
    pointers = o + row_index(row, n, h, Q=Q, H=H, GROUP=GROUP) * V + o_v
    tl.store(pointers, (b_o / tl.where(total > 0.0, total, 1.0)).to(o.dtype.element_ty), mask=o_v < V)
