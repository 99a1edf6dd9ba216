"""The forward kernel: one block of queries, its output and log-sum-exp kept on chip while keys and values pass by.

    m' = max(m, rowmax S)      l = 2^(m - m') l + rowsum 2^(S - m')      O = 2^(m - m') O + 2^(S - m') V

with S = f Q K^T and f = s log2(e), so that exponentials are powers of two; o = O / l and lse = m + log2 l at the end,
in base 2 as well.
"""

# Triton types a device function, tl.range too, as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.device import (
    FULL,
    hidden,
    load_tile,
    locate,
    run_bounds,
    scalar_row,
    spans,
    store_tile,
    weigh,
)


@triton.jit(do_not_specialize=["T", "ROW", "blocks", "rows", "section", "window"])
def flash_fwd_kernel(
    q,
    k,
    v,
    o,
    lse,
    cu_seqlens,
    factor,
    T,
    ROW,
    blocks,
    rows,
    section,
    window,
    H: tl.constexpr,
    HK: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    DILATION: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOWED: tl.constexpr,
    LOADS: tl.constexpr,
    SPECIAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """o = softmax(s q k^T + mask) v and lse = log2 sum exp(s q k^T); factor is s log2(e).

    Grid:    blocks of BM queries x sequences x residues x H, one axis; see `locate`.
    On chip: a block's q [BM, K] in its dtype; o [BM, V], m and l [BM] in fp32.
    Reads:   q; k and v once for each block of queries that sees any of their tile, from L2 mostly.
    Writes:  o [B, T, H, V]; lse [B, H, T] fp32 where a backward pass follows.
    Bytes per token: s H (K + V) + 4 H, and s HK (K + V) at least once.
    """
    h, n, bos, length, block = locate(
        T, blocks, rows, section, cu_seqlens, HEADS=H, DILATION=DILATION, LAST_FIRST=CAUSAL
    )
    start = block * BM
    if start >= length:
        return
    group = h // (H // HK)
    Q_STRIDE: tl.constexpr = DILATION * H * K
    K_STRIDE: tl.constexpr = DILATION * HK * K
    V_STRIDE: tl.constexpr = DILATION * HK * V
    if LOADS == "pointers":
        q += (bos * H + h) * K
        k += (bos * HK + group) * K
        v += (bos * HK + group) * V
    o += (bos * H + h) * V
    b_q = load_tile(q, n, h, start, length, STRIDE=Q_STRIDE, SIZE=BM, D=K, BD=BK, RAGGED=True, LOADS=LOADS)
    b_o = tl.zeros([BM, BV], tl.float32)
    largest = tl.full([BM], float("-inf"), tl.float32)
    total = tl.zeros([BM], tl.float32)
    fore = 0 if CAUSAL else window - 1
    span_begin, full_begin, full_end, span_end = spans(
        start, SIZE=BM, STEP=BN, length=length, back=window - 1, fore=fore, LEFT=WINDOWED, RIGHT=CAUSAL or WINDOWED
    )
    for RUN in tl.static_range(0 if WINDOWED else 1, 3):
        begin, end = run_bounds(RUN, span_begin, full_begin, full_end, span_end)
        for key in tl.range(begin, end, BN, warp_specialize=SPECIAL):
            b_k = load_tile(
                k, n, group, key, length, STRIDE=K_STRIDE, SIZE=BN, D=K, BD=BK, RAGGED=RUN != FULL, LOADS=LOADS
            )  # [BN, BK]
            b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)  # [BM, BN]
            if RUN != FULL:
                queries = start + tl.arange(0, BM)[:, None]
                b_s = hidden(
                    b_s, queries, key + tl.arange(0, BN)[None, :], length, window, CAUSAL=CAUSAL, WINDOWED=WINDOWED
                )
            b_p, largest, total, rescale = weigh(
                b_s, largest, total, factor, DTYPE=o.dtype.element_ty, UNMET=WINDOWED and RUN != FULL
            )
            b_v = load_tile(
                v, n, group, key, length, STRIDE=V_STRIDE, SIZE=BN, D=V, BD=BV, RAGGED=RUN != FULL, LOADS=LOADS
            )  # [BN, BV]
            b_o = tl.dot(b_p, b_v, b_o * rescale[:, None], input_precision=PRECISION)
    store_tile(o, b_o / total[:, None], start, length, STRIDE=DILATION * H * V, SIZE=BM, D=V, BD=BV)
    if lse is not None:
        positions = start + tl.arange(0, BM)
        row = scalar_row(lse, n, bos, h, T, ROW, HEADS=H, cu_seqlens=cu_seqlens)
        tl.store(row + positions * DILATION, largest + tl.log2(total), mask=positions < length)
