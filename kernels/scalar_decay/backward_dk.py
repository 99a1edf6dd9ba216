"""The sweep of dk and of the gates' gradients: what a program with a slice of K does in `backward_dk_dv.py`."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import (
    between,
    load_rows,
    only_if,
    rounding,
    store_normaliser,
    store_rows,
    store_state,
    summed,
    times_state,
)
from kernels.scalar_decay.device import (
    chunk_decay,
    from_the_end,
    head_rate,
    load_features,
    power_and_rest,
    slope,
    start_normaliser,
    start_state,
)


@triton.jit
def sweep_dk(
    slice_k,
    place,
    inputs,
    delta,
    q_dq,
    outputs,
    dS_start,
    dz_start,
    dS_end,
    dz_end,
    segment_states,
    d_last,
    scale,
    sizes,
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

    slice_k: the slice of K. On chip: dS^T / s [V, BK] and dz / s [BK], fp32, starting from the final state's gradient.
    """
    n, h, segment, _state_slot, begin, end = place
    q, k, v, gate, rate, _skip, do, den = inputs
    dk, d_gate, d_weight = outputs
    H: tl.constexpr = sizes.H
    HK: tl.constexpr = sizes.HK
    HV: tl.constexpr = sizes.HV
    HS: tl.constexpr = sizes.HS
    K: tl.constexpr = sizes.K
    V: tl.constexpr = sizes.V
    rows = tl.arange(0, BT)
    o_k = slice_k * BK + tl.arange(0, BK)
    o_v = tl.arange(0, BV)
    length = (end - begin).to(tl.int32)
    last_chunk = begin + (length - 1) // BT * BT
    if CAUSAL:
        q += (last_chunk * H + h // (HS // H)) * K
        do += (last_chunk * HS + h) * V
    k += (last_chunk * HK + h // (HS // HK)) * K
    v += (last_chunk * HV + h // (HS // HV)) * V
    dk += (last_chunk * HS + h) * K
    b_rate = head_rate(rate, h, DECAY)

    SIZE: tl.constexpr = K * V + (K if NORMALISED else 0)
    dS = tl.zeros([BV, BK], dtype=tl.float32)
    dS = start_state(
        dS,
        dS_end,
        segment_states,
        place,
        o_k[None, :],
        o_v[:, None],
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
            dz_end,
            segment_states,
            place,
            o_k,
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
    carry = from_the_end(d_last, place, segment_states.count, slice_k=slice_k, HS=HS, DQ_SLICES=DQ_SLICES)

    unit = 1.0
    later = rows[:, None] <= rows[None, :]
    for tokens_done in range(0, length, BT):
        chunk_start = (length - 1) // BT * BT - tokens_done
        keep = rows < length - chunk_start
        offsets = (begin + chunk_start + rows) * HS + h
        b_v = load_rows(v, stride=HV * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        if CAUSAL:
            b_do = load_rows(do, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
            b_q = load_features(q, stride=H * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK, MAP=MAP)  # [BT, BK]
            b_P = tl.dot(b_v, tl.trans(b_do), input_precision=PRECISION)  # [BT, BT]
        if NORMALISED and CAUSAL:
            b_den = tl.load(den + offsets, mask=keep, other=0.0)
            b_delta = tl.load(delta + offsets, mask=keep, other=0.0)
            largest = tl.max(tl.abs(b_den), 0)
            dS *= largest / unit
            dz *= largest / unit
            unit = largest
            b_w = b_q.to(tl.float32) * (unit / tl.where(keep, b_den, 1.0))[:, None]
            b_q = b_w.to(b_q.dtype)
            b_P -= b_delta[None, :]
        b_dk = times_state(b_v, dS, PRECISION, PRECISE)  # [BT, BK]
        if DECAY != "none":
            G, E, total, b_gate = chunk_decay(gate, b_rate, offsets, rows, length - chunk_start, BT=BT, DECAY=DECAY)
            if DECAY == "step":
                # The gradient of dt needs dk over dt. dt's power of 2 comes in at the end, so that a small dt leaves
                # every bit, and 0 nothing to divide by; what is left of dt is rounded as in the sweep of dq.
                b_power, b_weight = power_and_rest(b_gate, b_q.dtype == tl.float32)
                E = G - tl.log2(b_weight)
            b_left = tl.exp2(total - E)
            b_P *= between(G[None, :], E[:, None], later)
            if d_gate is not None:
                b_k = load_rows(k, stride=HK * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
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
            b_dk *= slope(load_rows(k, stride=HK * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK), MAP)
        if d_gate is not None:
            b_k_dk = tl.sum(b_k.to(tl.float32) * b_dk, 1)  # [BT]
            if DECAY == "step":
                tl.store(d_weight + offsets * SLICES + slice_k, b_k_dk / b_weight, mask=keep)
                b_k_dk = (b_k_dk + b_off * scale) * b_power
                b_dk *= b_power[:, None]
            else:
                b_k_dk += b_off * scale
            b_less = -b_k_dk
            for other in tl.static_range(DQ_SLICES):
                b_less += tl.load(q_dq + offsets * DQ_SLICES + other, mask=only_if(keep, slice_k == 0), other=0.0)
            tl.store(d_gate + offsets * SLICES + slice_k, carry + tl.cumsum(b_less, 0, reverse=True), mask=keep)
            carry += summed(b_less)
        k -= BT * HK * K
        store_rows(dk, b_dk, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
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

    if dS_start is not None and segment == 0:
        store_state(dS_start, n * HS + h, dS * (scale / unit), o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V)
        if NORMALISED:
            store_normaliser(dz_start, n * HS + h, dz * (scale / unit), o_k, K=K, SIZE=K)
