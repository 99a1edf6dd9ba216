"""The backward pass: a sweep of the state's gradient from the last chunk to the first, then all chunks at once.

For a chunk with start state S, gradient dS of the state at its end, r and N of the forward pass, w = b r:

    dw = s P^T do + e^(Gc-G) k dS          P = tril(q k^T . e^(G_i-G_j))      L = tril(k k^T . e^(G_i-G_j), -1)
    y  = (I + N)^T (b dw) = dv             dS <- e^Gc dS + s (e^G q)^T do - (e^G k)^T y
    D1 = tril(s do r^T . e^(G_i-G_j)) b_j      D2 = tril(y r^T . e^(G_i-G_j), -1) b_j
    dq = s e^G do S^T + D1 k
    dk = -e^G y S^T + D1^T q - (D2 + D2^T) k + b e^(Gc-G) r dS^T
    db = columns of (P . D1 - L . D2) / b  + e^(Gc-G) k . (dS r)

The gradient of the log decay at step t is what all paths carry across it, every term a sum without cancellation: pairs
of the chunk (i >= t > j), reads of the start state at i >= t, writes at j < t that reach the end, and e^Gc <S, dS>.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import load_state, store_state, summed, times_state
from kernels.delta.device import (
    add_times_state,
    chunk_slot,
    decays,
    load_gates,
    load_tile,
    locate,
    store_tile,
    tokens,
    total,
    unit_rows,
)
from kernels.delta.pairs import find_again, keep_state, partner, partner_factors


@triton.jit(do_not_specialize=["T"])
def delta_bwd_state_kernel(
    q,
    k,
    do,
    beta,
    log_decay,
    inverse,
    dv,
    dstates,
    local,
    dS_end,
    dS_start,
    cu_seqlens,
    scale,
    T,
    segment_size,
    segments,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    STEPS: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    KEEP: tl.constexpr,
    L2NORM: tl.constexpr,
    SEGMENTED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dv = y, the state's gradient after every KEEP chunks, and the initial state's gradient.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest; chunks from last to first.
    On chip: dS [K, BV], fp32, starting from the final state's gradient (a segment's if SEGMENTED).
    Reads:   q, k, a slice of do, the gates, N.
    Writes:  a slice of dv and of dstates [slots, HS, K, V]; the initial state's gradient, where wanted, by the first
             segment. With `local` instead, only what a segment makes of a zero gradient, in its slot, by all
             segments but the first.
    Bytes per step and state head over all slices, one step per token: s (2K + 2V + KV / (KEEP BT) + BT) + 8.
    """
    slice_v, h, n, segment, state_slot, begin, end, _, bos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=HS, STEPS=STEPS
    )
    if (begin >= end) | ((segment == 0) & (local is not None)):
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    head = h // (HS // H)
    later = rows[:, None] <= rows[None, :]
    GATED: tl.constexpr = log_decay is not None

    dS = tl.zeros([BK, BV], dtype=tl.float32)
    if dS_end is not None:
        dS = load_state(
            dS_end, (state_slot if SEGMENTED else n) * HS + h, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V
        )
    length = (end - begin).to(tl.int32)
    chunks = tl.cdiv(length, BT)
    chunk = (chunk_slot(n, bos, begin, T, cu_seqlens, BT=BT, STEPS=STEPS) + chunks - 1) * HS + h
    for chunks_done in tl.range(0, chunks, disable_licm=True):
        chunk_start = (chunks - 1 - chunks_done) * BT
        first_step = begin + chunk_start
        keep = rows < length - chunk_start
        token, inside, closes, _opens = tokens(first_step, rows, STEPS)
        b_k = load_tile(k + (first_step * H + head) * K, rows, keep, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        b_q = load_tile(q + (token * H + head) * K, inside, keep & closes, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        b_do = load_tile(
            do + (token * HS + h) * V, inside, keep & closes, HS * V, start=slice_v * BV, D=V, BD=BV
        )  # [BT, BV]
        b_Nt = tl.load(inverse + chunk * BT * BT + rows[None, :] * BT + rows[:, None])  # [BT, BT]
        b, G = load_gates(beta, log_decay, first_step, rows, keep, h, HS=HS, STEPS=STEPS)
        b_k, f_k, _rest = unit_rows(b_k, L2NORM)
        b_q, f_q, _rest = unit_rows(b_q, L2NORM)
        if dstates is not None:
            count = tl.where((chunk_start // BT % KEEP == KEEP - 1) | (chunks_done == 0), K, 0)
            kept = chunk_slot(n, bos, first_step, T, cu_seqlens, BT=KEEP * BT, STEPS=STEPS) * HS + h
            keep_state(dstates, kept, dS, o_k[:, None], v=o_v[None, :], count=count, K=K, V=V)
        b_Pt = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION)  # [BT, BT]
        b_Pt = b_Pt * decays(G, later, True) if GATED else tl.where(later, b_Pt, 0.0)
        b_dw = times_state(b_k, dS, PRECISION)  # [BT, BV]
        G_last = total(G, BT)
        if GATED:
            b_dw *= tl.exp(G_last - G)[:, None]
        b_do = (b_do.to(tl.float32) * (f_q * scale)[:, None]).to(b_do.dtype)
        b_dw = tl.dot(b_Pt.to(b_do.dtype), b_do, b_dw, input_precision=PRECISION) * (b * f_k)[:, None]
        b_y = tl.dot(b_Nt, b_dw.to(b_do.dtype), b_dw, input_precision=PRECISION)
        if dv is not None:
            store_tile(dv + (first_step * HS + h) * V, b_y, rows, keep, stride=HS * V, start=slice_v * BV, D=V, BD=BV)
        b_y *= f_k[:, None]
        if GATED:
            b_do = (b_do.to(tl.float32) * tl.exp(G)[:, None]).to(b_do.dtype)
            b_y *= tl.exp(G)[:, None]
            dS *= tl.exp(G_last)
        dS = tl.dot(tl.trans(b_q), b_do, dS, input_precision=PRECISION)
        dS = tl.dot(tl.trans(b_k), -b_y.to(b_do.dtype), dS, input_precision=PRECISION)
        chunk -= HS

    if local is not None:
        store_state(local, state_slot * HS + h, dS, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
    if dS_start is not None and segment == 0:
        store_state(dS_start, n * HS + h, dS, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)


@triton.jit(do_not_specialize=["T"])
def delta_bwd_gradients_kernel(
    q,
    k,
    do,
    dv,
    residual,
    states,
    dstates,
    beta,
    log_decay,
    dq,
    dk,
    dbeta,
    dlog_decay,
    cu_seqlens,
    scale,
    T,
    segment_size,
    segments,
    tokens_in_all,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    STEPS: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    KEEP: tl.constexpr,
    L2NORM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq, dk, dbeta and dlog_decay of one chunk, for all state heads that share a head of q and k.

    Grid:    sequences x chunks x H x slices of K, one axis, slices fastest.
    On chip: dq, dk and r dS^T [BT, BK], then two [BT, BT] products, fp32; V is walked twice in tiles of BV. KEEP = 2:
             the S or dS that was not kept is found again, see pairs.py, from k and q [BT, BK] of the other chunk.
    Reads:   a slice of q and k; do, dv (y), r, S and dS of the chunk, the gates, of each state head. KEEP = 2: S and dS
             of the pair; of its other chunk k and r where that is the first, else k, q, y and do.
    Writes:  a slice of dq and dk; dbeta [SLICES, B, T, STEPS, HS] and dlog_decay [SLICES, B, T, HS], fp32, each slice
             its part of the sum.
    Bytes per step and state head over all slices, one step per token and HS = H: s (4K + 3V + 2 KV / (KEEP BT)) + 16.
    KEEP = 2 asks for the other chunk besides, and for S and dS twice: from L2, since its own program reads them too.
    """
    slice_k, head, n, chunk, _, begin, end, eos, bos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=H, STEPS=STEPS
    )
    if begin >= end:
        return
    GROUP: tl.constexpr = HS // H
    GATED: tl.constexpr = log_decay is not None
    rows = tl.arange(0, BT)
    o_k = slice_k * BK + tl.arange(0, BK)
    strict = rows[:, None] > rows[None, :]
    causal = rows[:, None] >= rows[None, :]
    keep = rows < (end - begin).to(tl.int32)
    token, inside, closes, opens = tokens(begin, rows, STEPS)
    state_slot = chunk_slot(n, bos, begin, T, cu_seqlens, BT=KEEP * BT, STEPS=STEPS)
    second, other, there, before, behind = partner(begin, eos, chunk, rows, BT)
    token_p, inside_p, closes_p, _opens = tokens(other, rows, STEPS)
    b_dq = tl.zeros([BT, BK], dtype=tl.float32)
    b_dk = tl.zeros([BT, BK], dtype=tl.float32)
    for member in tl.range(0, GROUP, disable_licm=True):
        h = head * GROUP + member
        # Not `head`: addresses that are the same for all members would be held in registers through all of them.
        shared = h // GROUP
        at_k, at_q = k + (begin * H + shared) * K, q + (token * H + shared) * K
        b_k = load_tile(at_k, rows, keep, H * K, start=slice_k * BK, D=K, BD=BK)  # [BT, BK]
        b_q = load_tile(at_q, inside, keep & closes, H * K, start=slice_k * BK, D=K, BD=BK)  # [BT, BK]
        b_k, f_k, _rest = unit_rows(b_k, L2NORM)
        b_q, f_q, _rest = unit_rows(b_q, L2NORM)
        b, G = load_gates(beta, log_decay, begin, rows, keep, h, HS=HS, STEPS=STEPS)
        G_last = total(G, BT)
        of_q, of_k = tl.exp(G) * f_q * scale, tl.exp(G) * f_k
        after = tl.exp(G_last - G) * f_k
        # q . dq + k . dk, less what the heads before this one added, is what rows read and write of the state.
        reads = tl.zeros([BT], dtype=tl.float32)
        if GROUP > 1:
            reads -= tl.sum(b_dq * b_q.to(tl.float32), 1) + tl.sum(b_dk * b_k.to(tl.float32), 1)
        through = tl.zeros([1], dtype=tl.float32)
        b_dw = tl.zeros([BT, BK], dtype=tl.float32)
        if KEEP == 2:
            decay_p, of_d, of_z = partner_factors(beta, log_decay, other, rows, there, second, h, HS=HS, STEPS=STEPS)
            b_kp = load_tile(
                k + (other * H + shared) * K, rows, there, H * K, start=slice_k * BK, D=K, BD=BK
            )  # [BT, BK]
            b_qp = load_tile(
                q + (token_p * H + shared) * K, inside_p, behind & closes_p, H * K, start=slice_k * BK, D=K, BD=BK
            )
            b_kp, f_kp, _rest = unit_rows(b_kp, L2NORM)
            b_qp, f_qp, _rest = unit_rows(b_qp, L2NORM)
            of_d *= f_qp * scale
            of_z *= f_kp
        for start in tl.range(0, V, BV, disable_licm=True):
            o_v = start + tl.arange(0, BV)
            state = (state_slot * HS + h) * (K * V) + o_k[:, None] * V + o_v[None, :]
            held = (o_k < K)[:, None] & (o_v < V)[None, :]
            b_r = load_tile(residual + (begin * HS + h) * V, rows, keep, HS * V, start, D=V, BD=BV)  # [BT, BV]
            b_dS = tl.load(dstates + state, mask=held, other=0.0)  # [BK, BV]
            b_S = b_dS
            if GATED:
                b_S = tl.load(states + state, mask=held, other=0.0)  # [BK, BV]
            if KEEP == 2:
                b_z = load_tile(residual + (other * HS + h) * V, rows, before, HS * V, start, D=V, BD=BV)
                b_z += load_tile(dv + (other * HS + h) * V, rows, behind, HS * V, start, D=V, BD=BV)
                b_d = load_tile(do + (token_p * HS + h) * V, inside_p, behind & closes_p, HS * V, start, D=V, BD=BV)
                b_z = (b_z.to(tl.float32) * of_z[:, None]).to(b_z.dtype)
                b_d = (b_d.to(tl.float32) * of_d[:, None]).to(b_d.dtype)
                b_S, b_dS = find_again(
                    b_S, b_dS, b_kp, b_qp, b_z, b_d, decay=decay_p, second=second, PRECISION=PRECISION
                )
            b_dw = add_times_state(b_dw, b_r, tl.trans(b_dS), after, PRECISION)  # [BT, BK]
            if GATED:
                through += summed(tl.sum(b_S.to(tl.float32) * b_dS.to(tl.float32), 1))
        if GROUP > 1:
            # Where b_dq and b_dk have to stay, b_k has no room beside them.
            tl.debug_barrier()
            b_k = unit_rows(load_tile(at_k, rows, keep, H * K, start=slice_k * BK, D=K, BD=BK), L2NORM)[0]
        writes = tl.sum(b_dw * b_k.to(tl.float32), 1)
        b_dk += b_dw * b[:, None]
        b_D1 = tl.zeros([BT, BT], dtype=tl.float32)
        b_D2 = tl.zeros([BT, BT], dtype=tl.float32)
        for start in tl.range(0, V, BV, disable_licm=True):
            o_v = start + tl.arange(0, BV)
            state = (state_slot * HS + h) * (K * V) + o_k[:, None] * V + o_v[None, :]
            held = (o_k < K)[:, None] & (o_v < V)[None, :]
            b_do = load_tile(do + (token * HS + h) * V, inside, keep & closes, HS * V, start, D=V, BD=BV)  # [BT, BV]
            b_y = load_tile(dv + (begin * HS + h) * V, rows, keep, HS * V, start, D=V, BD=BV)  # [BT, BV]
            b_r = load_tile(residual + (begin * HS + h) * V, rows, keep, HS * V, start, D=V, BD=BV)  # [BT, BV]
            b_S = tl.load(states + state, mask=held, other=0.0)  # [BK, BV]
            if KEEP == 2:
                b_S = b_S.to(tl.float32)
                if second:
                    b_z = load_tile(residual + (other * HS + h) * V, rows, before, HS * V, start, D=V, BD=BV)
                    b_z = (b_z.to(tl.float32) * of_z[:, None]).to(b_z.dtype)
                    b_S = tl.dot(tl.trans(b_kp), b_z, b_S * decay_p, input_precision=PRECISION)
            b_D1 = tl.dot(b_do, tl.trans(b_r), b_D1, input_precision=PRECISION)
            b_D2 = tl.dot(b_y, tl.trans(b_r), b_D2, input_precision=PRECISION)
            b_dq = add_times_state(b_dq, b_do, tl.trans(b_S), of_q, PRECISION)  # [BT, BK]
            b_dk = add_times_state(b_dk, b_y, tl.trans(b_S), -of_k, PRECISION)
        # Loaded once more, from L1 or L2, so that no register holds them through the loop. Where dq and dk stay from
        # head to head, their factors are made again too.
        tl.debug_barrier()
        b_k, f_k_again, _rest = unit_rows(load_tile(at_k, rows, keep, H * K, start=slice_k * BK, D=K, BD=BK), L2NORM)
        b_q, f_q_again, _rest = unit_rows(
            load_tile(at_q, inside, keep & closes, H * K, start=slice_k * BK, D=K, BD=BK), L2NORM
        )
        if GROUP > 1:
            f_k, f_q = f_k_again, f_q_again
        if GATED:
            reads += tl.sum(b_dq * b_q.to(tl.float32), 1) + tl.sum(b_dk * b_k.to(tl.float32), 1) - writes * b
            decay = decays(G, causal, False)
            b_D1 *= decay
            b_D2 = tl.where(strict, b_D2 * decay, 0.0)
        else:
            b_D1 = tl.where(causal, b_D1, 0.0)
            b_D2 = tl.where(strict, b_D2, 0.0)
        b_D1 *= (f_q * scale)[:, None] * f_k[None, :]
        b_D2 *= f_k[:, None] * f_k[None, :]
        # Pairs (i, j) of the chunk, summed over rows and columns; the diagonal's part of `crossing` cancels.
        pairs = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * b_D1
        pairs -= tl.dot(b_k, tl.trans(b_k), input_precision=PRECISION) * b_D2
        ending = tl.sum(pairs, 0)
        across = tl.sum(pairs * b[None, :], 1)
        b_D1 = (b_D1 * b[None, :]).to(b_k.dtype)
        b_D2 = (b_D2 * b[None, :]).to(b_k.dtype)
        b_dq = tl.dot(b_D1, b_k, b_dq, input_precision=PRECISION)
        b_dk = tl.dot(tl.trans(b_D1), b_q, b_dk, input_precision=PRECISION)
        b_dk -= tl.dot(b_D2, b_k, input_precision=PRECISION)
        b_dk -= tl.dot(tl.trans(b_D2), b_k, input_precision=PRECISION)
        pointers = dbeta + ((slice_k * tokens_in_all).to(tl.int64) * STEPS + begin) * HS + h + rows * HS
        tl.store(pointers, ending + writes, mask=keep)
        if GATED:
            writes *= b
            crossing = tl.cumsum(across - ending * b + reads, 0, reverse=True)
            crossing += tl.cumsum(writes, 0) - writes + through * tl.exp(G_last)
            pointers = dlog_decay + ((slice_k * tokens_in_all).to(tl.int64) + token) * HS + h + inside * HS
            tl.store(pointers, crossing, mask=keep & opens)
    k += (begin * H + head) * K
    q += (token * H + head) * K
    if L2NORM:
        b_dq = _through_norm(b_dq, load_tile(q, inside, keep & closes, H * K, start=slice_k * BK, D=K, BD=BK))
        b_dk = _through_norm(b_dk, load_tile(k, rows, keep, H * K, start=slice_k * BK, D=K, BD=BK))
    store_tile(dq + (token * H + head) * K, b_dq, inside, keep & closes, stride=H * K, start=slice_k * BK, D=K, BD=BK)
    store_tile(dk + (begin * H + head) * K, b_dk, rows, keep, stride=H * K, start=slice_k * BK, D=K, BD=BK)


@triton.jit
def _through_norm(dx, x):
    """The gradient of rows x, all columns in x, where dx is f times that of the unit rows f u; see unit_rows."""
    u, f, g = unit_rows(x, True)
    u = u.to(tl.float32)
    return (dx - u * (f * f * tl.sum(dx * u, 1))[:, None]) * g[:, None]
