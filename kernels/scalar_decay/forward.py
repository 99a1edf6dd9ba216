"""The output sweep: o, the final state and the denominator, with a slice of the state in registers."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import (
    Place,
    between,
    load_rows,
    locate,
    segments_of,
    silu,
    store_normaliser,
    store_rows,
    store_state,
    times_state,
)
from kernels.scalar_decay.device import (
    SegmentStates,
    chunk_decay,
    head_rate,
    load_features,
    start_normaliser,
    start_state,
)


@triton.jit(do_not_specialize=["T"])
def linear_fwd_output_kernel(
    q,
    k,
    v,
    gate,
    rate,
    skip,
    out_gate,
    o,
    y,
    den,
    S_start,
    z_start,
    states,
    totals,
    S_end,
    z_end,
    cu_seqlens,
    scale,
    eps,
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
    """y = s (e^G phi(q) S + tril(phi(q) phi(k)^T . e^{G_i-G_j} w_j) v) [ / den ] + D v,  o = y silu(out_gate).

    den = s (phi(q) . z + rowsum tril(phi(q) phi(k)^T)) + eps; G is the decay's logarithm since the chunk's start; w is
    dt where there is one, else 1; D is `skip` [HS]. Not CAUSAL, y = s phi(q) S [ / den ] with the whole sequence's S: q
    and what the state pass left in `states` is all that is read; k and v are None.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: S [K, BV] and z [K], fp32, over all chunks of the segment.
    Reads:   q, k, a slice of v and of out_gate; gate, rate and skip where given; a start state (see start_state).
    Writes:  a slice of o, and of y [B, T, HS, V] where wanted; den [B, T, HS] fp32 by slice 0; the final state, where
             wanted, by the last segment.
    Bytes per token and state head over all slices, s per element: s (2K + 2V), + 4 for den, + a gate's element,
    + s V for out_gate, + s V for y. Each slice loads q and k again, from L2.
    """
    slice_v, h, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    q += (begin * H + h // (HS // H)) * K
    if CAUSAL:
        k += (begin * HK + h // (HS // HK)) * K
        v += (begin * HV + h // (HS // HV)) * V
    own = (begin * HS + h) * V
    b_rate = head_rate(rate, h, DECAY)

    # z is 16 columns, all alike: the fewest that a tensor core takes. Summed from tiles in registers, it spills.
    ones = tl.full([BT, 16], 1.0, q.dtype.element_ty)
    z = tl.zeros([BK, 16], dtype=tl.float32)
    # A segment's S and z lie in one row, so that one launch combines both.
    SIZE: tl.constexpr = K * V + (K if NORMALISED else 0)
    place = Place(n=n, h=h, segment=segment, state_slot=state_slot, begin=begin, end=end)
    count = segments_of(end, eos, segment, segment_size)
    segment_states = SegmentStates(states=states, totals=totals, count=count)
    S = tl.zeros([BK, BV], dtype=tl.float32)
    S = start_state(
        S,
        S_start,
        segment_states,
        place,
        o_k[:, None],
        o_v[None, :],
        HS=HS,
        K=K,
        V=V,
        SIZE=SIZE,
        DECAY=DECAY,
        START=START,
    )
    if NORMALISED:
        z_first = tl.zeros([BK], dtype=tl.float32)
        z += start_normaliser(z_first, z_start, segment_states, place, o_k, HS=HS, K=K, V=V, SIZE=SIZE, START=START)[
            :, None
        ]

    causal = rows[:, None] >= rows[None, :]
    length = (end - begin).to(tl.int32)
    for chunk_start in range(0, length, BT):
        keep = rows < length - chunk_start
        b_q = load_features(q, stride=H * K, keep=keep, start=0, BT=BT, D=K, BD=BK, MAP=MAP)  # [BT, BK]
        b_o = times_state(b_q, S, PRECISION)  # [BT, BV]
        if CAUSAL:
            b_k = load_features(k, stride=HK * K, keep=keep, start=0, BT=BT, D=K, BD=BK, MAP=MAP)  # [BT, BK]
            b_v = load_rows(v, stride=HV * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
            b_P = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION)  # [BT, BT]
        if DECAY != "none":
            offsets = (begin + chunk_start + rows) * HS + h
            G, E, total, _gate = chunk_decay(gate, b_rate, offsets, rows, length - chunk_start, BT=BT, DECAY=DECAY)
            b_P *= between(G[:, None], E[None, :], causal)
            b_o *= tl.exp2(G)[:, None]
        if CAUSAL:
            b_P = tl.where(causal, b_P, 0.0)
            if skip is not None:
                b_P += tl.where(rows[:, None] == rows[None, :], tl.load(skip + h).to(tl.float32) / scale, 0.0)
            b_o = tl.dot(b_P.to(b_v.dtype), b_v, b_o, input_precision=PRECISION)  # [BT, BV]
        b_o *= scale
        if NORMALISED:
            b_qz = tl.max(times_state(b_q, z, PRECISION), 1)  # [BT]
            if CAUSAL:
                b_qz += tl.sum(b_P, 1)
                z = tl.dot(tl.trans(b_k), ones, z, input_precision=PRECISION)
            b_den = b_qz * scale + eps
            b_o = b_o / b_den[:, None]
            offsets = (begin + chunk_start + rows) * HS + h
            tl.store(den + offsets, b_den, mask=rows < tl.where(slice_v == 0, length - chunk_start, 0))
        if y is not None:
            store_rows(y + own, b_o, stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
        if out_gate is not None:
            b_open, _ = silu(load_rows(out_gate + own, stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV))
            b_o *= b_open
        store_rows(o + own, b_o, stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
        if DECAY != "none":
            S *= tl.exp2(total)
            b_left = tl.exp2(total - E)
            b_v = (b_v.to(tl.float32) * b_left[:, None]).to(b_v.dtype)
        if CAUSAL:
            S = tl.dot(tl.trans(b_k), b_v, S, input_precision=PRECISION)
        q += BT * H * K
        if CAUSAL:
            k += BT * HK * K
            v += BT * HV * V
        own += BT * HS * V

    if S_end is not None and end == eos:
        store_state(S_end, n * HS + h, S, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
        if NORMALISED:  # noqa: SIM102 - joined, the condition is no longer the compiler's, and z_end may be None
            if slice_v == 0:
                store_normaliser(z_end, n * HS + h, tl.max(z, 1), o_k, K=K, SIZE=K)
