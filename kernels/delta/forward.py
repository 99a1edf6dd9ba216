"""The forward sweep: o, the final state and what the backward pass needs, with a slice of the state in registers."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import times_state
from kernels.delta.device import (
    chunk_inverse,
    chunk_slot,
    correct,
    decays,
    load_gates,
    load_start,
    load_tile,
    locate,
    store_end,
    store_tile,
    tokens,
    total,
    unit_rows,
)
from kernels.delta.pairs import keep_state


@triton.jit(do_not_specialize=["T"])
def delta_fwd_output_kernel(
    q,
    k,
    v,
    beta,
    log_decay,
    o,
    residual,
    inverse,
    states,
    S_start,
    S_end,
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
    STORED: tl.constexpr,
    SEGMENTED: tl.constexpr,
    PRECISION: tl.constexpr,
    INVERT: tl.constexpr,
):
    """r = (I + N)(v - e^G k S), w = b r, o = s (e^G q S + tril(q k^T . e^(G_i-G_j)) w), S = e^Gc S + (e^(Gc-G) k)^T w.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: S [K, BV], fp32, over all chunks of the segment; N [BT, BT], made again in each slice unless STORED.
    Reads:   q, k, a slice of v, the gates; a start state where one is given (a sequence's, or a segment's if
             SEGMENTED); N where STORED.
    Writes:  a slice of o; the final state, where wanted, by the last segment. Where they are given, for the backward
             pass: a slice of r and of the state before every KEEP chunks, and N by slice 0.
    Bytes per step and state head over all slices, one step per token: s (2K + 2V) + 8 with s bytes per element; for the
    backward pass + s (V + KV / (KEEP BT) + BT).
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
    strict = rows[:, None] > rows[None, :]
    causal = rows[:, None] >= rows[None, :]
    GATED: tl.constexpr = log_decay is not None

    S = tl.zeros([BK, BV], dtype=tl.float32)
    if S_start is not None:
        S = load_start(S_start, (state_slot if SEGMENTED else n) * HS + h, slice_v * BV, K=K, V=V, BK=BK, BV=BV)
    chunk = chunk_slot(n, bos, begin, T, cu_seqlens, BT=BT, STEPS=STEPS) * HS + h
    length = (end - begin).to(tl.int32)
    for chunk_start in tl.range(0, length, BT, disable_licm=True):
        first_step = begin + chunk_start
        keep = rows < length - chunk_start
        b_k = load_tile(k + (first_step * H + head) * K, rows, keep, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        b_v = load_tile(v + (first_step * HS + h) * V, rows, keep, HS * V, start=slice_v * BV, D=V, BD=BV)  # [BT, BV]
        b, G = load_gates(beta, log_decay, first_step, rows, keep, h, HS=HS, STEPS=STEPS)
        b_k, f_k, _rest = unit_rows(b_k, L2NORM)
        if states is not None:
            kept = chunk_slot(n, bos, first_step, T, cu_seqlens, BT=KEEP * BT, STEPS=STEPS) * HS + h
            keep_state(
                states, kept, S, o_k[:, None], v=o_v[None, :], count=K * (1 - chunk_start // BT % KEEP), K=K, V=V
            )
        at_N = chunk * BT * BT + rows[:, None] * BT + rows[None, :]
        if STORED:
            b_N = tl.load(inverse + at_N)
        else:
            b_N = chunk_inverse(b_k, f_k, b, G, strict, GATED=GATED, PRECISION=PRECISION, INVERT=INVERT).to(b_k.dtype)
            if inverse is not None:
                tl.store(inverse + at_N, b_N, mask=(rows < tl.where(slice_v == 0, BT, 0))[:, None])
        b_kS = times_state(b_k, S, PRECISION) * f_k[:, None]  # [BT, BV]
        if GATED:
            b_kS *= tl.exp(G)[:, None]
        b_r = correct(b_v.to(tl.float32) - b_kS, b_N, PRECISION)
        if residual is not None:
            store_tile(
                residual + (first_step * HS + h) * V, b_r, rows, keep, stride=HS * V, start=slice_v * BV, D=V, BD=BV
            )
        b_w = b_r * (b * f_k)[:, None]
        token, inside, closes, _opens = tokens(first_step, rows, STEPS)
        b_q = load_tile(q + (token * H + head) * K, inside, keep & closes, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        b_q, f_q, _rest = unit_rows(b_q, L2NORM)
        b_P = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)  # [BT, BT]
        b_P = b_P * decays(G, causal, False) if GATED else tl.where(causal, b_P, 0.0)
        b_P = b_P.to(b_k.dtype)
        b_o = times_state(b_q, S, PRECISION)
        if GATED:
            b_o *= tl.exp(G)[:, None]
        b_o = tl.dot(b_P, b_w.to(b_k.dtype), b_o, input_precision=PRECISION) * (f_q * scale)[:, None]
        store_tile(o + (token * HS + h) * V, b_o, inside, keep & closes, stride=HS * V, start=slice_v * BV, D=V, BD=BV)
        if GATED:
            G_last = total(G, BT)
            b_w *= tl.exp(G_last - G)[:, None]
            S *= tl.exp(G_last)
        S = tl.dot(tl.trans(b_k), b_w.to(b_k.dtype), S, input_precision=PRECISION)
        chunk += HS

    if S_end is not None:
        late = tl.minimum(length, 0)
        slice_v, h, n, _, _, _, end, eos, _ = locate(
            T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=HS, STEPS=STEPS, late=late
        )
        if end == eos:
            store_end(S_end, n * HS + h, S, slice_v * BV, late, K=K, V=V, BK=BK, BV=BV)


@triton.jit(do_not_specialize=["T"])
def delta_inverse_kernel(
    k,
    beta,
    log_decay,
    inverse,
    cu_seqlens,
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
    """N of every chunk, for sweeps that read it instead of making it in each slice.

    Grid:    sequences x chunks x HS, one axis, heads fastest.
    Reads:   k and the gates.
    Writes:  N [chunks, HS, BT, BT] in k's dtype.
    Bytes per step and state head: s (K + BT) + 8.
    """
    _, h, _, _, chunk, begin, end, _, _ = locate(T, segment_size, segments, cu_seqlens, SLICES=1, HEADS=HS, STEPS=STEPS)
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    keep = rows < (end - begin).to(tl.int32)
    b_k = load_tile(k + (begin * H + h // (HS // H)) * K, rows, keep, H * K, start=0, D=K, BD=BK)
    b_k, f_k, _rest = unit_rows(b_k, L2NORM)
    b, G = load_gates(beta, log_decay, begin, rows, keep, h, HS=HS, STEPS=STEPS)
    strict = rows[:, None] > rows[None, :]
    b_N = chunk_inverse(b_k, f_k, b, G, strict, GATED=log_decay is not None, PRECISION=PRECISION, INVERT=INVERT)
    pointers = inverse + (chunk * HS + h) * BT * BT + rows[:, None] * BT + rows[None, :]
    tl.store(pointers, b_N.to(inverse.dtype.element_ty))
