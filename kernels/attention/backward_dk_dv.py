"""The backward kernel of dk and dv, by blocks of keys: a head of keys sums over all query heads that share it.

    dv_j = sum_i p_ij do_i      dk_j = s sum_i dS_ij q_i      p and dS as in backward_dq.py

Scores are computed transposed, keys in rows, so that both products take them from registers as they are. A query's lse
and delta are then one number a column. Descriptors bring them to shared memory with the queries' tiles. Queries beyond
the end have zeros for all of q, do, lse and delta: they weigh 1, and add nothing.
"""

# Triton types a device function, tl.range too, as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.device import (
    FULL,
    hidden,
    load_scalars,
    load_tile,
    locate,
    run_bounds,
    scalar_row,
    spans,
    store_tile,
)


@triton.jit(do_not_specialize=["T", "ROW", "blocks", "rows", "section", "window"])
def flash_bwd_dk_dv_kernel(
    q,
    k,
    v,
    do,
    lse,
    delta,
    dk,
    dv,
    cu_seqlens,
    scale,
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
    """dk = s dS^T q and dv = p^T do, summed over the H / HK query heads of a key head; factor is s log2(e).

    Grid:    blocks of BN keys x sequences x residues x HK, one axis; see `locate`.
    On chip: a block's k [BN, K] and v [BN, V] in their dtype; dk [BN, K] and dv [BN, V] in fp32.
    Reads:   k, v; q, do, lse, delta once for each block of keys that any of a tile's queries sees, from L2 mostly.
    Writes:  dk [B, T, HK, K], dv [B, T, HK, V].
    Bytes per token: s HK (2 K + 2 V), and H (s (K + V) + 8) at least once.
    """
    group, n, bos, length, block = locate(
        T, blocks, rows, section, cu_seqlens, HEADS=HK, DILATION=DILATION, LAST_FIRST=False
    )
    start = block * BN
    if start >= length:
        return
    SHARED: tl.constexpr = H // HK
    Q_STRIDE: tl.constexpr = DILATION * H * K
    O_STRIDE: tl.constexpr = DILATION * H * V
    K_STRIDE: tl.constexpr = DILATION * HK * K
    V_STRIDE: tl.constexpr = DILATION * HK * V
    dk += (bos * HK + group) * K
    dv += (bos * HK + group) * V
    if LOADS == "pointers":
        k += (bos * HK + group) * K
        v += (bos * HK + group) * V
    b_k = load_tile(k, n, group, start, length, STRIDE=K_STRIDE, SIZE=BN, D=K, BD=BK, RAGGED=True, LOADS=LOADS)
    b_v = load_tile(v, n, group, start, length, STRIDE=V_STRIDE, SIZE=BN, D=V, BD=BV, RAGGED=True, LOADS=LOADS)
    b_dk = tl.zeros([BN, BK], tl.float32)
    b_dv = tl.zeros([BN, BV], tl.float32)
    # Seen from its keys, a window's two sides change places.
    back = 0 if CAUSAL else window - 1
    span_begin, full_begin, full_end, span_end = spans(
        start, SIZE=BN, STEP=BM, length=length, back=back, fore=window - 1, LEFT=CAUSAL or WINDOWED, RIGHT=WINDOWED
    )
    # Hoisted out of this loop, what the inner ones share would lie in registers all along, and spill.
    for shared in tl.range(SHARED, disable_licm=True):
        h = group * SHARED + shared
        q_h = q
        do_h = do
        lse_h = lse
        delta_h = delta
        if LOADS == "pointers":
            q_h = q + (bos * H + h) * K
            do_h = do + (bos * H + h) * V
            lse_h = scalar_row(lse, n, bos, h, T, ROW, HEADS=H, cu_seqlens=cu_seqlens)
            delta_h = scalar_row(delta, n, bos, h, T, ROW, HEADS=H, cu_seqlens=cu_seqlens)
        for RUN in tl.static_range(0 if CAUSAL or WINDOWED else 1, 3):
            begin, end = run_bounds(RUN, span_begin, full_begin, full_end, span_end)
            for query in tl.range(begin, end, BM, warp_specialize=SPECIAL):
                b_q = load_tile(
                    q_h, n, h, query, length, STRIDE=Q_STRIDE, SIZE=BM, D=K, BD=BK, RAGGED=RUN != FULL, LOADS=LOADS
                )  # [BM, BK]
                b_do = load_tile(
                    do_h, n, h, query, length, STRIDE=O_STRIDE, SIZE=BM, D=V, BD=BV, RAGGED=RUN != FULL, LOADS=LOADS
                )  # [BM, BV]
                b_lse = load_scalars(lse_h, n * H + h, query, length, SIZE=BM, DILATION=DILATION, LOADS=LOADS)
                b_delta = load_scalars(delta_h, n * H + h, query, length, SIZE=BM, DILATION=DILATION, LOADS=LOADS)
                b_s = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION)  # [BN, BM]
                b_dp = tl.dot(b_v, tl.trans(b_do), input_precision=PRECISION)  # [BN, BM]
                if RUN != FULL:
                    queries = query + tl.arange(0, BM)[None, :]
                    keys = start + tl.arange(0, BN)[:, None]
                    b_s = hidden(b_s, queries, keys, length, window, CAUSAL=CAUSAL, WINDOWED=WINDOWED)
                b_p = tl.exp2(b_s * factor - b_lse[None, :])
                b_dv = tl.dot(b_p.to(b_do.dtype), b_do, b_dv, input_precision=PRECISION)
                b_ds = b_p * (b_dp - b_delta[None, :])
                b_dk = tl.dot(b_ds.to(b_q.dtype), b_q, b_dk, input_precision=PRECISION)
    store_tile(dk, b_dk * scale, start, length, STRIDE=K_STRIDE, SIZE=BN, D=K, BD=BK)
    store_tile(dv, b_dv, start, length, STRIDE=V_STRIDE, SIZE=BN, D=V, BD=BV)
