"""The sweep of dk: dk, the gradients of gates, bonus and initial state, and what is missing of dq."""

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
from kernels.common.device import load_rows, load_state, store_rows, store_state


@triton.jit
def step(
    dS, q, g, v, do, scale, EXCLUSIVE: tl.constexpr, BT: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr
):
    """(dk [BT, BK] without own terms, v_t . do_t [BT], dS before the tile) of dS [BV, BK] after it and its tokens."""
    rows = tl.arange(0, BT)
    total = total_of(g)
    to_q, to_k = around_middle(g, total, EXCLUSIVE)
    P = times(v, tl.trans(do), WIDE, PRECISION)  # keys by queries
    own = tl.sum(tl.where(rows[:, None] == rows[None, :], P, 0.0), 1)
    P = tl.where(rows[:, None] < rows[None, :], P, 0.0)
    q = q.to(tl.float32) * (to_q * scale)
    factor = tl.exp2(total * 0.5)[None, :]
    dS *= factor
    dk = times(v, dS, WIDE, PRECISION)
    dk = times_add(P, q, dk, WIDE, PRECISION) * to_k
    return dk, own, times_add(tl.trans(do), q, dS, WIDE, PRECISION) * factor


@triton.jit
def one(dS, q, g, v, do, u):
    """(dk [BK] without the own term, v . do, dS before the token) of dS [BV, BK] after it: the recurrence itself."""
    dk = tl.sum(v[:, None] * dS, 0)
    read = do[:, None] * q[None, :]
    decay = tl.exp(g)[None, :]
    return dk, tl.sum(v * do, 0), decay * (dS + read) if u is None else decay * dS + read


@triton.jit
def gate_gradient(q, k, u, dq, dk, after):
    """(dg [BT, BK], the sum of S dS over V before the tile [BK]), given the sum after it; dq and dk without own terms.

    A gate e^g_i scales every pair of an earlier key and a later query, and what S carries past the tile:
    dg_i = sum_v (S dS)_after + sum_{t >= i} q_t dq_t - sum_{j >= i} k_j dk_j, with a bonus from t > i on.
    """
    read = q * dq
    pairs = read - k * dk
    dg = after[None, :] + tl.cumsum(pairs, 0, reverse=True)
    return dg if u is None else dg - read, after + tl.sum(pairs, 0)


@triton.jit
def with_own(q, k, g, u, bonus, dq, dk, dg, own, DERIVED: tl.constexpr):
    """(dq, dk, dg, du's terms) with the terms of each token's own score, whose gradient is `own`.

    DERIVED: k is 1 - e^g, and what flows into it flows on into g.
    """
    du = own * q * k
    if u is not None:
        own = own * bonus
    dk += own * q
    if DERIVED:
        dg -= dk * tl.exp(g)
    return dq + own * k, dk, dg, du


@triton.jit
def sweep_dk(slice_k, place, inputs, gradients, stored, scale, sizes, settings, BK: tl.constexpr, BV: tl.constexpr):
    """dk_j = diag(e^(E - G_j)) dS v_j + sum_{t>j} s e^(R_t - G_j) q_t (v_j . do_t) + own term, and what follows.

    On chip: dS^T [V, BK], fp32, tiles from last to first.
    Reads:   v, do; slices of q, k, g, dq and the checkpoints.
    Writes:  slices of dq, which it completes, dk and dg; du's part of this segment; the initial state's gradient, where
             wanted, by the first segment.
    """
    n, h, segment, state_slot, begin, end = place
    q, k, v, g, u, do, dS_end = inputs
    checkpoints, cu_seqlens, T, segment_size = stored
    dq, dk, _dv, dg, du, dS_start = gradients
    H: tl.constexpr = sizes.H
    HK: tl.constexpr = sizes.HK
    HV: tl.constexpr = sizes.HV
    HS: tl.constexpr = sizes.HS
    K: tl.constexpr = sizes.K
    V: tl.constexpr = sizes.V
    BT: tl.constexpr = settings.BT
    SEGMENTED: tl.constexpr = settings.SEGMENTED
    INTERVAL: tl.constexpr = settings.INTERVAL
    STAGES: tl.constexpr = settings.STAGES
    WIDE: tl.constexpr = settings.WIDE
    PRECISION: tl.constexpr = settings.PRECISION
    rows = tl.arange(0, BT)
    o_k = slice_k * BK + tl.arange(0, BK)
    o_v = tl.arange(0, BV)
    length = (end - begin).to(tl.int32)
    last_chunk = begin + (length - 1) // BT * BT
    q += (last_chunk * H + h // (HS // H)) * K
    if k is not None:
        k += (last_chunk * HK + h // (HS // HK)) * K
        dk += (last_chunk * HS + h) * K
    v += (last_chunk * HV + h // (HS // HV)) * V
    g += (last_chunk * HS + h) * K
    do += (last_chunk * HS + h) * V
    dq += (last_chunk * HS + h) * K
    dg += (last_chunk * HS + h) * K
    block = block_of(begin, segment, n, segment_size, INTERVAL, T=T, cu_seqlens=cu_seqlens)
    bonus = 0.0
    if u is not None:
        bonus = tl.load(u + h * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)

    dS = tl.zeros([BV, BK], dtype=tl.float32)
    if dS_end is not None:
        index = (state_slot if SEGMENTED else n) * HS + h
        dS = load_state(dS_end, index, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V + (K if SEGMENTED else 0))
    after = tl.zeros([BK], dtype=tl.float32)
    sum_du = tl.zeros([BK], dtype=tl.float32)

    for tokens_done in tl.range(0, length, BT, num_stages=STAGES, disable_licm=True):
        chunk_start = (length - 1) // BT * BT - tokens_done
        keep = rows < length - chunk_start
        b_v = load_rows(v, stride=HV * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_do = load_rows(do, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_q = load_rows(q, stride=H * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_g = load_gates(g, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_k = load_keys(k, b_g, stride=HK * K, keep=keep, start=slice_k * BK, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_dq = load_rows(dq, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)  # [BT, BK]
        if (tokens_done == 0) | ((chunk_start + BT) % INTERVAL == 0):
            # Summed from pairs alone, rounding errors would pile up over a whole sequence.
            kept = (block + chunk_start // INTERVAL) * HS + h
            after = tl.sum(load_state(checkpoints, kept, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V) * dS, 0)
        if tl.min(total_of(b_g), 0) > NARROWEST:
            b_dk, b_own, dS = step(
                dS, b_q, b_g, b_v, b_do, scale=scale, EXCLUSIVE=u is not None, BT=BT, WIDE=WIDE, PRECISION=PRECISION
            )
            b_dg, after = gate_gradient(b_q.to(tl.float32), b_k, u, b_dq.to(tl.float32), b_dk, after=after)
            whole_dq, b_dk, b_dg, b_du = with_own(
                b_q.to(tl.float32),
                b_k,
                b_g.to(tl.float32),
                u,
                None if u is None else bonus[None, :],
                dq=b_dq.to(tl.float32),
                dk=b_dk,
                dg=b_dg,
                own=(b_own * scale)[:, None],
                DERIVED=k is None,
            )
            store_rows(dq, whole_dq, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
            if k is not None:
                store_rows(dk, b_dk, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
            store_rows(dg, b_dg, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
            sum_du += tl.sum(b_du, 0)
        else:
            count = tl.minimum(BT, length - chunk_start)
            for turn in tl.range(count, disable_licm=True):
                t = count - 1 - turn
                a_v = load_token(v + t * HV * V, o_v, V)
                a_do = load_token(do + t * HS * V, o_v, V)
                a_q = load_token(q + t * H * K, o_k, K)
                a_g = load_token(g + t * HS * K, o_k, K)
                a_k = load_key(None if k is None else k + t * HK * K, a_g, o_k, K)
                a_dq = load_token(dq + t * HS * K, o_k, K)
                a_dk, a_own, dS = one(dS, a_q * scale, a_g, a_v, a_do, u=u)
                pairs = a_q * a_dq - a_k * a_dk
                a_dg = after + pairs if u is None else after - a_k * a_dk
                after += pairs
                a_dq, a_dk, a_dg, a_du = with_own(
                    a_q, a_k, a_g, u, bonus, dq=a_dq, dk=a_dk, dg=a_dg, own=a_own * scale, DERIVED=k is None
                )
                # Several warps read the same of a token's dq: none may complete it before the last has read.
                tl.debug_barrier()
                store_token(dq + t * HS * K, a_dq, o_k, K)
                if k is not None:
                    store_token(dk + t * HS * K, a_dk, o_k, K)
                store_token(dg + t * HS * K, a_dg, o_k, K)
                sum_du += a_du
        q -= BT * H * K
        if k is not None:
            k -= BT * HK * K
            dk -= BT * HS * K
        v -= BT * HV * V
        g -= BT * HS * K
        do -= BT * HS * V
        dq -= BT * HS * K
        dg -= BT * HS * K

    if u is not None:
        tl.store(du + (state_slot * HS + h) * K + o_k, sum_du, mask=o_k < K)
    if dS_start is not None and segment == 0:
        store_state(dS_start, n * HS + h, dS, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V)
