"""The sweep of dv: what a program with a slice of V does in `backward_dk_dv.py`."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import (
    between,
    load_rows,
    store_rows,
    times_state,
)
from kernels.scalar_decay.device import (
    chunk_decay,
    head_rate,
    load_features,
    start_state,
)


@triton.jit
def sweep_dv(
    slice_v,
    place,
    inputs,
    dv,
    dS_end,
    segment_states,
    scale,
    sizes,
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

    slice_v: the slice of V. On chip: dS / s [K, BV], fp32, starting from the final state's gradient.
    """
    _n, h, _segment, _state_slot, begin, end = place
    q, k, _v, gate, rate, skip, do, den = inputs
    H: tl.constexpr = sizes.H
    HK: tl.constexpr = sizes.HK
    HS: tl.constexpr = sizes.HS
    K: tl.constexpr = sizes.K
    V: tl.constexpr = sizes.V
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    length = (end - begin).to(tl.int32)
    last_chunk = begin + (length - 1) // BT * BT
    if CAUSAL:
        q += (last_chunk * H + h // (HS // H)) * K
        do += (last_chunk * HS + h) * V
    k += (last_chunk * HK + h // (HS // HK)) * K
    dv_rows = dv + (last_chunk * HS + h) * V
    b_rate = head_rate(rate, h, DECAY)

    SIZE: tl.constexpr = K * V + (K if NORMALISED else 0)
    dS = tl.zeros([BK, BV], dtype=tl.float32)
    dS = start_state(
        dS,
        dS_end,
        segment_states,
        place,
        o_k[:, None],
        o_v[None, :],
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
    for tokens_done in range(0, length, BT):
        chunk_start = (length - 1) // BT * BT - tokens_done
        keep = rows < length - chunk_start
        b_k = load_features(k, stride=HK * K, keep=keep, start=0, BT=BT, D=K, BD=BK, MAP=MAP)  # [BT, BK]
        if CAUSAL:
            b_q = load_features(q, stride=H * K, keep=keep, start=0, BT=BT, D=K, BD=BK, MAP=MAP)  # [BT, BK]
            b_do = load_rows(do, stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        if NORMALISED and CAUSAL:
            b_den = tl.load(den + (begin + chunk_start + rows) * HS + h, mask=keep, other=0.0)
            largest = tl.max(tl.abs(b_den), 0)
            dS *= largest / unit
            unit = largest
            b_do = (b_do.to(tl.float32) * (unit / tl.where(keep, b_den, 1.0))[:, None]).to(b_do.dtype)
        if CAUSAL:
            b_P = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION)  # [BT, BT]
        b_dv = times_state(b_k, dS, PRECISION)
        if DECAY != "none":
            offsets = (begin + chunk_start + rows) * HS + h
            G, E, total, _gate = chunk_decay(gate, b_rate, offsets, rows, length - chunk_start, BT=BT, DECAY=DECAY)
            b_P *= between(G[None, :], E[:, None], later)
            b_dv *= tl.exp2(total - E)[:, None]
        if CAUSAL:
            b_P = tl.where(later, b_P, 0.0)
            if skip is not None:
                b_P += tl.where(rows[:, None] == rows[None, :], tl.load(skip + h).to(tl.float32) / scale, 0.0)
            b_dv = tl.dot(b_P.to(b_do.dtype), b_do, b_dv, input_precision=PRECISION)  # [BT, BV]
        store_rows(dv_rows, b_dv * (scale / unit), stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
        if DECAY != "none":
            dS *= tl.exp2(total)
            b_do = (b_do.to(tl.float32) * tl.exp2(G)[:, None]).to(b_do.dtype)
        if CAUSAL:
            dS = tl.dot(tl.trans(b_q), b_do, dS, input_precision=PRECISION)
        if CAUSAL:
            q -= BT * H * K
            do -= BT * HS * V
        k -= BT * HK * K
        dv_rows -= BT * HS * V
