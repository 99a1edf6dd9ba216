"""The backward sweeps of dk and dv in one launch: both walk from a sequence's end and share the tiles that they load.

Each program holds a slice of dC / (s 2^U), where 2^-U is the smallest denominator of the chunk: so the products run on
q as it is stored, and no weight is above 1. One of K's slices gives dk, one of V's slices dv. `backward.py` has the
equations.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from kernels.common.device import (
    Place,
    Sizes,
    locate,
    segments_of,
)
from kernels.mlstm.backward_dk import sweep_dk
from kernels.mlstm.backward_dv import sweep_dv
from kernels.scalar_decay.device import SegmentStates


class Inputs(NamedTuple):
    """What both sweeps read; see `mlstm_bwd_dk_dv_kernel`."""

    q: Any
    k: Any
    v: Any
    input_gate: Any
    forget_gate: Any
    log_den: Any
    do: Any


class Outputs(NamedTuple):
    """What a sweep of dk writes of every token."""

    dk: Any
    d_forget: Any
    d_input: Any


@triton.jit(do_not_specialize=["T"])
def mlstm_bwd_dk_dv_kernel(
    q,
    k,
    v,
    input_gate,
    forget_gate,
    log_den,
    do,
    delta,
    q_dq,
    dk,
    dv,
    d_forget,
    d_input,
    dC_end,
    dn_end,
    states,
    totals,
    d_last,
    dC_start,
    dn_start,
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
    WK: tl.constexpr,
    WV: tl.constexpr,
    SLICES: tl.constexpr,
    DQ_SLICES: tl.constexpr,
    EXP: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk, dv, the initial state's gradient, and what the gates' gradients are summed from.

    Grid:    sequences x segments x HS x (slices of K, then slices of V), one axis, slices fastest; chunks from last to
             first.
    On chip: dC^T [V, WK] and dn [WK], or dC [K, WV], fp32, starting from the final state's gradient.
    Reads:   slices of K: v, do and slices of q and k; delta; q_dq by slice 0. Slices of V: q, k and a slice of do.
             Both: log_den, and what the forward pass kept in the gates' place; with the sigmoid gate, both gates.
    Writes:  a slice of dk [B, T, HS, K] or dv [B, T, HS, V]; the initial state's gradient, where wanted, by the first
             segment; by each slice of K a part in d_forget [B, T, HS, slices of K] fp32, of the gradient of log f, of
             this segment's tokens alone, and in d_input, of the same shape, of the gradient of log i.
    Bytes per token and state head over all slices: s (4K + 3V) at least, as each slice loads its full tiles again, from
    L2; + 8 + 4 (DQ_SLICES + 2 slices of K); exponential, + 8.
    """
    slice_kv, h, n_th, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    count = segments_of(end, eos, segment, segment_size)
    DK_SLICES: tl.constexpr = (K + WK - 1) // WK
    place = Place(n=n_th, h=h, segment=segment, state_slot=state_slot, begin=begin, end=end)
    segment_states = SegmentStates(states=states, totals=totals, count=count)
    inputs = Inputs(q=q, k=k, v=v, input_gate=input_gate, forget_gate=forget_gate, log_den=log_den, do=do)
    if slice_kv < DK_SLICES:
        sweep_dk(
            slice_kv,
            place,
            inputs,
            delta,
            q_dq,
            outputs=Outputs(dk=dk, d_forget=d_forget, d_input=d_input),
            dC_start=dC_start,
            dn_start=dn_start,
            dC_end=dC_end,
            dn_end=dn_end,
            segment_states=segment_states,
            d_last=d_last,
            scale=scale,
            sizes=Sizes(H=H, HK=HK, HV=HV, HS=HS, K=K, V=V),
            BT=BT,
            BK=WK,
            BV=BV,
            SLICES=DK_SLICES,
            DQ_SLICES=DQ_SLICES,
            EXP=EXP,
            START=START,
            PRECISION=PRECISION,
        )
    # Not else: Triton 3.6 would give each branch shared memory of its own, and fewer programs would fit.
    if slice_kv >= DK_SLICES:
        sweep_dv(
            slice_kv - DK_SLICES,
            place,
            inputs,
            dv,
            dC_end,
            segment_states=segment_states,
            scale=scale,
            sizes=Sizes(H=H, HK=HK, HV=HV, HS=HS, K=K, V=V),
            BT=BT,
            BK=BK,
            BV=WV,
            EXP=EXP,
            START=START,
            PRECISION=PRECISION,
        )
