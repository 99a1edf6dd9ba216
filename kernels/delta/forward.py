"""The forward pass: what all slices of a chunk share, then the sweep that carries a slice of the state in registers."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, store_state
from kernels.common.triangular import invert_unit_lower
from kernels.delta.device import (
    chunk_slot,
    correct,
    load_decay,
    load_factors,
    load_gates,
    load_square,
    load_start,
    load_tile,
    locate,
    operand,
    state_times,
    store_end,
    store_tile,
    tokens,
    total,
    unit_rows,
)


@triton.jit(do_not_specialize=["T"])
def delta_prepare_kernel(
    q,
    k,
    beta,
    log_decay,
    inverse,
    scores,
    factors,
    cu_seqlens,
    scale,
    T,
    segment_size,
    segments,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    STEPS: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    L2NORM: tl.constexpr,
    PRECISION: tl.constexpr,
    INVERT: tl.constexpr,
):
    """N, P = s tril(q k^T . e^(G_i-G_j)) diag(b) and rows' factors of every chunk, the same for all slices and sweeps.

    Grid:    sequences x segments x HS, one axis, heads fastest; the chunks of a segment one after the other.
    Reads:   q, k and the gates.
    Writes:  N and P [chunks, HS, BT, BT] in k's dtype; factors [chunks, HS, BT, 4], fp32, see load_factors.
    Bytes per step and state head, one step per token: s (2K + 2 BT) + 24.
    """
    _, h, n, _, _, begin, end, _, bos = locate(T, segment_size, segments, cu_seqlens, SLICES=1, HEADS=HS, STEPS=STEPS)
    rows = tl.arange(0, BT)
    head = h // (HS // H)
    slot = chunk_slot(n, bos, begin, T, cu_seqlens, BT=BT, STEPS=STEPS) * HS + h
    length = (end - begin).to(tl.int32)
    for chunk_start in tl.range(0, length, BT):
        first_step = begin + chunk_start
        keep = rows < length - chunk_start
        token, inside, closes, _opens = tokens(first_step, rows, STEPS)
        b_k = load_tile(k + (first_step * H + head) * K, rows, keep, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        b_q = load_tile(q + (token * H + head) * K, inside, keep & closes, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        b, G = load_gates(beta, log_decay, first_step, rows, keep, h, HS=HS, STEPS=STEPS)
        b_k, f_k, _rest = unit_rows(b_k, L2NORM)
        b_q, f_q, _rest = unit_rows(b_q, L2NORM)
        square = slot * BT * BT + rows[:, None] * BT + rows[None, :]
        b_A = tl.dot(b_k, tl.trans(b_k), input_precision=PRECISION)
        b_P = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)
        of_A, of_P = f_k[:, None] * (b * f_k)[None, :], f_q[:, None] * (b * f_k * scale)[None, :]
        if log_decay is not None:
            # Not masked: an infinite one above the diagonal is one that is not taken.
            decay = tl.exp2((G * LOG2E)[:, None] - (G * LOG2E)[None, :])
            of_A, of_P = of_A * decay, of_P * decay
        causal = rows[:, None] >= rows[None, :]
        b_A = tl.where(causal, b_A * of_A, 0.0)
        b_P = tl.where(causal, b_P * of_P, 0.0)
        tl.store(scores + square, b_P.to(scores.dtype.element_ty))
        b_N = tl.where(rows[:, None] > rows[None, :], invert_unit_lower(b_A, BT, INVERT), 0.0)
        tl.store(inverse + square, b_N.to(inverse.dtype.element_ty))
        G_last = total(G, BT)
        at = factors + (slot * BT + rows) * 4
        tl.store(at, tl.exp(G) * f_k)
        tl.store(at + 1, tl.exp(G) * f_q * scale)
        tl.store(at + 2, tl.exp(G_last - G) * f_k * b)
        tl.store(at + 3, tl.exp(G_last + tl.zeros_like(G)))
        slot += HS


@triton.jit(do_not_specialize=["T"])
def delta_fwd_output_kernel(
    q,
    k,
    v,
    inverse,
    scores,
    factors,
    o,
    residual,
    states,
    S_start,
    S_end,
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
    """r = (I + N)(v - e^G k S), o = s e^G q S + P r, S = e^Gc S + (e^(Gc-G) k)^T diag(b) r.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: S^T [BV, BK], fp32, over all chunks of the segment. All products have the columns of V as their rows, so
             that one's result is the next one's left operand as it lies in registers.
    Reads:   q, k, a slice of v, N, P and the rows' factors; a start state where one is given (a sequence's, or a
             segment's if SEGMENTED).
    Writes:  a slice of o; the final state, where wanted, by the last segment. Where they are given, for the backward
             pass: a slice of r and of the state before every chunk, transposed [V, K].
    Bytes per step and state head over all slices, one step per token: s (2K + 2V + 2 BT) + 16 with s bytes per element;
    for the backward pass + s (V + KV / BT).
    """
    slice_v, h, n, _, state_slot, begin, end, eos, bos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=HS, STEPS=STEPS
    )
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    head = h // (HS // H)

    S = tl.zeros([BV, BK], dtype=tl.float32)
    if S_start is not None:
        index = (state_slot if SEGMENTED else n) * HS + h
        S = tl.trans(load_start(S_start, index, slice_v * BV, K=K, V=V, BK=BK, BV=BV))
    chunk = chunk_slot(n, bos, begin, T, cu_seqlens, BT=BT, STEPS=STEPS) * HS + h
    length = (end - begin).to(tl.int32)
    decay = load_decay(factors, chunk, length > 0, BT)
    for chunk_start in tl.range(0, length, BT, disable_licm=True):
        first_step = begin + chunk_start
        keep = rows < length - chunk_start
        b_k = load_tile(k + (first_step * H + head) * K, rows, keep, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        b_v = load_tile(v + (first_step * HS + h) * V, rows, keep, HS * V, start=slice_v * BV, D=V, BD=BV)  # [BT, BV]
        token, inside, closes, _opens = tokens(first_step, rows, STEPS)
        b_q = load_tile(q + (token * H + head) * K, inside, keep & closes, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        b_N = load_square(inverse, chunk, BT)
        b_P = load_square(scores, chunk, BT)
        of_k, of_q, of_w = load_factors(factors, chunk, BT)
        following = load_decay(factors, chunk + HS, chunk_start + BT < length, BT)
        b_k, b_q = operand(b_k, L2NORM), operand(b_q, L2NORM)
        if states is not None:
            store_state(states, chunk, S, o_v[:, None], o_k[None, :], K=V, V=K, SIZE=K * V)
        b_x = tl.trans(b_v).to(tl.float32) - state_times(S, b_k, PRECISION) * of_k[None, :]  # [BV, BT]
        b_r = correct(b_x, tl.trans(b_N), PRECISION)
        if residual is not None:
            at_r = residual + (first_step * HS + h) * V
            store_tile(at_r, tl.trans(b_r), rows, keep, stride=HS * V, start=slice_v * BV, D=V, BD=BV)
        b_o = state_times(S, b_q, PRECISION) * of_q[None, :]
        b_o = tl.dot(b_r.to(b_k.dtype), tl.trans(b_P), b_o, input_precision=PRECISION)
        at_o = o + (token * HS + h) * V
        store_tile(at_o, tl.trans(b_o), inside, keep & closes, stride=HS * V, start=slice_v * BV, D=V, BD=BV)
        b_w = (b_r * of_w[None, :]).to(b_k.dtype)
        S = tl.dot(b_w, b_k, S * decay, input_precision=PRECISION)
        chunk += HS
        decay = following

    if S_end is not None:
        late = tl.minimum(length, 0)
        slice_v, h, n, _, _, _, end, eos, _ = locate(
            T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=HS, STEPS=STEPS, late=late
        )
        if end == eos:
            store_end(S_end, n * HS + h, tl.trans(S), slice_v * BV, late, K=K, V=V, BK=BK, BV=BV)
