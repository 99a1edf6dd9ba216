"""The backward sweeps of dk and dv in one launch: both walk from a sequence's end and share the tiles that they load.

Each program holds a slice of dS / s, so that the products run on q as it is stored: one of K's slices gives dk, one of
V's slices dv. Normalised, they hold it times `unit`, the largest denominator of the chunk, since the weights 1 / den of
a long sequence are too small for fp16. `backward.py` has the equations.
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
from kernels.scalar_decay.device import (
    chunk_decay,
    features,
    from_the_end,
    head_rate,
    power_and_rest,
    slope,
    start_normaliser,
    start_state,
)


@triton.jit
def _sweep_dk(
    part,
    q,
    k,
    v,
    gate,
    rate,
    do,
    den,
    delta,
    q_dq,
    dk,
    d_gate,
    d_weight,
    dS_start,
    dz_start,
    states,
    totals,
    d_last,
    dS_end,
    dz_end,
    scale,
    n,
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
    MAP: tl.constexpr,
    NORMALISED: tl.constexpr,
    DECAY: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """dk = s x phi'(k) (e^{G_C-G} v dS^T + dz + triu((v do^T - delta) . e^{G_i-G_j}) phi(q) / den); gates' gradients.

    part: the slice of K. On chip: dS^T / s [V, BK] and dz / s [BK], fp32, starting from the final state's gradient.
    """
    rows = tl.arange(0, BT)
    kk = part * BK + tl.arange(0, BK)
    vv = tl.arange(0, BV)
    length = (high - low).to(tl.int32)
    last = low + (length - 1) // BT * BT
    if CAUSAL:
        q += (last * H + h // (HS // H)) * K
        do += (last * HS + h) * V
    k += (last * HK + h // (HS // HK)) * K
    v += (last * HV + h // (HS // HV)) * V
    dk += (last * HS + h) * K
    b_rate = head_rate(rate, h, DECAY)

    SIZE: tl.constexpr = K * V + (K if NORMALISED else 0)
    dS = tl.zeros([BV, BK], dtype=tl.float32)
    dS = start_state(
        dS,
        dS_start,
        states,
        totals,
        n,
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
        DECAY=DECAY,
        START=START,
        REVERSE=True,
    )
    dz = tl.zeros([BK], dtype=tl.float32)
    if NORMALISED:
        dz = start_normaliser(
            dz,
            dz_start,
            states,
            n,
            h,
            slot=slot,
            order=order,
            count=count,
            k=kk,
            factor=1.0 / scale,
            HS=HS,
            K=K,
            V=V,
            SIZE=SIZE,
            START=START,
            REVERSE=True,
        )
    PRECISE: tl.constexpr = d_gate is not None
    # The gradient of the log decay of the token after this one: of a sequence's last, through the final state alone.
    carry = from_the_end(d_last, n, h, order, count, part=part, HS=HS, PARTS=DQ_SLICES)

    unit = 1.0
    later = rows[:, None] <= rows[None, :]
    for done in range(0, length, BT):
        first = (length - 1) // BT * BT - done
        keep = rows < length - first
        at = (low + first + rows) * HS + h
        b_v = load_rows(v, stride=HV * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        if CAUSAL:
            b_do = load_rows(do, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
            b_q = features(
                load_rows(q, stride=H * K, keep=keep, start=part * BK, BT=BT, D=K, BD=BK),
                keep,
                part * BK,
                D=K,
                BD=BK,
                MAP=MAP,
            )  # [BT, BK]
            b_P = tl.dot(b_v, tl.trans(b_do), input_precision=PRECISION)  # [BT, BT]
        if NORMALISED and CAUSAL:
            b_den = tl.load(den + at, mask=keep, other=0.0)
            b_delta = tl.load(delta + at, mask=keep, other=0.0)
            largest = tl.max(tl.abs(b_den), 0)
            dS *= largest / unit
            dz *= largest / unit
            unit = largest
            b_w = b_q.to(tl.float32) * (unit / tl.where(keep, b_den, 1.0))[:, None]
            b_q = b_w.to(b_q.dtype)
            b_P -= b_delta[None, :]
        b_dk = times_state(b_v, dS, PRECISION, PRECISE)  # [BT, BK]
        if DECAY != "none":
            G, E, total, b_gate = chunk_decay(gate, b_rate, at, rows, length - first, BT=BT, DECAY=DECAY)
            if DECAY == "step":
                # The gradient of dt needs dk over dt. dt's power of 2 comes in at the end, so that a small dt leaves
                # every bit, and 0 nothing to divide by; what is left of dt is rounded as in the sweep of dq.
                b_power, b_weight = power_and_rest(b_gate, b_q.dtype == tl.float32)
                E = G - tl.log2(b_weight)
            b_left = tl.exp2(total - E)
            b_P *= between(G[None, :], E[:, None], later)
            if d_gate is not None:
                b_k = load_rows(k, stride=HK * K, keep=keep, start=part * BK, BT=BT, D=K, BD=BK)
                b_off = rounding(b_k, b_left[:, None], b_dk)
            b_dk *= b_left[:, None]
        if CAUSAL:
            b_P = tl.where(later, b_P, 0.0)
            b_dk = tl.dot(b_P.to(b_q.dtype), b_q, b_dk, input_precision=PRECISION)
        if NORMALISED:
            b_dk += dz[None, :]
            if CAUSAL:
                dz -= tl.sum(b_w * b_delta[:, None], 0)
        b_dk *= scale / unit
        if MAP != "identity":
            b_dk *= slope(load_rows(k, stride=HK * K, keep=keep, start=part * BK, BT=BT, D=K, BD=BK), MAP)
        if d_gate is not None:
            b_k_dk = tl.sum(b_k.to(tl.float32) * b_dk, 1)  # [BT]
            if DECAY == "step":
                tl.store(d_weight + at * SLICES + part, b_k_dk / b_weight, mask=keep)
                b_k_dk = (b_k_dk + b_off * scale) * b_power
                b_dk *= b_power[:, None]
            else:
                b_k_dk += b_off * scale
            b_less = -b_k_dk
            for other in tl.static_range(DQ_SLICES):
                b_less += tl.load(q_dq + at * DQ_SLICES + other, mask=only_if(keep, part == 0), other=0.0)
            tl.store(d_gate + at * SLICES + part, carry + tl.cumsum(b_less, 0, reverse=True), mask=keep)
            carry += summed(b_less)
        k -= BT * HK * K
        store_rows(dk, b_dk, stride=HS * K, keep=keep, start=part * BK, BT=BT, D=K, BD=BK)
        if DECAY != "none":
            dS *= tl.exp2(total)
            b_q = (b_q.to(tl.float32) * tl.exp2(G)[:, None]).to(b_q.dtype)
        if CAUSAL:
            dS = tl.dot(tl.trans(b_do), b_q, dS, input_precision=PRECISION)
        if CAUSAL:
            q -= BT * H * K
            do -= BT * HS * V
        v -= BT * HV * V
        dk -= BT * HS * K

    if dS_end is not None and order == 0:
        store_state(dS_end, n * HS + h, dS * (scale / unit), kk[None, :], vv[:, None], K=K, V=V, SIZE=K * V)
        if NORMALISED:
            store_normaliser(dz_end, n * HS + h, dz * (scale / unit), kk, K=K, SIZE=K)


@triton.jit
def _sweep_dv(
    part,
    q,
    k,
    gate,
    rate,
    skip,
    do,
    den,
    dv,
    dS_start,
    states,
    totals,
    scale,
    n,
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
    MAP: tl.constexpr,
    NORMALISED: tl.constexpr,
    DECAY: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """dv = s x (e^{G_C-G} phi(k) dS + triu(phi(k) phi(q)^T . e^{G_i-G_j}) do / den) + D do.

    part: the slice of V. On chip: dS / s [K, BV], fp32, starting from the final state's gradient.
    """
    rows = tl.arange(0, BT)
    kk = tl.arange(0, BK)
    vv = part * BV + tl.arange(0, BV)
    length = (high - low).to(tl.int32)
    last = low + (length - 1) // BT * BT
    if CAUSAL:
        q += (last * H + h // (HS // H)) * K
        do += (last * HS + h) * V
    k += (last * HK + h // (HS // HK)) * K
    dv += (last * HS + h) * V
    b_rate = head_rate(rate, h, DECAY)

    SIZE: tl.constexpr = K * V + (K if NORMALISED else 0)
    dS = tl.zeros([BK, BV], dtype=tl.float32)
    dS = start_state(
        dS,
        dS_start,
        states,
        totals,
        n,
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
        DECAY=DECAY,
        START=START,
        REVERSE=True,
    )

    unit = 1.0
    later = rows[:, None] <= rows[None, :]
    for done in range(0, length, BT):
        first = (length - 1) // BT * BT - done
        keep = rows < length - first
        b_k = features(
            load_rows(k, stride=HK * K, keep=keep, start=0, BT=BT, D=K, BD=BK), keep, 0, D=K, BD=BK, MAP=MAP
        )  # [BT, BK]
        if CAUSAL:
            b_q = features(
                load_rows(q, stride=H * K, keep=keep, start=0, BT=BT, D=K, BD=BK), keep, 0, D=K, BD=BK, MAP=MAP
            )  # [BT, BK]
            b_do = load_rows(do, stride=HS * V, keep=keep, start=part * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        if NORMALISED and CAUSAL:
            b_den = tl.load(den + (low + first + rows) * HS + h, mask=keep, other=0.0)
            largest = tl.max(tl.abs(b_den), 0)
            dS *= largest / unit
            unit = largest
            b_do = (b_do.to(tl.float32) * (unit / tl.where(keep, b_den, 1.0))[:, None]).to(b_do.dtype)
        if CAUSAL:
            b_P = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION)  # [BT, BT]
        b_dv = times_state(b_k, dS, PRECISION)
        if DECAY != "none":
            at = (low + first + rows) * HS + h
            G, E, total, _gate = chunk_decay(gate, b_rate, at, rows, length - first, BT=BT, DECAY=DECAY)
            b_P *= between(G[None, :], E[:, None], later)
            b_dv *= tl.exp2(total - E)[:, None]
        if CAUSAL:
            b_P = tl.where(later, b_P, 0.0)
            if skip is not None:
                b_P += tl.where(rows[:, None] == rows[None, :], tl.load(skip + h).to(tl.float32) / scale, 0.0)
            b_dv = tl.dot(b_P.to(b_do.dtype), b_do, b_dv, input_precision=PRECISION)  # [BT, BV]
        store_rows(dv, b_dv * (scale / unit), stride=HS * V, keep=keep, start=part * BV, BT=BT, D=V, BD=BV)
        if DECAY != "none":
            dS *= tl.exp2(total)
            b_do = (b_do.to(tl.float32) * tl.exp2(G)[:, None]).to(b_do.dtype)
        if CAUSAL:
            dS = tl.dot(tl.trans(b_q), b_do, dS, input_precision=PRECISION)
        if CAUSAL:
            q -= BT * H * K
            do -= BT * HS * V
        k -= BT * HK * K
        dv -= BT * HS * V


@triton.jit(do_not_specialize=["T"])
def linear_bwd_dk_dv_kernel(
    q,
    k,
    v,
    gate,
    rate,
    skip,
    do,
    den,
    delta,
    q_dq,
    dk,
    dv,
    d_gate,
    d_weight,
    dS_start,
    dz_start,
    states,
    totals,
    d_last,
    dS_end,
    dz_end,
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
    MAP: tl.constexpr,
    NORMALISED: tl.constexpr,
    DECAY: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """dk, dv, the initial state's gradient, and what the gates' gradients are summed from.

    Grid:    sequences x segments x HS x (slices of K, then slices of V), one axis, slices fastest; chunks from last to
             first.
    On chip: dS^T / s [V, WK] and dz / s [WK], or dS / s [K, WV], fp32, starting from the final state's gradient.
    Not CAUSAL, dk = s phi'(k) (v dS^T + dz) and dv = s phi(k) dS with the whole sequence's dS and dz: slices of K read
    v, those of V read k; q, do, den and delta are None.
    Reads:   slices of K: v, do and a slice of q; a slice of k where phi has a slope or a gate its gradient; delta.
             Slices of V: q, k and a slice of do. Both: den where normalised; gate and rate where given.
    Writes:  a slice of dk [B, T, HS, K] or dv [B, T, HS, V]; the initial state's gradient, where wanted, by the first
             segment; for the gradient of a gate, by each slice of K a part in d_gate [B, T, HS, slices of K] fp32, of
             this segment's tokens alone, and in d_weight, of the same shape, of the weight dt on v.
    Bytes a token and state head over all slices: s (4K + 3V) at least, as each slice loads its full tiles anew, from
    L2; + 8 normalised; + 4 (DQ_SLICES + 2 slices of K) and a gate's element for a gate's gradient.
    """
    part, h, n, order, slot, low, high, end = locate(T, segment, segments, cu_seqlens, SLICES=SLICES, HS=HS)
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
            gate,
            rate=rate,
            do=do,
            den=den,
            delta=delta,
            q_dq=q_dq,
            dk=dk,
            d_gate=d_gate,
            d_weight=d_weight,
            dS_start=dS_start,
            dz_start=dz_start,
            states=states,
            totals=totals,
            d_last=d_last,
            dS_end=dS_end,
            dz_end=dz_end,
            scale=scale,
            n=n,
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
            MAP=MAP,
            NORMALISED=NORMALISED,
            DECAY=DECAY,
            START=START,
            PRECISION=PRECISION,
            CAUSAL=CAUSAL,
        )
    # Not else: Triton 3.6 would give each branch shared memory of its own, and fewer programs would fit.
    if part >= DK_SLICES:
        _sweep_dv(
            part - DK_SLICES,
            q,
            k,
            gate,
            rate,
            skip=skip,
            do=do,
            den=den,
            dv=dv,
            dS_start=dS_start,
            states=states,
            totals=totals,
            scale=scale,
            n=n,
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
            MAP=MAP,
            NORMALISED=NORMALISED,
            DECAY=DECAY,
            START=START,
            PRECISION=PRECISION,
            CAUSAL=CAUSAL,
        )
