"""The sweep of dk and of the gates' gradients: what a program with a slice of K does in `backward_dk_dv.py`."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import (
    between,
    load_rows,
    only_if,
    rounding,
    store_normaliser,
    store_rows,
    store_state,
    summed,
    times_state,
)
from kernels.mlstm.device import known, sums_of, weighed
from kernels.scalar_decay.device import SegmentStates, from_the_end, start_state


@triton.jit
def sweep_dk(
    slice_k,
    place,
    inputs,
    delta,
    q_dq,
    outputs,
    dC_start,
    dn_start,
    dC_end,
    dn_end,
    segment_states,
    d_last,
    scale,
    sizes,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    DQ_SLICES: tl.constexpr,
    EXP: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk = s 2^U (2^{G_C-E} (v dC^T + dn) + triu((v do^T - delta) . 2^{R_i-E_j}) q); the gates' gradients.

    slice_k: the slice of K. On chip: dC^T / (s 2^U) [V, BK] and dn / (s 2^U) [BK], fp32.
    """
    n_th, h, segment, _state_slot, begin, end = place
    q, k, v, input_gate, forget_gate, log_den, do = inputs
    dk, d_forget, d_input = outputs
    H: tl.constexpr = sizes.H
    HK: tl.constexpr = sizes.HK
    HV: tl.constexpr = sizes.HV
    HS: tl.constexpr = sizes.HS
    K: tl.constexpr = sizes.K
    V: tl.constexpr = sizes.V
    rows = tl.arange(0, BT)
    o_k = slice_k * BK + tl.arange(0, BK)
    o_v = tl.arange(0, BV)
    length = (end - begin).to(tl.int32)
    last_chunk = begin + (length - 1) // BT * BT
    q += (last_chunk * H + h // (HS // H)) * K
    k += (last_chunk * HK + h // (HS // HK)) * K
    v += (last_chunk * HV + h // (HS // HV)) * V
    do += (last_chunk * HS + h) * V
    dk += (last_chunk * HS + h) * K

    SIZE: tl.constexpr = K * V + (K if EXP else 0)
    dC = tl.zeros([BV, BK], dtype=tl.float32)
    dC = start_state(
        dC,
        dC_end,
        segment_states,
        place,
        o_k[None, :],
        o_v[:, None],
        factor=1.0 / scale,
        HS=HS,
        K=K,
        V=V,
        SIZE=SIZE,
        DECAY="token",
        START=START,
        REVERSE=True,
    )
    dn = tl.zeros([1, BK], dtype=tl.float32)
    if EXP:
        # The column is a state of one value: its elements lie behind those of the segment's [K, V] part.
        states, totals, count = segment_states
        column = SegmentStates(states=None if states is None else states + K * V, totals=totals, count=count)
        only = tl.zeros([1, 1], tl.int32)
        dn = start_state(
            dn,
            dn_end,
            column,
            place,
            o_k[None, :],
            only,
            factor=1.0 / scale,
            HS=HS,
            K=K,
            V=1,
            SIZE=SIZE,
            DECAY="token",
            START=START,
            REVERSE=True,
        )
    # The gradient of the log decay of the token after this one: of a sequence's last, through the final state alone.
    carry = from_the_end(d_last, place, segment_states.count, slice_k=slice_k, HS=HS, DQ_SLICES=DQ_SLICES)

    unit = 0.0
    later = rows[:, None] <= rows[None, :]
    for tokens_done in range(0, length, BT):
        chunk_start = (length - 1) // BT * BT - tokens_done
        keep = rows < length - chunk_start
        offsets = (begin + chunk_start + rows) * HS + h
        b_v = load_rows(v, stride=HV * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_do = load_rows(do, stride=HS * V, keep=keep, start=0, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_q = load_rows(q, stride=H * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_k = load_rows(k, stride=HK * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)  # [BT, BK]
        g, w = known(input_gate, forget_gate, offsets, keep, EXP)
        G, E, total = sums_of(g, w)
        R, U = weighed(log_den, offsets, keep, G, EXP)
        b_P = tl.dot(b_v, tl.trans(b_do), input_precision=PRECISION)  # [BT, BT]
        if EXP:
            dC *= tl.exp2(unit - U)
            dn *= tl.exp2(unit - U)
            unit = U
            b_delta = tl.load(delta + offsets, mask=keep, other=0.0)
            b_P -= b_delta[None, :]
        b_dk = times_state(b_v, dC, PRECISION, True) + dn  # [BT, BK]
        b_P = tl.where(later, b_P * between(R[None, :], E[:, None], later), 0.0)
        b_left = tl.exp2(total - E)[:, None]
        b_off = rounding(b_k, b_left, b_dk)
        factor = scale * tl.exp2(U)
        b_dk = tl.dot(b_P.to(b_q.dtype), b_q, b_dk * b_left, input_precision=PRECISION) * factor
        b_own = tl.sum(b_k.to(tl.float32) * b_dk, 1)  # [BT]
        tl.store(d_input + offsets * SLICES + slice_k, b_own, mask=keep)
        b_less = -(b_own + b_off * factor)
        for other in tl.static_range(DQ_SLICES):
            b_less += tl.load(q_dq + offsets * DQ_SLICES + other, mask=only_if(keep, slice_k == 0), other=0.0)
        tl.store(d_forget + offsets * SLICES + slice_k, carry + tl.cumsum(b_less, 0, reverse=True), mask=keep)
        carry += summed(b_less)
        store_rows(dk, b_dk, stride=HS * K, keep=keep, start=slice_k * BK, BT=BT, D=K, BD=BK)
        dC *= tl.exp2(total)
        b_q = (b_q.to(tl.float32) * tl.exp2(R)[:, None]).to(b_q.dtype)
        if EXP:
            dn = dn * tl.exp2(total) - tl.sum(b_q.to(tl.float32) * b_delta[:, None], 0)[None, :]
        dC = tl.dot(tl.trans(b_do), b_q, dC, input_precision=PRECISION)
        q -= BT * H * K
        k -= BT * HK * K
        v -= BT * HV * V
        do -= BT * HS * V
        dk -= BT * HS * K

    if dC_start is not None and segment == 0:
        factor = scale * tl.exp2(unit)
        store_state(dC_start, n_th * HS + h, dC * factor, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V)
        if EXP:
            store_normaliser(dn_start, n_th * HS + h, tl.sum(dn, 0) * factor, o_k, K=K, SIZE=K)
