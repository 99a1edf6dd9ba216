"""The output sweep where one slice takes all of V: it makes of each chunk what it needs, as nobody shares it."""

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
from kernels.common.device import load_rows, load_state, locate, store_rows, store_state


@triton.jit
def step(S, q, k, g, v, u, bonus, scale, BT: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr):
    """(o [BT, BV], the state after the tile) of the state S [BK, BV] before it and the tile's tokens."""
    total = total_of(g)
    to_q, to_k = around_middle(g, total, u is not None)
    q = q.to(tl.float32) * scale
    return swept(
        S,
        q * to_q,
        k * to_k,
        q,
        k,
        u=u,
        bonus=bonus,
        y=v,
        total=total,
        BT=BT,
        TRANSPOSED=False,
        WIDE=WIDE,
        PRECISION=PRECISION,
    )


@triton.jit
def one(S, q, k, g, v, u, bonus):
    """(o [BV], the state after the token) of the state S [BK, BV] before it: the recurrence itself."""
    decayed = S * tl.exp(g)[:, None] + k[:, None] * v[None, :]
    if u is None:
        return tl.sum(q[:, None] * decayed, 0), decayed
    return tl.sum(q[:, None] * S, 0) + tl.sum(q * bonus * k, 0) * v, decayed


@triton.jit(do_not_specialize=["T"])
def channel_fwd_alone_kernel(
    q,
    k,
    v,
    g,
    u,
    o,
    S_start,
    S_end,
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
    SEGMENTED: tl.constexpr,
    STAGES: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """o_t = s q_t^T S_t, or s q_t^T (S_{t-1} + diag(u) k_t v_t^T) where u is given; k = 1 - e^g where k is None.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: S [K, BV], fp32, over all tiles of the segment.
    Reads:   q, k, g, u, a slice of v; a start state where one is given: one per sequence, or per segment if SEGMENTED.
    Writes:  a slice of o; the final state, where wanted, by the last segment.
    Bytes per token and state head over all slices: b (2K + 2V) + c K, with b and c bytes per element of q and g. Each
    slice loads q, k and g again, from L2.
    """
    slice_v, h, n, _, state_slot, begin, end, eos = locate(T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS)
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    q += (begin * H + h // (HS // H)) * K
    if k is not None:
        k += (begin * HK + h // (HS // HK)) * K
    v += (begin * HV + h // (HS // HV)) * V
    g += (begin * HS + h) * K
    o += (begin * HS + h) * V
    bonus = 0.0
    if u is not None:
        bonus = tl.load(u + h * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)

    S = tl.zeros([BK, BV], dtype=tl.float32)
    if S_start is not None:
        index = (state_slot if SEGMENTED else n) * HS + h
        S = load_state(S_start, index, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V + (K if SEGMENTED else 0))

    length = (end - begin).to(tl.int32)
    for chunk_start in tl.range(0, length, BT, num_stages=STAGES, disable_licm=True):
        keep = rows < length - chunk_start
        b_g = load_gates(g, stride=HS * K, keep=keep, start=0, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_q = load_rows(q, stride=H * K, keep=keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_k = load_keys(k, b_g, stride=HK * K, keep=keep, start=0, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_v = load_rows(v, stride=HV * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        if tl.min(total_of(b_g), 0) > NARROWEST:
            b_o, S = step(S, b_q, b_k, b_g, b_v, u=u, bonus=bonus, scale=scale, BT=BT, WIDE=WIDE, PRECISION=PRECISION)
            store_rows(o, b_o, stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
        else:
            for t in tl.range(tl.minimum(BT, length - chunk_start), disable_licm=True):
                a_g = load_token(g + t * HS * K, o_k, K)
                a_q = load_token(q + t * H * K, o_k, K) * scale
                a_k = load_key(None if k is None else k + t * HK * K, a_g, o_k, K)
                a_v = load_token(v + t * HV * V, o_v, V)
                a_o, S = one(S, a_q, a_k, a_g, a_v, u=u, bonus=bonus)
                store_token(o + t * HS * V, a_o, o_v, V)
        q += BT * H * K
        if k is not None:
            k += BT * HK * K
        v += BT * HV * V
        g += BT * HS * K
        o += BT * HS * V

    if S_end is not None and end == eos:
        store_state(S_end, n * HS + h, S, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
