"""What both kernels call: the queries of a pair, a span of its cache's tiles into (o, l, m), and storing what came out.

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


class Sizes(NamedTuple):
    """What `attend` needs to know of the call's shape and tiles."""

    Q: tl.constexpr
    HK: tl.constexpr
    GROUP: tl.constexpr
    K: tl.constexpr
    V: tl.constexpr
    BV: tl.constexpr
    BN: tl.constexpr
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
def load_queries(
    q, n, h, row, Q: tl.constexpr, H: tl.constexpr, GROUP: tl.constexpr, K: tl.constexpr, BK: tl.constexpr
):
    """The rows of a pair as columns [BK, BM], zero beyond K and beyond the last row."""
    kk = tl.arange(0, BK)[:, None]
    pointers = q + row_index(row, n, h, Q=Q, H=H, GROUP=GROUP)[None, :] * K + kk
    return tl.load(pointers, mask=(kk < K) & (row < Q * GROUP)[None, :], other=0.0)


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
    dd = tl.arange(0, BD)[None, :]
    rows = tl.arange(0, BN)[:, None]
    if SPANS:
        pointers = pool + first[:, None] * (HEADS * D) + (rows * (HEADS * D) + h * D + dd)
    else:
        pointers = pool + first * (HEADS * D) + (rows * (HEADS * D) + h * D + dd)
    mask = known[:, None]
    if D < BD:
        mask = mask & (dd < D)
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def attend(b_q, cache, n, h, row, tile_begin, tile_end, factor, sizes, PRECISION: tl.constexpr):
    """(o^T [BV, BM] before its division, l [BM], m [BM]) of tiles tile_begin .. tile_end of a sequence's cache.

    In powers of 2: m is the largest score times factor = s log2 e, l the sum of 2^(score - m); -inf and 0 for a row
    that sees nothing.
    """
    k, v, table, length, T, PAGES = cache
    Q: tl.constexpr = sizes.Q
    HK: tl.constexpr = sizes.HK
    GROUP: tl.constexpr = sizes.GROUP
    K: tl.constexpr = sizes.K
    V: tl.constexpr = sizes.V
    BV: tl.constexpr = sizes.BV
    BN: tl.constexpr = sizes.BN
    PAGE: tl.constexpr = sizes.PAGE
    BK: tl.constexpr = b_q.shape[0]
    BM: tl.constexpr = b_q.shape[1]
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
def store_output(
    o, b_o, total, n, h, row, Q: tl.constexpr, H: tl.constexpr, GROUP: tl.constexpr, V: tl.constexpr, BV: tl.constexpr
):
    """o = o^T / l for the rows of a pair, 0 where a row saw nothing."""
    vv = tl.arange(0, BV)[:, None]
    b_o = b_o / tl.where(total > 0.0, total, 1.0)[None, :]
    pointers = o + row_index(row, n, h, Q=Q, H=H, GROUP=GROUP)[None, :] * V + vv
    tl.store(pointers, b_o.to(o.dtype.element_ty), mask=(vv < V) & (row < Q * GROUP)[None, :])


@triton.jit
def store_part(
    parts,
    sums,
    maxima,
    b_o,
    total,
    largest,
    part,
    row,
    R: tl.constexpr,
    ROWS: tl.constexpr,
    V: tl.constexpr,
    BV: tl.constexpr,
):
    """A part of a pair as `attend` leaves it: o in parts [.., R, V], l in sums and m in maxima [.., R].

    m and l stay apart: m + log2 l would round l away where scores are large.
    R: rows of a block; ROWS: rows of all blocks; row: the block's rows among them
    """
    vv = tl.arange(0, BV)[:, None]
    within = part.to(tl.int64) * R + row % R
    mine = row < ROWS
    tl.store(parts + within[None, :] * V + vv, b_o, mask=(vv < V) & mine[None, :])
    tl.store(sums + within, total, mask=mine)
    tl.store(maxima + within, largest, mask=mine)
