"""The sweep of dv."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_decay.device import (
    NARROWEST,
    around_middle,
    load_gates,
    load_key,
    load_keys,
    load_token,
    store_token,
    swept,
    total_of,
)
from kernels.common.device import load_rows, load_state, store_rows


@triton.jit
def step(dS, q, k, g, do, u, bonus, scale, BT: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr):
    """(dv [BT, BV], dS before the tile) of dS [BK, BV] after it and the tile's tokens."""
    total = total_of(g)
    to_q, to_k = around_middle(g, total, u is not None)
    q = q.to(tl.float32) * scale
    return swept(
        dS,
        k * to_k,
        q * to_q,
        q,
        k,
        u=u,
        bonus=bonus,
        y=do,
        total=total,
        BT=BT,
        TRANSPOSED=True,
        WIDE=WIDE,
        PRECISION=PRECISION,
    )


@triton.jit
def one(dS, q, k, g, do, u, bonus):
    """(dv [BV], dS before the token) of dS [BK, BV] after it: the recurrence itself."""
    own = tl.sum(q * k if u is None else q * bonus * k, 0)
    dv = tl.sum(k[:, None] * dS, 0) + own * do
    read = q[:, None] * do[None, :]
    decay = tl.exp(g)[:, None]
    return dv, decay * (dS + read) if u is None else decay * dS + read


@triton.jit
def sweep_dv(slice_v, place, inputs, dv, scale, sizes, settings, BK: tl.constexpr, BV: tl.constexpr):
    """dv_j = (e^(E - G_j) k_j)^T dS + sum_{t>=j} A_tj do_t, with the scores A of the output sweep.

    On chip: dS [K, BV], fp32, tiles from last to first.
    Reads:   q, k, g, u and a slice of do.
    Writes:  a slice of dv.
    """
    n, h, _segment, state_slot, begin, end = place
    q, k, _v, g, u, do, dS_end = inputs
    H: tl.constexpr = sizes.H
    HK: tl.constexpr = sizes.HK
    HS: tl.constexpr = sizes.HS
    K: tl.constexpr = sizes.K
    V: tl.constexpr = sizes.V
    BT: tl.constexpr = settings.BT
    SEGMENTED: tl.constexpr = settings.SEGMENTED
    STAGES: tl.constexpr = settings.STAGES
    WIDE: tl.constexpr = settings.WIDE
    PRECISION: tl.constexpr = settings.PRECISION
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    length = (end - begin).to(tl.int32)
    last_chunk = begin + (length - 1) // BT * BT
    q += (last_chunk * H + h // (HS // H)) * K
    if k is not None:
        k += (last_chunk * HK + h // (HS // HK)) * K
    g += (last_chunk * HS + h) * K
    do += (last_chunk * HS + h) * V
    dv += (last_chunk * HS + h) * V
    bonus = 0.0
    if u is not None:
        bonus = tl.load(u + h * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)

    dS = tl.zeros([BK, BV], dtype=tl.float32)
    if dS_end is not None:
        index = (state_slot if SEGMENTED else n) * HS + h
        dS = load_state(dS_end, index, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V + (K if SEGMENTED else 0))

    for tokens_done in tl.range(0, length, BT, num_stages=STAGES, disable_licm=True):
        chunk_start = (length - 1) // BT * BT - tokens_done
        keep = rows < length - chunk_start
        b_q = load_rows(q, stride=H * K, keep=keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_g = load_gates(g, stride=HS * K, keep=keep, start=0, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_k = load_keys(k, b_g, stride=HK * K, keep=keep, start=0, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_do = load_rows(do, stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        if tl.min(total_of(b_g), 0) > NARROWEST:
            b_dv, dS = step(
                dS, b_q, b_k, b_g, b_do, u=u, bonus=bonus, scale=scale, BT=BT, WIDE=WIDE, PRECISION=PRECISION
            )
            store_rows(dv, b_dv, stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
        else:
            count = tl.minimum(BT, length - chunk_start)
            for turn in tl.range(count, disable_licm=True):
                t = count - 1 - turn
                a_g = load_token(g + t * HS * K, o_k, K)
                a_q = load_token(q + t * H * K, o_k, K) * scale
                a_k = load_key(None if k is None else k + t * HK * K, a_g, o_k, K)
                a_do = load_token(do + t * HS * V, o_v, V)
                a_dv, dS = one(dS, a_q, a_k, a_g, a_do, u=u, bonus=bonus)
                store_token(dv + t * HS * V, a_dv, o_v, V)
        q -= BT * H * K
        if k is not None:
            k -= BT * HK * K
        g -= BT * HS * K
        do -= BT * HS * V
        dv -= BT * HS * V
