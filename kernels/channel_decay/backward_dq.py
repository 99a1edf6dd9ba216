"""The first backward sweep: dq without each token's own part, checkpoints of the state, the segments' contributions."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_decay.device import (
    NARROWEST,
    around_middle,
    block_of,
    load_gates,
    load_key,
    load_keys,
    load_token,
    store_token,
    times,
    times_add,
    total_of,
)
from kernels.common.device import LOG2E, load_rows, load_state, locate, store_rows, store_state


@triton.jit
def step(
    S,
    own,
    whole,
    q,
    k,
    g,
    v,
    do,
    scale,
    EXCLUSIVE: tl.constexpr,
    BT: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """(dq [BT, BK], then after the tile: S [BV, BK], the segment's contribution, log2 of its decay) given those before.

    q is None where no contribution is wanted.
    """
    rows = tl.arange(0, BT)
    total = total_of(g)
    to_q, to_k = around_middle(g, total, EXCLUSIVE)
    P = times(do, tl.trans(v), WIDE, PRECISION)
    P = tl.where(rows[:, None] > rows[None, :], P, 0.0)
    factor = tl.exp2(total * 0.5)[None, :]
    S *= factor
    dq = times(do, S, WIDE, PRECISION)
    dq = times_add(P, k * to_k, dq, WIDE, PRECISION) * (to_q * scale)
    S = times_add(tl.trans(v), k * to_k, S, WIDE, PRECISION) * factor
    if q is not None:
        q = q.to(tl.float32) * (to_q * (tl.exp2(whole + total * 0.5) * scale)[None, :])
        own = times_add(tl.trans(do), q, own, WIDE, PRECISION)
        whole += total
    return dq, S, own, whole


@triton.jit
def one(S, g, do, EXCLUSIVE: tl.constexpr):
    """(dq / s [BK] without the own term, the decayed state) of the state S [BV, BK] before a token: the recurrence."""
    decayed = S * tl.exp(g)[None, :]
    return tl.sum(do[:, None] * (S if EXCLUSIVE else decayed), 0), decayed


@triton.jit(do_not_specialize=["T"])
def channel_bwd_dq_kernel(
    q,
    k,
    v,
    g,
    do,
    dq,
    S_start,
    checkpoints,
    contributions,
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
    EXCLUSIVE: tl.constexpr,
    INTERVAL: tl.constexpr,
    STAGES: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq_t without the term of its own token, s (diag(e^R_t) S do_t + sum_{j<t} e^(R_t - G_j) k_j (v_j . do_t)).

    The own term, s (v_t . do_t) k_t, does not pass through a gate: the sweep of dk adds it, after taking the gates'
    gradient from what is written here.

    Grid:    sequences x segments x HS x slices of K, one axis, slices fastest.
    On chip: S^T [V, BK] and, if SEGMENTED, the segment's contribution to dS^T [V, BK], fp32.
    Reads:   v, do, slices of k and g, and if SEGMENTED of q; a start state where there is one.
    Writes:  a slice of dq [B, T, HS, K]; S after every INTERVAL tokens to checkpoints [blocks, HS, K, V]; if SEGMENTED,
             sum_t s e^R_t q_t do_t^T and the whole decay e^E to contributions [slots, HS, KV + K] fp32.
    Bytes per token and state head over all slices: b (2K + 2V) + c K, b and c bytes per element of q, g, + b K if
    SEGMENTED; KV elements per INTERVAL.
    """
    slice_k, h, n, segment, state_slot, begin, end, _ = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = slice_k * BK + tl.arange(0, BK)
    o_v = tl.arange(0, BV)
    if SEGMENTED:
        q += (begin * H + h // (HS // H)) * K
    if k is not None:
        k += (begin * HK + h // (HS // HK)) * K
    v += (begin * HV + h // (HS // HV)) * V
    g += (begin * HS + h) * K
    do += (begin * HS + h) * V
    dq += (begin * HS + h) * K
    block = block_of(begin, segment, n, segment_size, INTERVAL, T=T, cu_seqlens=cu_seqlens)

    S = tl.zeros([BV, BK], dtype=tl.float32)
    if S_start is not None:
        index = (state_slot if SEGMENTED else n) * HS + h
        S = load_state(S_start, index, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V + (K if SEGMENTED else 0))
    own = tl.zeros([BV, BK], dtype=tl.float32)
    whole = tl.zeros([BK], dtype=tl.float32)

    length = (end - begin).to(tl.int32)
    for chunk_start in tl.range(0, length, BT, num_stages=STAGES, disable_licm=True):
        keep = rows < length - chunk_start
        b_do = load_rows(do, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_v = load_rows(v, stride=HV * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_g = load_gates(g, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_k = load_keys(k, b_g, stride=HK * K, keep=keep, start=slice_k * BK, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_q = load_rows(q, stride=H * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK) if SEGMENTED else None
        if tl.min(total_of(b_g), 0) > NARROWEST:
            b_dq, S, own, whole = step(
                S,
                own,
                whole,
                b_q,
                b_k,
                g=b_g,
                v=b_v,
                do=b_do,
                scale=scale,
                EXCLUSIVE=EXCLUSIVE,
                BT=BT,
                WIDE=WIDE,
                PRECISION=PRECISION,
            )
            store_rows(dq, b_dq, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
        else:
            for t in tl.range(tl.minimum(BT, length - chunk_start), disable_licm=True):
                a_g = load_token(g + t * HS * K, o_k, K)
                a_k = load_key(None if k is None else k + t * HK * K, a_g, o_k, K)
                a_v = load_token(v + t * HV * V, o_v, V)
                a_do = load_token(do + t * HS * V, o_v, V)
                a_dq, decayed = one(S, a_g, a_do, EXCLUSIVE)
                store_token(dq + t * HS * K, a_dq * scale, o_k, K)
                S = decayed + a_v[:, None] * a_k[None, :]
                if SEGMENTED:
                    after = whole + a_g * LOG2E
                    a_q = load_token(q + t * H * K, o_k, K) * (tl.exp2(whole if EXCLUSIVE else after) * scale)
                    own += a_do[:, None] * a_q[None, :]
                    whole = after
        if ((chunk_start + BT) % INTERVAL == 0) | (chunk_start + BT >= length):
            store_state(
                checkpoints,
                (block + chunk_start // INTERVAL) * HS + h,
                S,
                o_k[None, :],
                o_v[:, None],
                K=K,
                V=V,
                SIZE=K * V,
            )
        if SEGMENTED:
            q += BT * H * K
        if k is not None:
            k += BT * HK * K
        v += BT * HV * V
        g += BT * HS * K
        do += BT * HS * V
        dq += BT * HS * K

    if SEGMENTED:
        SIZE: tl.constexpr = K * V + K
        store_state(contributions, state_slot * HS + h, own, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=SIZE)
        tl.store(contributions + (state_slot * HS + h) * SIZE + K * V + o_k, tl.exp2(whole), mask=o_k < K)
