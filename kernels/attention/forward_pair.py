"""The forward kernel of two blocks of queries side by side, which see the same tiles of keys and values.

It computes what forward.py does. A tile of keys and values is read once for both blocks, and while the exponentials of
the second block are computed, the product P V of the first one runs: Triton waits at once for a product whose result
its own step uses, but not for one that the next step uses. So the order of a step is

    S0    P0    S1    O0 += P0 V beside P1    O1 += P1 V beside the next step's S0
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
def flash_fwd_pair_kernel(
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
    """o = softmax(s q k^T + mask) v and lse = log2 sum exp(s q k^T); factor is s log2(e). BM is even.

    Grid:    pairs of blocks, BM queries in all, x sequences x residues x H, one axis; see `locate`.
    On chip: q [BM, K] in its dtype; o [BM, V], m and l [BM] in fp32.
    Reads:   q; k and v once for each pair of blocks that sees any of their tile, from L2 mostly.
    Writes:  o [B, T, H, V]; lse [B, H, T] fp32 where a backward pass follows.
    Bytes per token: s H (K + V) + 4 H, and s HK (K + V) at least once.
    """
    HALF: tl.constexpr = BM // 2
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
    b_q0 = load_tile(q, n, h, start, length, STRIDE=Q_STRIDE, SIZE=HALF, D=K, BD=BK, RAGGED=True, LOADS=LOADS)
    b_q1 = load_tile(q, n, h, start + HALF, length, STRIDE=Q_STRIDE, SIZE=HALF, D=K, BD=BK, RAGGED=True, LOADS=LOADS)
    b_o0 = tl.zeros([HALF, BV], tl.float32)
    b_o1 = tl.zeros([HALF, BV], tl.float32)
    largest0 = tl.full([HALF], float("-inf"), tl.float32)
    largest1 = tl.full([HALF], float("-inf"), tl.float32)
    total0 = tl.zeros([HALF], tl.float32)
    total1 = tl.zeros([HALF], tl.float32)
    dtype: tl.constexpr = o.dtype.element_ty
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
            b_v = load_tile(
                v, n, group, key, length, STRIDE=V_STRIDE, SIZE=BN, D=V, BD=BV, RAGGED=RUN != FULL, LOADS=LOADS
            )  # [BN, BV]
            keys = key + tl.arange(0, BN)[None, :]
            queries = start + tl.arange(0, HALF)[:, None]
            b_s = tl.dot(b_q0, tl.trans(b_k), input_precision=PRECISION)  # [HALF, BN]
            if RUN != FULL:
                b_s = hidden(b_s, queries, keys, length, window, CAUSAL=CAUSAL, WINDOWED=WINDOWED)
            b_p0, largest0, total0, rescale0 = weigh(
                b_s, largest0, total0, factor, DTYPE=dtype, UNMET=WINDOWED and RUN != FULL
            )
            b_s = tl.dot(b_q1, tl.trans(b_k), input_precision=PRECISION)  # [HALF, BN]
            b_o0 = tl.dot(b_p0, b_v, b_o0 * rescale0[:, None], input_precision=PRECISION)
            if RUN != FULL:
                b_s = hidden(b_s, queries + HALF, keys, length, window, CAUSAL=CAUSAL, WINDOWED=WINDOWED)
            b_p1, largest1, total1, rescale1 = weigh(
                b_s, largest1, total1, factor, DTYPE=dtype, UNMET=WINDOWED and RUN != FULL
            )
            b_o1 = tl.dot(b_p1, b_v, b_o1 * rescale1[:, None], input_precision=PRECISION)
    STRIDE: tl.constexpr = DILATION * H * V
    store_tile(o, b_o0 / total0[:, None], start, length, STRIDE=STRIDE, SIZE=HALF, D=V, BD=BV)
    store_tile(o, b_o1 / total1[:, None], start + HALF, length, STRIDE=STRIDE, SIZE=HALF, D=V, BD=BV)
    if lse is not None:
        positions = start + tl.arange(0, HALF)
        row = scalar_row(lse, n, bos, h, T, ROW, HEADS=H, cu_seqlens=cu_seqlens)
        tl.store(row + positions * DILATION, largest0 + tl.log2(total0), mask=positions < length)
        positions += HALF
        tl.store(row + positions * DILATION, largest1 + tl.log2(total1), mask=positions < length)
