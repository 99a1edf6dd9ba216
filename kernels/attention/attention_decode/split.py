"""FlashDecoding: the cache of each pair is cut into as many equal parts as fill the GPU (Dao et al. 2023)."""

# Triton types a device function as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.attention_decode.device import (
    Cache,
    Sizes,
    attend,
    length_of,
    load_queries,
    store_output,
    store_part,
)


@triton.jit
def span_of(length, s, BN: tl.constexpr, SPLITS: tl.constexpr):
    """Tiles (begin, end) of part s: all but the last few parts hold the same number, none for a part beyond the end."""
    tiles = tl.cdiv(length, BN)
    size = tl.cdiv(tiles, SPLITS)
    return tl.minimum(s * size, tiles), tl.minimum((s + 1) * size, tiles)


@triton.jit(do_not_specialize=["T", "PAGES", "factor"])
def attention_decode_split_kernel(
    q,
    k,
    v,
    table,
    lengths,
    o,
    parts,
    sums,
    maxima,
    T,
    PAGES,
    factor,
    Q: tl.constexpr,
    H: tl.constexpr,
    HK: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    R: tl.constexpr,
    BLOCKS: tl.constexpr,
    SPLITS: tl.constexpr,
    PAGE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """o = softmax(s q k^T) v over one of SPLITS equal parts of a pair's cache; the whole of it where SPLITS is 1.

    Grid:    pairs (sequences x HK x BLOCKS of query rows) x SPLITS, one axis, parts of a pair side by side.
    On chip: q^T [K, BM] in its dtype, o^T [V, BM], m and l [BM] in fp32; tiles of k and v pass by.
    Reads:   a kv head's rows of the cache once, s (K + V) bytes each; q; lengths; 4 bytes a page and kv head.
    Writes:  o; with more than one part (o, l, m) of each, 4 (V + 2) bytes per query row and part.
    """
    pid = tl.program_id(0)
    GROUP: tl.constexpr = H // HK
    s = pid % SPLITS
    pair = pid // SPLITS
    n = pair // (HK * BLOCKS)
    h = pair // BLOCKS % HK
    row = pair % BLOCKS * R + tl.arange(0, BM)
    length = length_of(lengths, n, T)
    tile_begin, tile_end = span_of(length, s, BN, SPLITS)
    if (SPLITS > 1) & (tile_begin == tile_end):
        return
    b_q = load_queries(q, n, h, row, Q=Q, H=H, GROUP=GROUP, K=K, BK=BK)
    cache = Cache(k=k, v=v, table=table, length=length, T=T, PAGES=PAGES)
    b_o, total, largest = attend(
        b_q,
        cache,
        n,
        h,
        row,
        tile_begin=tile_begin,
        tile_end=tile_end,
        factor=factor,
        sizes=Sizes(Q=Q, HK=HK, GROUP=GROUP, K=K, V=V, BV=BV, BN=BN, PAGE=PAGE),
        PRECISION=PRECISION,
    )
    if SPLITS == 1:
        store_output(o, b_o, total, n, h, row=row, Q=Q, H=H, GROUP=GROUP, V=V, BV=BV)
    else:
        store_part(parts, sums, maxima, b_o, total, largest=largest, part=pid, row=row, R=R, ROWS=Q * GROUP, V=V, BV=BV)
