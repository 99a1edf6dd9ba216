"""The backward sweeps of dk and dv in one launch: both walk from a sequence's end and share the tiles that they load.

Each program holds a slice of dC / (s 2^U), where 2^-U is the smallest denominator of the chunk: so the products run on
q as it is stored, and no weight is above 1. One of K's slices gives dk, one of V's slices dv. `backward.py` has the
equations.
"""

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
    rounding,
    segments_of,
    store_normaliser,
    store_rows,
    store_state,
    summed,
    times_state,
)
from kernels.mlstm.device import known, sums_of, weighed
from kernels.scalar_decay.device import from_the_end, start_state


@triton.jit
def _sweep_dk(
    part,
    q,
    k,
    v,
    input_gate,
    forget_gate,
    log_den,
    do,
    delta,
    q_dq,
    dk,
    d_forget,
    d_input,
    dC_start,
    dn_start,
    states,
    totals,
    d_last,
    dC_end,
    dn_end,
    scale,
    n_th,
    h,
    order,
    slot,
    low,
    high,
    count,
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
    DQ_SLICES: tl.constexpr,
    EXP: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk = s 2^U (2^{G_C-E} (v dC^T + dn) + triu((v do^T - delta) . 2^{R_i-E_j}) q); the gates' gradients.

    part: the slice of K. On chip: dC^T / (s 2^U) [V, BK] and dn / (s 2^U) [BK], fp32.
    """
    rows = tl.arange(0, BT)
    kk = part * BK + tl.arange(0, BK)
    vv = tl.arange(0, BV)
    length = (high - low).to(tl.int32)
    first_of_last = low + (length - 1) // BT * BT
    q += (first_of_last * H + h // (HS // H)) * K
    k += (first_of_last * HK + h // (HS // HK)) * K
    v += (first_of_last * HV + h // (HS // HV)) * V
    do += (first_of_last * HS + h) * V
    dk += (first_of_last * HS + h) * K

    SIZE: tl.constexpr = K * V + (K if EXP else 0)
    dC = tl.zeros([BV, BK], dtype=tl.float32)
    dC = start_state(
        dC,
        dC_start,
        states,
        totals,
        n_th,
        h=h,
        slot=slot,
        order=order,
        count=count,
        k=kk[None, :],
        v=vv[:, None],
        factor=1.0 / scale,
        HS=HS,
        K=K,
        V=V,
        SIZE=SIZE,
        DECAY="token",
        START=START,
        REVERSE=True,
    )
    dn = tl.zeros([1, BK], dtype=tl.float32)
    if EXP:
        # The column is a state of one value: its elements lie behind those of the segment's [K, V] part.
        column = None if states is None else states + K * V
        only = tl.zeros([1, 1], tl.int32)
        dn = start_state(
            dn,
            dn_start,
            column,
            totals,
            n_th,
            h=h,
            slot=slot,
            order=order,
            count=count,
            k=kk[None, :],
            v=only,
            factor=1.0 / scale,
            HS=HS,
            K=K,
            V=1,
            SIZE=SIZE,
            DECAY="token",
            START=START,
            REVERSE=True,
        )
    # The gradient of the log decay of the token after this one: of a sequence's last, through the final state alone.
    carry = from_the_end(d_last, n_th, h, order, count, part=part, HS=HS, PARTS=DQ_SLICES)

    unit = 0.0
    later = rows[:, None] <= rows[None, :]
    for done in range(0, length, BT):
        first = (length - 1) // BT * BT - done
        keep = rows < length - first
        at = (low + first + rows) * HS + h
        b_v = load_rows(v, stride=HV * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_do = load_rows(do, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_q = load_rows(q, stride=H * K, keep=keep, start=part * BK, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_k = load_rows(k, stride=HK * K, keep=keep, start=part * BK, BT=BT, D=K, BD=BK)  # [BT, BK]
        g, w = known(input_gate, forget_gate, at, keep, EXP)
        G, E, total = sums_of(g, w)
        R, U = weighed(log_den, at, keep, G, EXP)
        b_P = tl.dot(b_v, tl.trans(b_do), input_precision=PRECISION)  # [BT, BT]
        if EXP:
            dC *= tl.exp2(unit - U)
            dn *= tl.exp2(unit - U)
            unit = U
            b_delta = tl.load(delta + at, mask=keep, other=0.0)
            b_P -= b_delta[None, :]
        b_dk = times_state(b_v, dC, PRECISION, True) + dn  # [BT, BK]
        b_P = tl.where(later, b_P * between(R[None, :], E[:, None], later), 0.0)
        b_left = tl.exp2(total - E)[:, None]
        b_off = rounding(b_k, b_left, b_dk)
        factor = scale * tl.exp2(U)
        b_dk = tl.dot(b_P.to(b_q.dtype), b_q, b_dk * b_left, input_precision=PRECISION) * factor
        b_own = tl.sum(b_k.to(tl.float32) * b_dk, 1)  # [BT]
        tl.store(d_input + at * SLICES + part, b_own, mask=keep)
        b_less = -(b_own + b_off * factor)
        for other in tl.static_range(DQ_SLICES):
            b_less += tl.load(q_dq + at * DQ_SLICES + other, mask=only_if(keep, part == 0), other=0.0)
        tl.store(d_forget + at * SLICES + part, carry + tl.cumsum(b_less, 0, reverse=True), mask=keep)
        carry += summed(b_less)
        store_rows(dk, b_dk, stride=HS * K, keep=keep, start=part * BK, BT=BT, D=K, BD=BK)
        dC *= tl.exp2(total)
        b_q = (b_q.to(tl.float32) * tl.exp2(R)[:, None]).to(b_q.dtype)
        if EXP:
            dn = dn * tl.exp2(total) - tl.sum(b_q.to(tl.float32) * b_delta[:, None], 0)[None, :]
        dC = tl.dot(tl.trans(b_do), b_q, dC, input_precision=PRECISION)
        q -= BT * H * K
        k -= BT * HK * K
        v -= BT * HV * V
        do -= BT * HS * V
        dk -= BT * HS * K

    if dC_end is not None and order == 0:
        factor = scale * tl.exp2(unit)
        store_state(dC_end, n_th * HS + h, dC * factor, kk[None, :], vv[:, None], K=K, V=V, SIZE=K * V)
        if EXP:
            store_normaliser(dn_end, n_th * HS + h, tl.sum(dn, 0) * factor, kk, K=K, SIZE=K)


@triton.jit
def _sweep_dv(
    part,
    q,
    k,
    input_gate,
    forget_gate,
    log_den,
    do,
    dv,
    dC_start,
    states,
    totals,
    scale,
    n_th,
    h,
    order,
    slot,
    low,
    high,
    count,
    H: tl.constexpr,
    HK: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    EXP: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dv = s 2^U (2^{G_C-E} k dC + triu(k q^T . 2^{R_i-E_j}) do).

    part: the slice of V. On chip: dC / (s 2^U) [K, BV], fp32.
    """
    rows = tl.arange(0, BT)
    kk = tl.arange(0, BK)
    vv = part * BV + tl.arange(0, BV)
    length = (high - low).to(tl.int32)
    first_of_last = low + (length - 1) // BT * BT
    q += (first_of_last * H + h // (HS // H)) * K
    k += (first_of_last * HK + h // (HS // HK)) * K
    do += (first_of_last * HS + h) * V
    dv += (first_of_last * HS + h) * V

    SIZE: tl.constexpr = K * V + (K if EXP else 0)
    dC = tl.zeros([BK, BV], dtype=tl.float32)
    dC = start_state(
        dC,
        dC_start,
        states,
        totals,
        n_th,
        h=h,
        slot=slot,
        order=order,
        count=count,
        k=kk[:, None],
        v=vv[None, :],
        factor=1.0 / scale,
        HS=HS,
        K=K,
        V=V,
        SIZE=SIZE,
        DECAY="token",
        START=START,
        REVERSE=True,
    )

    unit = 0.0
    later = rows[:, None] <= rows[None, :]
    for done in range(0, length, BT):
        first = (length - 1) // BT * BT - done
        keep = rows < length - first
        at = (low + first + rows) * HS + h
        b_k = load_rows(k, stride=HK * K, keep=keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_q = load_rows(q, stride=H * K, keep=keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_do = load_rows(do, stride=HS * V, keep=keep, start=part * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        g, w = known(input_gate, forget_gate, at, keep, EXP)
        G, E, total = sums_of(g, w)
        R, U = weighed(log_den, at, keep, G, EXP)
        if EXP:
            dC *= tl.exp2(unit - U)
            unit = U
        b_P = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION)  # [BT, BT]
        b_P = tl.where(later, b_P * between(R[None, :], E[:, None], later), 0.0)
        b_dv = times_state(b_k, dC, PRECISION) * tl.exp2(total - E)[:, None]
        b_dv = tl.dot(b_P.to(b_do.dtype), b_do, b_dv, input_precision=PRECISION)  # [BT, BV]
        store_rows(dv, b_dv * (scale * tl.exp2(U)), stride=HS * V, keep=keep, start=part * BV, BT=BT, D=V, BD=BV)
        dC *= tl.exp2(total)
        b_do = (b_do.to(tl.float32) * tl.exp2(R)[:, None]).to(b_do.dtype)
        dC = tl.dot(tl.trans(b_q), b_do, dC, input_precision=PRECISION)
        q -= BT * H * K
        k -= BT * HK * K
        do -= BT * HS * V
        dv -= BT * HS * V


@triton.jit(do_not_specialize=["T"])
def mlstm_bwd_dk_dv_kernel(
    q,
    k,
    v,
    input_gate,
    forget_gate,
    log_den,
    do,
    delta,
    q_dq,
    dk,
    dv,
    d_forget,
    d_input,
    dC_start,
    dn_start,
    states,
    totals,
    d_last,
    dC_end,
    dn_end,
    cu_seqlens,
    scale,
    T,
    segment,
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
    WK: tl.constexpr,
    WV: tl.constexpr,
    SLICES: tl.constexpr,
    DQ_SLICES: tl.constexpr,
    EXP: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk, dv, the initial state's gradient, and what the gates' gradients are summed from.

    Grid:    sequences x segments x HS x (slices of K, then slices of V), one axis, slices fastest; chunks from last to
             first.
    On chip: dC^T [V, WK] and dn [WK], or dC [K, WV], fp32, starting from the final state's gradient.
    Reads:   slices of K: v, do and slices of q and k; delta; q_dq by slice 0. Slices of V: q, k and a slice of do.
             Both: log_den, and what the forward pass kept in the gates' place; with the sigmoid gate, both gates.
    Writes:  a slice of dk [B, T, HS, K] or dv [B, T, HS, V]; the initial state's gradient, where wanted, by the first
             segment; by each slice of K a part in d_forget [B, T, HS, slices of K] fp32, of the gradient of log f, of
             this segment's tokens alone, and in d_input, of the same shape, of the gradient of log i.
    Bytes a token and state head over all slices: s (4K + 3V) at least, as each slice loads its full tiles anew, from
    L2; + 8 + 4 (DQ_SLICES + 2 slices of K); exponential, + 8.
    """
    part, h, n_th, order, slot, low, high, end = locate(T, segment, segments, cu_seqlens, SLICES=SLICES, HS=HS)
    if low >= high:
        return
    count = segments_of(low, high, end, order, segment)
    DK_SLICES: tl.constexpr = (K + WK - 1) // WK
    if part < DK_SLICES:
        _sweep_dk(
            part,
            q,
            k,
            v,
            input_gate,
            forget_gate=forget_gate,
            log_den=log_den,
            do=do,
            delta=delta,
            q_dq=q_dq,
            dk=dk,
            d_forget=d_forget,
            d_input=d_input,
            dC_start=dC_start,
            dn_start=dn_start,
            states=states,
            totals=totals,
            d_last=d_last,
            dC_end=dC_end,
            dn_end=dn_end,
            scale=scale,
            n_th=n_th,
            h=h,
            order=order,
            slot=slot,
            low=low,
            high=high,
            count=count,
            H=H,
            HK=HK,
            HV=HV,
            HS=HS,
            K=K,
            V=V,
            BT=BT,
            BK=WK,
            BV=BV,
            SLICES=DK_SLICES,
            DQ_SLICES=DQ_SLICES,
            EXP=EXP,
            START=START,
            PRECISION=PRECISION,
        )
    # Not else: Triton 3.6 would give each branch shared memory of its own, and fewer programs would fit.
    if part >= DK_SLICES:
        _sweep_dv(
            part - DK_SLICES,
            q,
            k,
            input_gate,
            forget_gate,
            log_den=log_den,
            do=do,
            dv=dv,
            dC_start=dC_start,
            states=states,
            totals=totals,
            scale=scale,
            n_th=n_th,
            h=h,
            order=order,
            slot=slot,
            low=low,
            high=high,
            count=count,
            H=H,
            HK=HK,
            HS=HS,
            K=K,
            V=V,
            BT=BT,
            BK=BK,
            BV=WV,
            EXP=EXP,
            START=START,
            PRECISION=PRECISION,
        )
