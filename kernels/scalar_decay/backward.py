"""The backward sweep of dq, with a slice of the state in registers and no partial sums in memory.

With w_t = s / den_t (s where not normalised), delta_t = do_t . o_t (0 where not normalised), decays a_t and weights x_t
of v (both 1 where there are none):

    dq_t = w_t phi'(q_t) (S_t do_t - delta_t z_t)           dS_t = a_{t+1} dS_{t+1} + w_t phi(q_t) do_t^T
    dk_t = x_t phi'(k_t) (dS_t v_t + dz_t)                  dz_t = dz_{t+1} - w_t delta_t phi(q_t)
    dv_t = x_t dS_t^T phi(k_t)                              dlog a_t = <S_T, dS> + sum_{i>=t} (q_i.dq_i - k_i.dk_i)

The normaliser is one more column of the state: its v is 1 and its output's gradient is -delta / den. dS in dlog a_t is
the final state's gradient. `backward_dk_dv.py` holds the sweeps of dk and dv.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import (
    Place,
    between,
    load_rows,
    load_state,
    locate,
    rounding,
    segments_of,
    silu,
    store_rows,
    summed,
    times_state,
)
from kernels.scalar_decay.device import (
    SegmentStates,
    chunk_decay,
    head_rate,
    load_features,
    slope,
    start_normaliser,
    start_state,
)


@triton.jit
def close_gate(
    do,
    y,
    out_gate,
    dy,
    d_out_gate,
    stride,
    length,
    BT: tl.constexpr,
    V: tl.constexpr,
    BV: tl.constexpr,
    ROWS: tl.constexpr,
):
    """dy = do silu(out_gate) and d_out_gate = do y silu'(out_gate) of `length` rows of V, at most BT, in memory.

    ROWS at a time: the state and a chunk's tiles leave no registers for more.
    """
    for first in range(0, BT, ROWS):
        keep = first + tl.arange(0, ROWS) < length
        offset = first * stride
        b_open, b_slope = silu(load_rows(out_gate + offset, stride=stride, keep=keep, start=0, BT=ROWS, D=V, BD=BV))
        b_do = load_rows(do + offset, stride=stride, keep=keep, start=0, BT=ROWS, D=V, BD=BV).to(tl.float32)
        b_y = load_rows(y + offset, stride=stride, keep=keep, start=0, BT=ROWS, D=V, BD=BV).to(tl.float32)
        store_rows(dy + offset, b_do * b_open, stride=stride, keep=keep, start=0, BT=ROWS, D=V, BD=BV)
        store_rows(d_out_gate + offset, b_do * b_y * b_slope, stride=stride, keep=keep, start=0, BT=ROWS, D=V, BD=BV)


@triton.jit(do_not_specialize=["T"])
def linear_bwd_dq_kernel(
    q,
    k,
    v,
    gate,
    rate,
    o,
    do,
    y,
    out_gate,
    den,
    delta,
    dq,
    dy,
    d_out_gate,
    q_dq,
    d_skip,
    dS_end,
    d_last,
    S_start,
    z_start,
    states,
    totals,
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
    MAP: tl.constexpr,
    NORMALISED: tl.constexpr,
    DECAY: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """dq = w phi'(q) (e^G do S^T - delta z + tril((do v^T - delta) . e^{G_i-G_j} x_j) phi(k)), and delta.

    Where the output has a gate, dy = do silu(out_gate) stands for do, and d_out_gate = do y silu'(out_gate). Not
    CAUSAL, dq = w phi'(q) (do S^T - delta z) with the whole sequence's S and z; k and v are None.

    Grid:    sequences x segments x HS x slices of K, one axis, slices fastest.
    On chip: S^T [V, BK] and z [BK], fp32.
    Reads:   v, do and a slice of k; a slice of q where phi has a slope or a gate its gradient; gate and rate where
             given; o and den where normalised; out_gate where given, and y by slice 0.
    Writes:  a slice of dq [B, T, HS, K]; delta [B, T, HS] fp32 by slice 0; q_dq [B, T, HS, SLICES] fp32, the slice's
             part of q . dq; d_last [N, HS, SLICES] fp32, its part of <S, dS_end> at the sequence's end; d_skip
             [sequences x segments, HS] fp32, sum of do . v, by slice 0; dy and d_out_gate [B, T, HS, V] by slice 0.
    Bytes per token and state head over all slices: s (2K + 2V); + s K where it reads q; + s V + 8 normalised; + 4 s V
    where the output has a gate; + 4 SLICES and a gate's element for a gate's gradient.
    """
    slice_k, h, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = slice_k * BK + tl.arange(0, BK)
    o_v = tl.arange(0, BV)
    if q is not None:
        q += (begin * H + h // (HS // H)) * K
    if CAUSAL:
        k += (begin * HK + h // (HS // HK)) * K
        v += (begin * HV + h // (HS // HV)) * V
    do += (begin * HS + h) * V
    dq += (begin * HS + h) * K
    if NORMALISED:
        o += (begin * HS + h) * V
    b_rate = head_rate(rate, h, DECAY)

    # A segment's S and z lie in one row, so that one launch combines both.
    SIZE: tl.constexpr = K * V + (K if NORMALISED else 0)
    # A gate's gradient is a long sum of differences: what differs must be rounded alike here and in the sweep of dk.
    PRECISE: tl.constexpr = q_dq is not None
    place = Place(n=n, h=h, segment=segment, state_slot=state_slot, begin=begin, end=end)
    count = segments_of(end, eos, segment, segment_size)
    segment_states = SegmentStates(states=states, totals=totals, count=count)
    S = tl.zeros([BV, BK], dtype=tl.float32)
    S = start_state(
        S,
        S_start,
        segment_states,
        place,
        o_k[None, :],
        o_v[:, None],
        HS=HS,
        K=K,
        V=V,
        SIZE=SIZE,
        DECAY=DECAY,
        START=START,
    )
    z = tl.zeros([BK], dtype=tl.float32)
    if NORMALISED:
        z = start_normaliser(z, z_start, segment_states, place, o_k, HS=HS, K=K, V=V, SIZE=SIZE, START=START)

    b_skip = tl.zeros([1], tl.float32)
    causal = rows[:, None] >= rows[None, :]
    length = (end - begin).to(tl.int32)
    for chunk_start in range(0, length, BT):
        keep = rows < length - chunk_start
        if out_gate is not None:
            offset = ((begin + chunk_start) * HS + h) * V
            b_open, _slope = silu(load_rows(out_gate + offset, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV))
            b_do = load_rows(do, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)
            b_do = (b_do.to(tl.float32) * b_open).to(b_do.dtype)
        else:
            b_do = load_rows(do, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        if CAUSAL:
            b_v = load_rows(v, stride=HV * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
            b_k = load_features(k, stride=HK * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK, MAP=MAP)  # [BT, BK]
            b_P = tl.dot(b_do, tl.trans(b_v), input_precision=PRECISION)  # [BT, BT]
        b_dq = times_state(b_do, S, PRECISION, PRECISE)  # [BT, BK]
        if d_skip is not None:
            b_skip += summed(tl.sum(tl.where(rows[:, None] == rows[None, :], b_P, 0.0), 1))
        if DECAY != "none":
            offsets = (begin + chunk_start + rows) * HS + h
            G, E, total, _gate = chunk_decay(gate, b_rate, offsets, rows, length - chunk_start, BT=BT, DECAY=DECAY)
            b_P *= between(G[:, None], E[None, :], causal)
            b_passed = tl.exp2(G)[:, None]
            if q_dq is not None:
                b_q = load_rows(q, stride=H * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
                b_off = rounding(b_q, b_passed, b_dq)
            b_dq *= b_passed
        if NORMALISED:
            b_o = load_rows(o, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)
            b_delta = tl.sum(b_do.to(tl.float32) * b_o.to(tl.float32), 1)
            b_dq -= b_delta[:, None] * z[None, :]
            if CAUSAL:
                b_P -= b_delta[:, None]
                z += tl.sum(b_k.to(tl.float32), 0)
        if CAUSAL:
            b_P = tl.where(causal, b_P, 0.0)
            b_dq = tl.dot(b_P.to(b_k.dtype), b_k, b_dq, input_precision=PRECISION)
        b_dq *= scale
        if NORMALISED:
            offsets = (begin + chunk_start + rows) * HS + h
            b_dq = b_dq / tl.load(den + offsets, mask=keep, other=1.0)[:, None]
            tl.store(delta + offsets, b_delta, mask=rows < tl.where(slice_k == 0, length - chunk_start, 0))
            o += BT * HS * V
        if MAP != "identity":
            b_dq *= slope(load_rows(q, stride=H * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK), MAP)
        if q_dq is not None:
            offsets = ((begin + chunk_start + rows) * HS + h) * SLICES + slice_k
            tl.store(q_dq + offsets, tl.sum(b_q.to(tl.float32) * b_dq, 1) + b_off * scale, mask=keep)
        if q is not None:
            q += BT * H * K
        store_rows(dq, b_dq, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
        if DECAY != "none":
            S *= tl.exp2(total)
            b_left = tl.exp2(total - E)
            b_k = (b_k.to(tl.float32) * b_left[:, None]).to(b_k.dtype)
        if CAUSAL:
            S = tl.dot(tl.trans(b_v), b_k, S, input_precision=PRECISION)
        if out_gate is not None:  # noqa: SIM102 - joined, the condition is no longer the compiler's
            if slice_k == 0:
                offset = ((begin + chunk_start) * HS + h) * V
                close_gate(
                    do,
                    y + offset,
                    out_gate + offset,
                    dy + offset,
                    d_out_gate + offset,
                    stride=HS * V,
                    length=length - chunk_start,
                    BT=BT,
                    V=V,
                    BV=BV,
                    ROWS=16,
                )
        if CAUSAL:
            k += BT * HK * K
            v += BT * HV * V
        do += BT * HS * V
        dq += BT * HS * K

    if dS_end is not None and end == eos:
        b_end = load_state(dS_end, n * HS + h, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V)
        tl.store(d_last + (n * HS + h) * SLICES + slice_k + tl.arange(0, 1), summed(tl.sum(S * b_end, 1)))
    if d_skip is not None:  # noqa: SIM102 - joined, the condition is no longer the compiler's
        if slice_k == 0:
            tl.store(d_skip + (n * segments + segment) * HS + h + tl.arange(0, 1), b_skip)
