"""The backward kernel of dq, by blocks of queries, and delta = rowsum(dO . O), which dk and dv need as well.

    p_ij = 2^(f q_i . k_j - lse_i)      dS_ij = p_ij (do_i . v_j - delta_i)      dq_i = s sum_j dS_ij k_j

with f = s log2(e) and lse in base 2. delta is summed where o and do are on chip anyway: a kernel of its own would read
both once more.
"""

# Triton types a device function, tl.range too, as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.attention.device import FULL, hidden, load_tile, locate, run_bounds, scalar_row, spans, store_tile


@triton.jit(do_not_specialize=["T", "ROW", "blocks", "rows", "section", "window"])
def flash_bwd_dq_kernel(
    q,
    k,
    v,
    o,
    do,
    lse,
    dq,
    delta,
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
    """dq = s dS k and delta = rowsum(do . o); factor is s log2(e).

    Grid:    blocks of BM queries x sequences x residues x H, one axis; see `locate`.
    On chip: a block's q [BM, K] and do [BM, V] in their dtype; dq [BM, K], lse and delta [BM] in fp32.
    Reads:   q, o, do, lse; k and v once for each block of queries that sees any of their tile, from L2 mostly.
    Writes:  dq [B, T, H, K]; delta [B, H, T] fp32.
    Bytes per token: s H (2 K + 2 V) + 8 H, and s HK (K + V) at least once.
    """
    h, n, bos, length, block = locate(
        T, blocks, rows, section, cu_seqlens, HEADS=H, DILATION=DILATION, LAST_FIRST=CAUSAL
    )
    start = block * BM
    if start >= length:
        return
    group = h // (H // HK)
    Q_STRIDE: tl.constexpr = DILATION * H * K
    O_STRIDE: tl.constexpr = DILATION * H * V
    K_STRIDE: tl.constexpr = DILATION * HK * K
    V_STRIDE: tl.constexpr = DILATION * HK * V
    o += (bos * H + h) * V
    dq += (bos * H + h) * K
    if LOADS == "pointers":
        q += (bos * H + h) * K
        do += (bos * H + h) * V
        k += (bos * HK + group) * K
        v += (bos * HK + group) * V
    b_q = load_tile(q, n, h, start, length, STRIDE=Q_STRIDE, SIZE=BM, D=K, BD=BK, RAGGED=True, LOADS=LOADS)
    b_do = load_tile(do, n, h, start, length, STRIDE=O_STRIDE, SIZE=BM, D=V, BD=BV, RAGGED=True, LOADS=LOADS)
    b_o = load_tile(o, n, h, start, length, STRIDE=O_STRIDE, SIZE=BM, D=V, BD=BV, RAGGED=True, LOADS="pointers")
    b_delta = tl.sum(b_do.to(tl.float32) * b_o.to(tl.float32), 1)
    positions = start + tl.arange(0, BM)
    here = positions < length
    tl.store(
        scalar_row(delta, n, bos, h, T, ROW, HEADS=H, cu_seqlens=cu_seqlens) + positions * DILATION, b_delta, mask=here
    )
    # Queries beyond the end weigh nothing.
    b_lse = tl.load(
        scalar_row(lse, n, bos, h, T, ROW, HEADS=H, cu_seqlens=cu_seqlens) + positions * DILATION,
        mask=here,
        other=float("inf"),
    )

    b_dq = tl.zeros([BM, BK], tl.float32)
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
            b_s = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)  # [BM, BN]
            b_dp = tl.dot(b_do, tl.trans(b_v), input_precision=PRECISION)  # [BM, BN]
            if RUN != FULL:
                queries = start + tl.arange(0, BM)[:, None]
                b_s = hidden(
                    b_s, queries, key + tl.arange(0, BN)[None, :], length, window, CAUSAL=CAUSAL, WINDOWED=WINDOWED
                )
            b_ds = (b_dp - b_delta[:, None]) * tl.exp2(b_s * factor - b_lse[:, None])
            b_dq = tl.dot(b_ds.to(b_k.dtype), b_k, b_dq, input_precision=PRECISION)
    store_tile(dq, b_dq * scale, start, length, STRIDE=Q_STRIDE, SIZE=BM, D=K, BD=BK)
