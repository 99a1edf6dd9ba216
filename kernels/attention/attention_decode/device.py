"""What both kernels call: load the queries of a pair, reduce a span of its cache to (o, l, m), store the result.

A *pair* is a sequence, a kv head and a block of its query rows: all that shares one stream of keys and values. The Q G
query rows of a kv head (G = H / HK) are numbered query by query, and are the narrow side of both products: keys and
values, the long side, come straight from shared memory as Hopper's left operands.
"""

# Triton types a device function, tl.range too, as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl


class Cache(NamedTuple):
    """The cache of one sequence: its tensors, its tokens, and what rows are found by; see `first_row`."""

    k: Any
    v: Any
    table: Any
    length: Any
    T: Any
    PAGES: Any


class Partials(NamedTuple):
    """Partial results of pairs that several programs share: o [.., R, V] before its division, l and m [.., R]; fp32."""

    o_partial: Any
    l_partial: Any
    m_partial: Any


class Sizes(NamedTuple):
    """Sizes of a call and of its tiles. R: query rows of a block, BM: those of a tile; PAGE: rows of a page or 0."""

    Q: tl.constexpr
    H: tl.constexpr
    HK: tl.constexpr
    K: tl.constexpr
    V: tl.constexpr
    BK: tl.constexpr
    BV: tl.constexpr
    BM: tl.constexpr
    BN: tl.constexpr
    R: tl.constexpr
    PAGE: tl.constexpr


@triton.jit
def length_of(lengths, n, T):
    """Tokens in the cache of sequence n: T where no lengths are given."""
    return T if lengths is None else tl.load(lengths + n)


@triton.jit
def row_index(row, n, h, Q: tl.constexpr, H: tl.constexpr, GROUP: tl.constexpr):
    """Where a kv head's query rows lie in q and o, as an index of [B, Q, H]."""
    return (n.to(tl.int64) * Q + row // GROUP) * H + h * GROUP + row % GROUP


@triton.jit
def load_queries(q, n, h, row, sizes):
    """The rows of a pair as columns [BK, BM], zero beyond K and beyond the last row."""
    Q: tl.constexpr = sizes.Q
    H: tl.constexpr = sizes.H
    GROUP: tl.constexpr = H // sizes.HK
    K: tl.constexpr = sizes.K
    BK: tl.constexpr = sizes.BK
    o_k = tl.arange(0, BK)[:, None]
    pointers = q + row_index(row, n, h, Q=Q, H=H, GROUP=GROUP)[None, :] * K + o_k
    return tl.load(pointers, mask=(o_k < K) & (row < Q * GROUP)[None, :], other=0.0)


@triton.jit
def first_row(table, n, token, length, BN: tl.constexpr, PAGE: tl.constexpr, T, PAGES):
    """Rows of the pool, [BN] or one, that hold BN tokens from `token` on of sequence n, less the offset within a tile.

    A tile that spans pages asks the table for each of its rows; the others ask once, or not at all.
    """
    if PAGE == 0:
        first = n.to(tl.int64) * T + token
    elif PAGE >= BN:
        first = tl.load(table + n.to(tl.int64) * PAGES + token // PAGE).to(tl.int64) * PAGE + token % PAGE
    else:
        tokens = token + tl.arange(0, BN)
        page = tl.load(table + n.to(tl.int64) * PAGES + tokens // PAGE, mask=tokens < length, other=0).to(tl.int64)
        first = page * PAGE + tokens % PAGE - tl.arange(0, BN)
    return first


@triton.jit
def load_rows(
    pool, first, h, known, HEADS: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, BN: tl.constexpr, SPANS: tl.constexpr
):
    """A tile of one head [BN, BD]: zero in rows that are not `known` and beyond D. SPANS: `first` is a row each."""
    o_d = tl.arange(0, BD)[None, :]
    rows = tl.arange(0, BN)[:, None]
    if SPANS:
        pointers = pool + first[:, None] * (HEADS * D) + (rows * (HEADS * D) + h * D + o_d)
    else:
        pointers = pool + first * (HEADS * D) + (rows * (HEADS * D) + h * D + o_d)
    mask = known[:, None]
    if D < BD:
        mask = mask & (o_d < D)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def attend(q, cache, n, h, row, tile_begin, tile_end, factor, sizes, PRECISION: tl.constexpr):
    """(o^T [BV, BM] before its division, l [BM], m [BM]) of query rows and tiles tile_begin .. tile_end of a cache.

    In powers of 2: m is the largest score times factor = s log2 e, l the sum of 2^(score - m); -inf and 0 for a row
    that sees nothing.
    """
    k, v, table, length, T, PAGES = cache
    Q: tl.constexpr = sizes.Q
    HK: tl.constexpr = sizes.HK
    GROUP: tl.constexpr = sizes.H // HK
    K: tl.constexpr = sizes.K
    V: tl.constexpr = sizes.V
    BK: tl.constexpr = sizes.BK
    BV: tl.constexpr = sizes.BV
    BM: tl.constexpr = sizes.BM
    BN: tl.constexpr = sizes.BN
    PAGE: tl.constexpr = sizes.PAGE
    b_q = load_queries(q, n, h, row, sizes)
    b_o = tl.zeros([BV, BM], tl.float32)
    largest = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    # The first token that a row does not see.
    end = length - Q + 1 + row // GROUP
    for tile in tl.range(tile_begin, tile_end):
        tokens = tile * BN + tl.arange(0, BN)
        known = tokens < length
        first = first_row(table, n, tile * BN, length, BN=BN, PAGE=PAGE, T=T, PAGES=PAGES)
        b_k = load_rows(k, first, h, known, HEADS=HK, D=K, BD=BK, BN=BN, SPANS=(PAGE > 0) & (PAGE < BN))
        b_s = tl.dot(b_k, b_q, input_precision=PRECISION) * factor  # [BN, BM]
        b_s = tl.where(tokens[:, None] < end[None, :], b_s, float("-inf"))
        larger = tl.maximum(largest, tl.max(b_s, 0))
        # A row may see nothing of its first tiles: -inf - -inf is no number.
        shift = tl.where(larger == float("-inf"), 0.0, larger)
        b_p = tl.exp2(b_s - shift[None, :])
        kept = tl.exp2(largest - shift)
        total = total * kept + tl.sum(b_p, 0)
        b_v = load_rows(v, first, h, known, HEADS=HK, D=V, BD=BV, BN=BN, SPANS=(PAGE > 0) & (PAGE < BN))
        b_o = tl.dot(tl.trans(b_v), b_p.to(b_v.dtype), b_o * kept[None, :], input_precision=PRECISION)
        largest = larger
    return b_o, total, largest


@triton.jit
def store_output(o, b_o, total, n, h, row, sizes):
    """o = o^T / l for the rows of a pair, 0 where a row saw nothing."""
    Q: tl.constexpr = sizes.Q
    H: tl.constexpr = sizes.H
    GROUP: tl.constexpr = H // sizes.HK
    V: tl.constexpr = sizes.V
    BV: tl.constexpr = sizes.BV
    o_v = tl.arange(0, BV)[:, None]
    b_o = b_o / tl.where(total > 0.0, total, 1.0)[None, :]
    pointers = o + row_index(row, n, h, Q=Q, H=H, GROUP=GROUP)[None, :] * V + o_v
    tl.store(pointers, b_o.to(o.dtype.element_ty), mask=(o_v < V) & (row < Q * GROUP)[None, :])


@triton.jit
def store_partial(partials, index, b_o, total, largest, row, sizes):
    """Partial result number `index`, as `attend` leaves it.

    m and l stay apart: m + log2 l would round l away where scores are large.
    row: the block's rows among all rows of the kv head
    """
    o_partial, l_partial, m_partial = partials
    V: tl.constexpr = sizes.V
    BV: tl.constexpr = sizes.BV
    R: tl.constexpr = sizes.R
    o_v = tl.arange(0, BV)[:, None]
    within = index.to(tl.int64) * R + row % R
    mine = row < sizes.Q * (sizes.H // sizes.HK)
    tl.store(o_partial + within[None, :] * V + o_v, b_o, mask=(o_v < V) & mine[None, :])
    tl.store(l_partial + within, total, mask=mine)
    tl.store(m_partial + within, largest, mask=mine)
