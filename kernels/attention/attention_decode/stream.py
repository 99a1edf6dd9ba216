"""Stream-K: the tiles of all pairs in one row, cut into equal shares, one per program (Sanovar et al. 2024).

The order is sequence, kv head and block of rows, tile. A program's share may end one pair, hold whole ones and begin
another. From one piece to the next, either the program or the pair increases by one. So program + pair numbers the
partial results.
"""

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
def tile_counts(lengths, B, BN: tl.constexpr, PAIRS: tl.constexpr, BB: tl.constexpr):
    """Tiles of each sequence with all its pairs [BB]; zero beyond B."""
    n = tl.arange(0, BB)
    return tl.cdiv(tl.load(lengths + n, mask=n < B, other=0), BN) * PAIRS


@triton.jit
def all_tiles(lengths, B, T, BN: tl.constexpr, PAIRS: tl.constexpr, BB: tl.constexpr):
    """Tiles of all sequences."""
    return tl.cdiv(T, BN) * PAIRS * B if lengths is None else tl.sum(tile_counts(lengths, B, BN, PAIRS, BB), 0)


@triton.jit
def sequence_of(tile, lengths, B, T, BN: tl.constexpr, PAIRS: tl.constexpr, BB: tl.constexpr):
    """The sequence that a tile belongs to, and the first tile of that sequence."""
    if lengths is None:
        own = tl.cdiv(T, BN) * PAIRS
        n = tile // own
        begin = n * own
    else:
        counts = tile_counts(lengths, B, BN, PAIRS, BB)
        before = tl.cumsum(counts, 0) <= tile
        n = tl.sum(before.to(tl.int32), 0)
        begin = tl.sum(tl.where(before, counts, 0), 0)
    return n, begin


@triton.jit
def share_start(p, tiles, programs):
    """The first tile of program p's share: shares differ by one tile at most, the larger ones first."""
    return p * (tiles // programs) + tl.minimum(p, tiles % programs)


@triton.jit
def owner_of(tile, tiles, programs):
    """The program whose share holds a tile: the inverse of share_start."""
    size = tiles // programs
    larger = tiles % programs * (size + 1)
    return tl.where(tile < larger, tile // (size + 1), tiles % programs + (tile - larger) // tl.maximum(size, 1))


@triton.jit(do_not_specialize=["B", "T", "PAGES", "factor"])
def attention_decode_stream_kernel(
    q,
    k,
    v,
    table,
    lengths,
    o,
    o_partial,
    l_partial,
    m_partial,
    B,
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
    BB: tl.constexpr,
    PAGE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """o = softmax(s q k^T) v over an equal share of all pairs' tiles, pair by pair.

    Grid:    programs, as many as are resident at once.
    On chip: q^T [K, BM] in its dtype, o^T [V, BM], m and l [BM] in fp32; tiles of k and v pass by.
    Reads:   a kv head's rows of the cache once, s (K + V) bytes each; q once a piece; lengths; 4 bytes a page and kv
             head.
    Writes:  o of the pairs that it holds whole; at most two partial results (o, l, m), 4 (V + 2) bytes per query row.
    """
    p = tl.program_id(0)
    sizes: tl.constexpr = Sizes(Q=Q, H=H, HK=HK, K=K, V=V, BK=BK, BV=BV, BM=BM, BN=BN, R=R, PAGE=PAGE)
    partials = Partials(o_partial, l_partial, m_partial)
    tiles = all_tiles(lengths, B, T, BN=BN, PAIRS=HK * BLOCKS, BB=BB)
    tile = share_start(p, tiles, tl.num_programs(0))
    end = share_start(p + 1, tiles, tl.num_programs(0))
    while tile < end:
        n, begin = sequence_of(tile, lengths, B, T, BN=BN, PAIRS=HK * BLOCKS, BB=BB)
        length = length_of(lengths, n, T)
        own = tl.cdiv(length, BN)
        pair = (tile - begin) // own
        tile_begin = (tile - begin) % own
        tile_end = tl.minimum(own, tile_begin + end - tile)
        h = pair // BLOCKS
        row = pair % BLOCKS * R + tl.arange(0, BM)
        cache = Cache(k=k, v=v, table=table, length=length, T=T, PAGES=PAGES)
        b_o, total, largest = attend(
            q,
            cache,
            n,
            h,
            row,
            tile_begin=tile_begin,
            tile_end=tile_end,
            factor=factor,
            sizes=sizes,
            PRECISION=PRECISION,
        )
        if o_partial is None or tile_end - tile_begin == own:
            store_output(o, b_o, total, n, h, row=row, sizes=sizes)
        else:
            index = p + n * (HK * BLOCKS) + pair
            store_partial(partials, index, b_o, total, largest, row=row, sizes=sizes)
        tile += tile_end - tile_begin
