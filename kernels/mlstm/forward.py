"""The output sweep: o, the final state and what the backward pass needs, with a slice of the state in registers."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import (
    between,
    load_rows,
    locate,
    only_if,
    store_normaliser,
    store_rows,
    store_state,
    times_state,
)
from kernels.mlstm.device import LARGEST, SMALLEST, WIDEST, known, last, stabilised, start_stabilised, sums_of


@triton.jit(do_not_specialize=["T"])
def mlstm_fwd_output_kernel(
    q,
    k,
    v,
    input_gate,
    forget_gate,
    o,
    decay,
    weight,
    log_den,
    side,
    C_start,
    n_start,
    m_start,
    states,
    totals,
    tops,
    C_end,
    n_end,
    m_end,
    cu_seqlens,
    scale,
    T,
    segment_size,
    segments,
    H: tl.constexpr,
    HK: tl.constexpr,
    HV: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    EXP: tl.constexpr,
    JOINED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """o = s (2^G q C + tril(q k^T . 2^{G_i-E_j}) v) / den, den = max(|s (2^G q . n + rowsum tril(..))|, e^-m) or 1.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: C [K, BV] and n [K], fp32, and the stabiliser m, over all chunks of the segment.
    Reads:   q, k, a slice of v, both gates; a start state (see start_stabilised).
    Writes:  a slice of o; by slice 0, where a backward pass follows with the exponential gate, decay g, weight w and
             log_den = log2 den [B, T, HS] fp32 and side [B, T, HS] int8, the sign of n . q where den is its size and 0
             where den is e^-m; the final state, where wanted, by the last segment.
    Bytes per token and state head over all slices, s bytes per element: s (2K + 2V), + 8, + 13 for the backward pass.
    Each slice loads q, k and the gates again, from L2.
    """
    slice_v, h, n_th, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    q += (begin * H + h // (HS // H)) * K
    k += (begin * HK + h // (HS // HK)) * K
    v += (begin * HV + h // (HS // HV)) * V
    o += (begin * HS + h) * V

    # n is 16 columns, all alike: the fewest that a tensor core takes.
    ones = tl.full([BT, 16], 1.0, tl.float32)
    n = tl.zeros([BK, 16], dtype=tl.float32)
    SIZE: tl.constexpr = K * V + (K if EXP else 0)
    C = tl.zeros([BK, BV], dtype=tl.float32)
    n_first = tl.zeros([BK], dtype=tl.float32)
    C, n_first, m = start_stabilised(
        C,
        n_first,
        C_start,
        n_start,
        m_start,
        states=states,
        totals=totals,
        tops=tops,
        sequence=n_th,
        h=h,
        state_slot=state_slot,
        segment=segment,
        k=o_k[:, None],
        v=o_v[None, :],
        rows_k=o_k,
        HS=HS,
        K=K,
        V=V,
        SIZE=SIZE,
        EXP=EXP,
        JOINED=JOINED,
    )
    n += n_first[:, None]

    causal = rows[:, None] >= rows[None, :]
    length = (end - begin).to(tl.int32)
    for chunk_start in range(0, length, BT):
        keep = rows < length - chunk_start
        offsets = (begin + chunk_start + rows) * HS + h
        b_q = load_rows(q, stride=H * K, keep=keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_k = load_rows(k, stride=HK * K, keep=keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_v = load_rows(v, stride=HV * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        if EXP:
            g, w, b_m, _sums = stabilised(input_gate, forget_gate, offsets, rows, length - chunk_start, m=m)
            m = last(b_m, rows, BT) + tl.zeros([1], tl.float32)
        else:
            g, w = known(input_gate, forget_gate, offsets, keep, False)
        G, E, total = sums_of(g, w)
        b_P = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)  # [BT, BT]
        b_P = tl.where(causal, b_P * between(G[:, None], E[None, :], causal), 0.0)
        b_o = times_state(b_q, C, PRECISION) * tl.exp2(G)[:, None]  # [BT, BV]
        b_o = tl.dot(b_P.to(b_v.dtype), b_v, b_o, input_precision=PRECISION) * scale
        b_left = tl.exp2(total - E)  # [BT]
        if EXP:
            b_n = tl.max(times_state(b_q, n, PRECISION), 1) * tl.exp2(G)  # [BT]
            b_n = (b_n + tl.sum(b_P, 1)) * scale
            b_floor = tl.exp(tl.minimum(-b_m, WIDEST))
            b_den = tl.minimum(tl.maximum(tl.maximum(tl.abs(b_n), b_floor), SMALLEST), LARGEST)
            b_o = b_o / b_den[:, None]
            n = tl.dot(
                tl.trans(b_k), (ones * b_left[:, None]).to(b_k.dtype), n * tl.exp2(total), input_precision=PRECISION
            )
            if decay is not None:
                mine = only_if(keep, slice_v == 0)
                tl.store(decay + offsets, g, mask=mine)
                tl.store(weight + offsets, w, mask=mine)
                tl.store(log_den + offsets, tl.log2(b_den), mask=mine)
                b_sign = tl.where(b_n > 0.0, 1, -1)
                tl.store(side + offsets, tl.where(tl.abs(b_n) >= b_den, b_sign, 0).to(tl.int8), mask=mine)
        store_rows(o, b_o, stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
        C *= tl.exp2(total)
        b_v = (b_v.to(tl.float32) * b_left[:, None]).to(b_v.dtype)
        C = tl.dot(tl.trans(b_k), b_v, C, input_precision=PRECISION)
        q += BT * H * K
        k += BT * HK * K
        v += BT * HV * V
        o += BT * HS * V

    if C_end is not None and end == eos:
        store_state(C_end, n_th * HS + h, C, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
        if EXP:  # noqa: SIM102 - joined, the condition is no longer the compiler's, and n_end may be None
            if slice_v == 0:
                store_normaliser(n_end, n_th * HS + h, tl.max(n, 1), o_k, K=K, SIZE=K)
                tl.store(m_end + n_th * HS + h + tl.arange(0, 1), m)
