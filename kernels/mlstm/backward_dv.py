"""The sweep of dv: what a program with a slice of V does in `backward_dk_dv.py`."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import (
    between,
    load_rows,
    store_rows,
    times_state,
)
from kernels.mlstm.device import known, sums_of, weighed
from kernels.scalar_decay.device import start_state


@triton.jit
def sweep_dv(
    slice_v,
    place,
    inputs,
    dv,
    dC_end,
    segment_states,
    scale,
    sizes,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    EXP: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dv = s 2^U (2^{G_C-E} k dC + triu(k q^T . 2^{R_i-E_j}) do).

    slice_v: the slice of V. On chip: dC / (s 2^U) [K, BV], fp32.
    """
    _n, h, _segment, _state_slot, begin, end = place
    q, k, _v, input_gate, forget_gate, log_den, do = inputs
    H: tl.constexpr = sizes.H
    HK: tl.constexpr = sizes.HK
    HS: tl.constexpr = sizes.HS
    K: tl.constexpr = sizes.K
    V: tl.constexpr = sizes.V
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    length = (end - begin).to(tl.int32)
    last_chunk = begin + (length - 1) // BT * BT
    q += (last_chunk * H + h // (HS // H)) * K
    k += (last_chunk * HK + h // (HS // HK)) * K
    do += (last_chunk * HS + h) * V
    dv_rows = dv + (last_chunk * HS + h) * V

    SIZE: tl.constexpr = K * V + (K if EXP else 0)
    dC = tl.zeros([BK, BV], dtype=tl.float32)
    dC = start_state(
        dC,
        dC_end,
        segment_states,
        place,
        o_k[:, None],
        o_v[None, :],
        factor=1.0 / scale,
        HS=HS,
        K=K,
        V=V,
        SIZE=SIZE,
        DECAY="token",
        START=START,
        REVERSE=True,
    )

    unit = 0.0
    later = rows[:, None] <= rows[None, :]
    for tokens_done in range(0, length, BT):
        chunk_start = (length - 1) // BT * BT - tokens_done
        keep = rows < length - chunk_start
        offsets = (begin + chunk_start + rows) * HS + h
        b_k = load_rows(k, stride=HK * K, keep=keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_q = load_rows(q, stride=H * K, keep=keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_do = load_rows(do, stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        g, w = known(input_gate, forget_gate, offsets, keep, EXP)
        G, E, total = sums_of(g, w)
        R, U = weighed(log_den, offsets, keep, G, EXP)
        if EXP:
            dC *= tl.exp2(unit - U)
            unit = U
        b_P = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION)  # [BT, BT]
        b_P = tl.where(later, b_P * between(R[None, :], E[:, None], later), 0.0)
        b_dv = times_state(b_k, dC, PRECISION) * tl.exp2(total - E)[:, None]
        b_dv = tl.dot(b_P.to(b_do.dtype), b_do, b_dv, input_precision=PRECISION)  # [BT, BV]
        store_rows(
            dv_rows, b_dv * (scale * tl.exp2(U)), stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV
        )
        dC *= tl.exp2(total)
        b_do = (b_do.to(tl.float32) * tl.exp2(R)[:, None]).to(b_do.dtype)
        dC = tl.dot(tl.trans(b_q), b_do, dC, input_precision=PRECISION)
        q -= BT * H * K
        k -= BT * HK * K
        do -= BT * HS * V
        dv_rows -= BT * HS * V
