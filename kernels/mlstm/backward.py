"""The backward sweep of dq, with a slice of the state in registers and no partial sums in memory.

With 2^g and 2^w the decays and weights of device.py, den_t = 1 and delta_t = 0 where there is no normaliser:

    dq_t = (s / den_t) (C_t do_t - delta_t n_t)           dC_t = 2^{g_{t+1}} dC_{t+1} + (s / den_t) q_t do_t^T
    dk_t = 2^{w_t} (dC_t v_t + dn_t)                      dn_t = 2^{g_{t+1}} dn_{t+1} - (s / den_t) delta_t q_t
    dv_t = 2^{w_t} dC_t^T k_t                             dlog i_t = k_t . dk_t
    dlog f_t = <C_T, dC> + <n_T, dn> + sum_{i>=t} (q_i . dq_i - k_i . dk_i)

delta_t = do_t . o_t, with the sign of n_t . q_t; 0 where exp(-m_t) is the larger. dC and dn in dlog f_t are the final
state's gradients. The stabiliser is held fixed everywhere. `backward_dk_dv.py` holds the sweeps of dk and dv.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import (
    between,
    load_normaliser,
    load_rows,
    load_state,
    locate,
    only_if,
    rounding,
    store_rows,
    summed,
    times_state,
)
from kernels.mlstm.device import known, start_stabilised, sums_of, weighed


@triton.jit(do_not_specialize=["T"])
def mlstm_bwd_dq_kernel(
    q,
    k,
    v,
    input_gate,
    forget_gate,
    log_den,
    side,
    o,
    do,
    delta,
    dq,
    q_dq,
    C_start,
    n_start,
    m_start,
    states,
    totals,
    tops,
    dC_end,
    dn_end,
    d_last,
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
    """dq = s 2^U (2^R (do C^T - delta n) + tril((do v^T - delta) . 2^{R_i-E_j}) k), 2^{R+U} = 2^G / den; and delta.

    Grid:    sequences x segments x HS x slices of K, one axis, slices fastest.
    On chip: C^T [V, BK] and n [BK], fp32.
    Reads:   v, do and slices of q and k; with the exponential gate, what the forward pass kept in the gates' place, and
             o, log_den and side; with the sigmoid one, both gates.
    Writes:  a slice of dq [B, T, HS, K]; delta [B, T, HS] fp32 by slice 0; q_dq [B, T, HS, SLICES] fp32, the slice's
             part of q . dq; d_last [N, HS, SLICES] fp32, its part of <C, dC_end> + <n, dn_end> at the sequence's end.
    Bytes per token and state head over all slices: s (3K + 2V) + 8 + 4 SLICES; exponential, + s V + 9.
    """
    slice_k, h, n_th, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = slice_k * BK + tl.arange(0, BK)
    o_v = tl.arange(0, BV)
    q += (begin * H + h // (HS // H)) * K
    k += (begin * HK + h // (HS // HK)) * K
    v += (begin * HV + h // (HS // HV)) * V
    do += (begin * HS + h) * V
    dq += (begin * HS + h) * K
    if EXP:
        o += (begin * HS + h) * V

    SIZE: tl.constexpr = K * V + (K if EXP else 0)
    PART: tl.constexpr = BV if BV < 64 else 64
    C = tl.zeros([BV, BK], dtype=tl.float32)
    n = tl.zeros([BK], dtype=tl.float32)
    C, n, _m = start_stabilised(
        C,
        n,
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
        k=o_k[None, :],
        v=o_v[:, None],
        rows_k=o_k,
        HS=HS,
        K=K,
        V=V,
        SIZE=SIZE,
        EXP=EXP,
        JOINED=JOINED,
    )

    causal = rows[:, None] >= rows[None, :]
    length = (end - begin).to(tl.int32)
    for chunk_start in range(0, length, BT):
        keep = rows < length - chunk_start
        offsets = (begin + chunk_start + rows) * HS + h
        b_do = load_rows(do, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_v = load_rows(v, stride=HV * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_k = load_rows(k, stride=HK * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_q = load_rows(q, stride=H * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)  # [BT, BK]
        g, w = known(input_gate, forget_gate, offsets, keep, EXP)
        G, E, total = sums_of(g, w)
        R, U = weighed(log_den, offsets, keep, G, EXP)
        b_P = tl.dot(b_do, tl.trans(b_v), input_precision=PRECISION)  # [BT, BT]
        # What the sweeps of dq and dk differ in must be rounded alike in both: see the README.
        b_dq = times_state(b_do, C, PRECISION, True)  # [BT, BK]
        if EXP:
            # A part of the columns at a time, do loaded again: whole tiles in fp32 make the compiler spill.
            b_delta = tl.zeros([BT], dtype=tl.float32)
            for column in tl.static_range(0, BV, PART):
                b_part = load_rows(do, stride=HS * V, keep=keep, start=column, BT=BT, D=V, BD=PART).to(tl.float32)
                b_delta += tl.sum(
                    b_part * load_rows(o, stride=HS * V, keep=keep, start=column, BT=BT, D=V, BD=PART).to(tl.float32), 1
                )
            b_delta *= tl.load(side + offsets, mask=keep, other=0).to(tl.float32)
            tl.store(delta + offsets, b_delta, mask=only_if(keep, slice_k == 0))
            b_P -= b_delta[:, None]
            b_dq -= b_delta[:, None] * n[None, :]
            o += BT * HS * V
        b_P = tl.where(causal, b_P * between(R[:, None], E[None, :], causal), 0.0)
        b_passed = tl.exp2(R)[:, None]
        b_off = rounding(b_q, b_passed, b_dq)
        factor = scale * tl.exp2(U)
        b_dq = tl.dot(b_P.to(b_k.dtype), b_k, b_dq * b_passed, input_precision=PRECISION)
        b_own = tl.sum(b_q.to(tl.float32) * b_dq, 1) + b_off
        tl.store(q_dq + offsets * SLICES + slice_k, b_own * factor, mask=keep)
        store_rows(dq, b_dq * factor, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
        C *= tl.exp2(total)
        b_k = (b_k.to(tl.float32) * tl.exp2(total - E)[:, None]).to(b_k.dtype)
        if EXP:
            n = n * tl.exp2(total) + tl.sum(b_k.to(tl.float32), 0)
        C = tl.dot(tl.trans(b_v), b_k, C, input_precision=PRECISION)
        q += BT * H * K
        k += BT * HK * K
        v += BT * HV * V
        do += BT * HS * V
        dq += BT * HS * K

    if dC_end is not None and end == eos:
        index = n_th * HS + h
        b_end = summed(tl.sum(C * load_state(dC_end, index, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V), 1))
        if EXP:
            b_end += tl.sum(n * load_normaliser(dn_end, index, o_k, K, K), 0)
        tl.store(d_last + index * SLICES + slice_k + tl.arange(0, 1), b_end)
