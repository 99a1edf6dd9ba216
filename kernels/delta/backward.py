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

from kernels.common.device import LOG2E, load_state, store_state, summed
from kernels.delta.device import (
    add_times_state,
    chunk_slot,
    correct,
    load_decay,
    load_factors,
    load_gates,
    load_square,
    load_tile,
    locate,
    operand,
    state_times,
    store_tile,
    tokens,
    total,
    unit_rows,
)


@triton.jit(do_not_specialize=["T"])
def delta_bwd_state_kernel(
    q,
    k,
    do,
    inverse,
    scores,
    factors,
    dv,
    dstates,
    local,
    dS_end,
    dS_start,
    cu_seqlens,
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
    L2NORM: tl.constexpr,
    SEGMENTED: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dv = y, the state's gradient after every chunk, and the initial state's gradient.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest; chunks from last to first.
    On chip: dS^T [BV, K], fp32, starting from the final state's gradient (a segment's if SEGMENTED).
    Reads:   q, k, a slice of do, N, P and the rows' factors.
    Writes:  a slice of dv and of dstates [chunks, HS, V, K]; the initial state's gradient, where wanted, by the first
             segment. With `local` instead, only what a segment makes of a zero gradient, in its slot, by all
             segments but the first.
    Bytes per step and state head over all slices, one step per token: s (2K + 2V + KV / BT + 2 BT) + 16.
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

    dS = tl.zeros([BV, BK], dtype=tl.float32)
    if dS_end is not None:
        index = (state_slot if SEGMENTED else n) * HS + h
        dS = tl.trans(load_state(dS_end, index, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V))
    length = (end - begin).to(tl.int32)
    chunks = tl.cdiv(length, BT)
    chunk = (chunk_slot(n, bos, begin, T, cu_seqlens, BT=BT, STEPS=STEPS) + chunks - 1) * HS + h
    decay = load_decay(factors, chunk, chunks > 0, BT)
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
        b_N = load_square(inverse, chunk, BT)
        b_P = load_square(scores, chunk, BT)
        of_k, of_q, of_w = load_factors(factors, chunk, BT)
        following = load_decay(factors, chunk - HS, chunks_done + 1 < chunks, BT)
        b_k, b_q = operand(b_k, L2NORM), operand(b_q, L2NORM)
        if dstates is not None:
            store_state(dstates, chunk, dS, o_v[:, None], o_k[None, :], K=V, V=K, SIZE=K * V)
        b_dw = state_times(dS, b_k, PRECISION) * of_w[None, :]  # [BV, BT]
        b_dw = tl.dot(tl.trans(b_do), b_P, b_dw, input_precision=PRECISION)
        b_y = correct(b_dw, b_N, PRECISION)
        if dv is not None:
            at_y = dv + (first_step * HS + h) * V
            store_tile(at_y, tl.trans(b_y), rows, keep, stride=HS * V, start=slice_v * BV, D=V, BD=BV)
        b_do = (tl.trans(b_do).to(tl.float32) * of_q[None, :]).to(b_do.dtype)
        dS = tl.dot(b_do, b_q, dS * decay, input_precision=PRECISION)
        dS = tl.dot((b_y * -of_k[None, :]).to(b_do.dtype), b_k, dS, input_precision=PRECISION)
        chunk -= HS
        decay = following

    if local is not None:
        store_state(local, state_slot * HS + h, tl.trans(dS), o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
    if dS_start is not None and segment == 0:
        store_state(dS_start, n * HS + h, tl.trans(dS), o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)


@triton.jit(do_not_specialize=["T"])
def delta_bwd_dq_kernel(
    q,
    k,
    do,
    dv,
    residual,
    states,
    beta,
    log_decay,
    dq,
    pairs_q,
    pairs_k,
    ending,
    passing,
    cu_seqlens,
    scale,
    T,
    segment_size,
    segments,
    steps_in_all,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    STEPS: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    L2NORM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq, D1 and -(D2 + D2^T) of one chunk, and what its pairs and q's reads give to dbeta and to the gate's gradient.

    Grid:    sequences x chunks x H x slices of K, one axis, slices fastest; all state heads that share a head of q.
    On chip: D1, D2 [BT, BT] and dq [BT, BK], fp32; V is walked in tiles of BV.
    Reads:   a slice of q and k; do, dv (y), r and S of the chunk, the gates, of each state head.
    Writes:  a slice of dq; both squares [chunks, HS, BT, BT] in k's dtype, by slice 0; ending, for dbeta, and
             passing [SLICES, B, T, STEPS, HS], fp32, each slice its part of the sum.
    Bytes per step and state head over all slices, one step per token and HS = H: s (3K + 3V + KV / BT + 2 BT) + 16.
    """
    slice_k, head, n, _, _, begin, end, _, bos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=H, STEPS=STEPS
    )
    if begin >= end:
        return
    GROUP: tl.constexpr = HS // H
    rows = tl.arange(0, BT)
    o_k = slice_k * BK + tl.arange(0, BK)
    keep = rows < (end - begin).to(tl.int32)
    token, inside, closes, _opens = tokens(begin, rows, STEPS)
    chunk = chunk_slot(n, bos, begin, T, cu_seqlens, BT=BT, STEPS=STEPS)
    at_k, at_q = k + (begin * H + head) * K, q + (token * H + head) * K
    b_dq = tl.zeros([BT, BK], dtype=tl.float32)
    for member in tl.range(0, GROUP, disable_licm=True):
        h = head * GROUP + member
        b_k = load_tile(at_k, rows, keep, H * K, start=slice_k * BK, D=K, BD=BK)  # [BT, BK]
        b_q = load_tile(at_q, inside, keep & closes, H * K, start=slice_k * BK, D=K, BD=BK)  # [BT, BK]
        b_k, f_k, _rest = unit_rows(b_k, L2NORM)
        b_q, f_q, _rest = unit_rows(b_q, L2NORM)
        b, G = load_gates(beta, log_decay, begin, rows, keep, h, HS=HS, STEPS=STEPS)
        of_q = tl.exp(G) * f_q * scale
        # q . dq, less what the heads before this one added, is what rows read of the state.
        reads = tl.zeros([BT], dtype=tl.float32)
        if GROUP > 1:
            reads -= tl.sum(b_dq * b_q.to(tl.float32), 1)
        b_D1 = tl.zeros([BT, BT], dtype=tl.float32)
        b_D2 = tl.zeros([BT, BT], dtype=tl.float32)
        for start in tl.range(0, V, BV, disable_licm=True):
            b_do = load_tile(do + (token * HS + h) * V, inside, keep & closes, HS * V, start, D=V, BD=BV)  # [BT, BV]
            b_y = load_tile(dv + (begin * HS + h) * V, rows, keep, HS * V, start, D=V, BD=BV)  # [BT, BV]
            b_r = load_tile(residual + (begin * HS + h) * V, rows, keep, HS * V, start, D=V, BD=BV)  # [BT, BV]
            b_S = _load_kept(states, chunk * HS + h, start, o_k, K=K, V=V, BV=BV)  # [BV, BK]
            b_D1 = tl.dot(b_do, tl.trans(b_r), b_D1, input_precision=PRECISION)
            b_D2 = tl.dot(b_y, tl.trans(b_r), b_D2, input_precision=PRECISION)
            b_dq = add_times_state(b_dq, b_do, b_S, of_q, PRECISION, GROUP == 1)  # [BT, BK]
        if GROUP == 1:
            b_dq *= of_q[:, None]
        # Loaded once more, from L1 or L2, so that no register holds them through the loop.
        tl.debug_barrier()
        b_k = unit_rows(load_tile(at_k, rows, keep, H * K, start=slice_k * BK, D=K, BD=BK), L2NORM)[0]
        b_q = load_tile(at_q, inside, keep & closes, H * K, start=slice_k * BK, D=K, BD=BK)
        b_q = unit_rows(b_q, L2NORM)[0]
        reads += tl.sum(b_dq * b_q.to(tl.float32), 1)
        b_D1 *= (f_q * scale)[:, None] * f_k[None, :]
        b_D2 *= f_k[:, None] * f_k[None, :]
        if log_decay is not None:
            # Not masked: an infinite one above the diagonal is one that is not taken.
            decay = tl.exp2((G * LOG2E)[:, None] - (G * LOG2E)[None, :])
            b_D1 *= decay
            b_D2 *= decay
        b_D1 = tl.where(rows[:, None] >= rows[None, :], b_D1, 0.0)
        b_D2 = tl.where(rows[:, None] > rows[None, :], b_D2, 0.0)
        # Pairs (i, j) of the chunk, summed over rows and columns; the diagonal's part of `passing` cancels.
        pairs = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * b_D1
        pairs -= tl.dot(b_k, tl.trans(b_k), input_precision=PRECISION) * b_D2
        b_ending = tl.sum(pairs, 0)
        across = tl.sum(pairs * b[None, :], 1)
        at = ((slice_k * steps_in_all).to(tl.int64) + begin) * HS + h + rows * HS
        tl.store(ending + at, b_ending, mask=keep)
        if log_decay is not None:
            tl.store(passing + at, across - b_ending * b + reads, mask=keep)
        b_D1 = (b_D1 * b[None, :]).to(b_k.dtype)
        b_D2 *= b[None, :]
        square = (chunk * HS + h) * BT * BT + rows[:, None] * BT + rows[None, :]
        first = (rows < tl.where(slice_k == 0, BT, 0))[:, None]
        tl.store(pairs_q + square, b_D1, mask=first)
        tl.store(pairs_k + square, -(b_D2 + tl.trans(b_D2)).to(b_k.dtype), mask=first)
        b_dq = tl.dot(b_D1, b_k, b_dq, input_precision=PRECISION)
    _store_gradient(dq + (token * H + head) * K, b_dq, at_q, inside, keep & closes, slice_k, H, K, BK, L2NORM)


@triton.jit(do_not_specialize=["T"])
def delta_bwd_dk_kernel(
    q,
    k,
    dv,
    residual,
    states,
    dstates,
    beta,
    log_decay,
    pairs_q,
    pairs_k,
    dk,
    ending,
    passing,
    dbeta,
    dlog_decay,
    cu_seqlens,
    T,
    segment_size,
    segments,
    steps_in_all,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    STEPS: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    L2NORM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk of one chunk, and the rest of dbeta and dlog_decay.

    Grid:    as that of delta_bwd_dq_kernel.
    On chip: dk and r dS^T [BT, BK], fp32; V is walked in tiles of BV, whose S dS^T [BV, BV] is there too with a gate.
    Reads:   a slice of q and k; dv (y), r, S and dS of the chunk, both squares, the gates, of each state head;
             ending and passing.
    Writes:  a slice of dk; dbeta [SLICES, B, T, STEPS, HS] and dlog_decay [SLICES, B, T, HS], fp32, each slice its part
             of the sum.
    Bytes per step and state head over all slices, one step per token and HS = H:
    s (3K + 2V + 2 KV / BT + 2 BT) + 24.
    """
    slice_k, head, n, _, _, begin, end, _, bos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=H, STEPS=STEPS
    )
    if begin >= end:
        return
    GROUP: tl.constexpr = HS // H
    GATED: tl.constexpr = log_decay is not None
    rows = tl.arange(0, BT)
    o_k = slice_k * BK + tl.arange(0, BK)
    keep = rows < (end - begin).to(tl.int32)
    token, inside, closes, opens = tokens(begin, rows, STEPS)
    chunk = chunk_slot(n, bos, begin, T, cu_seqlens, BT=BT, STEPS=STEPS)
    at_k, at_q = k + (begin * H + head) * K, q + (token * H + head) * K
    b_dk = tl.zeros([BT, BK], dtype=tl.float32)
    for member in tl.range(0, GROUP, disable_licm=True):
        h = head * GROUP + member
        b_k = load_tile(at_k, rows, keep, H * K, start=slice_k * BK, D=K, BD=BK)  # [BT, BK]
        b_k, f_k, _rest = unit_rows(b_k, L2NORM)
        b, G = load_gates(beta, log_decay, begin, rows, keep, h, HS=HS, STEPS=STEPS)
        G_last = total(G, BT)
        of_k, after = -tl.exp(G) * f_k, tl.exp(G_last - G) * f_k
        # k . dk, less what the heads before this one added, is what rows read of the state.
        reads = tl.zeros([BT], dtype=tl.float32)
        if GROUP > 1:
            reads -= tl.sum(b_dk * b_k.to(tl.float32), 1)
        b_dw = tl.zeros([BT, BK], dtype=tl.float32)
        b_SdS = tl.zeros([BV, BV], dtype=tl.float32)
        for start in tl.range(0, V, BV, disable_licm=True):
            b_y = load_tile(dv + (begin * HS + h) * V, rows, keep, HS * V, start, D=V, BD=BV)  # [BT, BV]
            b_r = load_tile(residual + (begin * HS + h) * V, rows, keep, HS * V, start, D=V, BD=BV)  # [BT, BV]
            b_S = _load_kept(states, chunk * HS + h, start, o_k, K=K, V=V, BV=BV)  # [BV, BK]
            b_dS = _load_kept(dstates, chunk * HS + h, start, o_k, K=K, V=V, BV=BV)  # [BV, BK]
            b_dk = add_times_state(b_dk, b_y, b_S, of_k, PRECISION, GROUP == 1)  # [BT, BK]
            b_dw = add_times_state(b_dw, b_r, b_dS, after, PRECISION, True)
            if GATED:
                # Only the diagonal is wanted, but a product costs fewer instructions than its elements.
                b_SdS = tl.dot(b_S, tl.trans(b_dS), b_SdS, input_precision=PRECISION)
        through = tl.zeros([1], dtype=tl.float32)
        if GATED:
            o_v = tl.arange(0, BV)
            through += summed(tl.sum(tl.where(o_v[:, None] == o_v[None, :], b_SdS, 0.0), 1))
        # Tiles are loaded where they are used, so that no register holds them before.
        tl.debug_barrier()
        b_k = unit_rows(load_tile(at_k, rows, keep, H * K, start=slice_k * BK, D=K, BD=BK), L2NORM)[0]
        b_dw *= after[:, None]
        writes = tl.sum(b_dw * b_k.to(tl.float32), 1)
        if GROUP == 1:
            b_dk *= of_k[:, None]
        reads += tl.sum(b_dk * b_k.to(tl.float32), 1)
        b_dk += b_dw * b[:, None]
        b_q = load_tile(at_q, inside, keep & closes, H * K, start=slice_k * BK, D=K, BD=BK)
        b_q = unit_rows(b_q, L2NORM)[0]
        b_dk = tl.dot(tl.trans(load_square(pairs_q, chunk * HS + h, BT)), b_q, b_dk, input_precision=PRECISION)
        b_dk = tl.dot(load_square(pairs_k, chunk * HS + h, BT), b_k, b_dk, input_precision=PRECISION)
        at = ((slice_k * steps_in_all).to(tl.int64) + begin) * HS + h + rows * HS
        tl.store(dbeta + at, tl.load(ending + at, mask=keep, other=0.0) + writes, mask=keep)
        if GATED:
            writes *= b
            crossing = tl.cumsum(tl.load(passing + at, mask=keep, other=0.0) + reads, 0, reverse=True)
            crossing += tl.cumsum(writes, 0) - writes + through * tl.exp(G_last)
            pointers = dlog_decay + ((slice_k * (steps_in_all // STEPS)).to(tl.int64) + token) * HS + h + inside * HS
            tl.store(pointers, crossing, mask=keep & opens)
    _store_gradient(dk + (begin * H + head) * K, b_dk, at_k, rows, keep, slice_k, H, K, BK, L2NORM)


@triton.jit
def _store_gradient(
    base,
    dx,
    x,
    rows,
    keep,
    slice_k,
    H: tl.constexpr,
    K: tl.constexpr,
    BK: tl.constexpr,
    L2NORM: tl.constexpr,
):
    """Store the gradient of rows of q or k, which are at x."""
    if L2NORM:
        dx = _through_norm(dx, load_tile(x, rows, keep, H * K, start=slice_k * BK, D=K, BD=BK))
    store_tile(base, dx, rows, keep, stride=H * K, start=slice_k * BK, D=K, BD=BK)


@triton.jit
def _load_kept(base, index, start, o_k, K: tl.constexpr, V: tl.constexpr, BV: tl.constexpr):
    """Rows start .. start + BV of kept state number `index`, transposed: [BV, BK], as it lies in memory."""
    o_v = start + tl.arange(0, BV)
    inside = (o_v < V)[:, None] & (o_k < K)[None, :]
    return tl.load(base + index * (K * V) + o_v[:, None] * K + o_k[None, :], mask=inside, other=0.0)


@triton.jit
def _through_norm(dx, x):
    """The gradient of rows x, all columns in x, where dx is f times that of the unit rows f u; see unit_rows."""
    u, f, g = unit_rows(x, True)
    u = u.to(tl.float32)
    return (dx - u * (f * f * tl.sum(dx * u, 1))[:, None]) * g[:, None]
