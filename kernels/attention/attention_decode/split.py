"""FlashDecoding: the cache of each pair is cut into as many equal splits as fill the GPU (Dao et al. 2023)."""

# Triton types a device function as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.attention_decode.device import (
    Cache,
    Partials,
    Sizes,
    attend,
    length_of,
    store_output,
    store_partial,
)


@triton.jit
def span_of(length, split, BN: tl.constexpr, SPLITS: tl.constexpr):
    """Tiles (begin, end) of a split: all but the last few splits hold equally many; one beyond the end holds none."""
    tiles = tl.cdiv(length, BN)
    size = tl.cdiv(tiles, SPLITS)
    return tl.minimum(split * size, tiles), tl.minimum((split + 1) * size, tiles)


@triton.jit(do_not_specialize=["T", "PAGES", "factor"])
def attention_decode_split_kernel(
    q,
    k,
    v,
    table,
    lengths,
    o,
    o_partial,
    l_partial,
    m_partial,
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
    """o = softmax(s q k^T) v over one of SPLITS equal splits of a pair's cache; over all of it where SPLITS is 1.

    Grid:    pairs (sequences x HK x BLOCKS of query rows) x SPLITS, one axis, splits of a pair side by side.
    On chip: q^T [K, BM] in its dtype, o^T [V, BM], m and l [BM] in fp32; tiles of k and v pass by.
    Reads:   a kv head's rows of the cache once, s (K + V) bytes each; q; lengths; 4 bytes a page and kv head.
    Writes:  o; with several splits (o, l, m) of each, 4 (V + 2) bytes per query row and split.
    """
    pid = tl.program_id(0)
    sizes: tl.constexpr = Sizes(Q=Q, H=H, HK=HK, K=K, V=V, BK=BK, BV=BV, BM=BM, BN=BN, R=R, PAGE=PAGE)
    split, pair = pid % SPLITS, pid // SPLITS
    n, h = pair // (HK * BLOCKS), pair // BLOCKS % HK
    row = pair % BLOCKS * R + tl.arange(0, BM)
    length = length_of(lengths, n, T)
    tile_begin, tile_end = span_of(length, split, BN, SPLITS)
    if (SPLITS > 1) & (tile_begin == tile_end):
        return
    cache = Cache(k=k, v=v, table=table, length=length, T=T, PAGES=PAGES)
    b_o, total, largest = attend(
        q, cache, n, h, row, tile_begin=tile_begin, tile_end=tile_end, factor=factor, sizes=sizes, PRECISION=PRECISION
    )
    if SPLITS == 1:
        store_output(o, b_o, total, n, h, row=row, sizes=sizes)
    else:
        store_partial(Partials(o_partial, l_partial, m_partial), pid, b_o, total, largest, row=row, sizes=sizes)
