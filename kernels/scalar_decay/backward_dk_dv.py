"""The backward sweeps of dk and dv in one launch: both walk from a sequence's end and share the tiles that they load.

Each program holds a slice of dS / s, so that the products run on q as it is stored: one of K's slices gives dk, one of
V's slices dv. Normalised, they hold it times `unit`, the largest denominator of the chunk, since the weights 1 / den of
a long sequence are too small for fp16. `backward.py` has the equations.
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
from kernels.scalar_decay.backward_dk import sweep_dk
from kernels.scalar_decay.backward_dv import sweep_dv
from kernels.scalar_decay.device import (
    SegmentStates,
)


class Inputs(NamedTuple):
    """What both sweeps read; see `linear_bwd_dk_dv_kernel`."""

    q: Any
    k: Any
    v: Any
    gate: Any
    rate: Any
    skip: Any
    do: Any
    den: Any


class Outputs(NamedTuple):
    """What a sweep of dk writes of every token."""

    dk: Any
    d_gate: Any
    d_weight: Any


@triton.jit(do_not_specialize=["T"])
def linear_bwd_dk_dv_kernel(
    q,
    k,
    v,
    gate,
    rate,
    skip,
    do,
    den,
    delta,
    q_dq,
    dk,
    dv,
    d_gate,
    d_weight,
    dS_end,
    dz_end,
    states,
    totals,
    d_last,
    dS_start,
    dz_start,
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
    MAP: tl.constexpr,
    NORMALISED: tl.constexpr,
    DECAY: tl.constexpr,
    START: tl.constexpr,
    PRECISION: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """dk, dv, the initial state's gradient, and what the gates' gradients are summed from.

    Grid:    sequences x segments x HS x (slices of K, then slices of V), one axis, slices fastest; chunks from last to
             first.
    On chip: dS^T / s [V, WK] and dz / s [WK], or dS / s [K, WV], fp32, starting from the final state's gradient.
    Not CAUSAL, dk = s phi'(k) (v dS^T + dz) and dv = s phi(k) dS with the whole sequence's dS and dz: slices of K read
    v, those of V read k; q, do, den and delta are None.
    Reads:   slices of K: v, do and a slice of q; a slice of k where phi has a slope or a gate its gradient; delta.
             Slices of V: q, k and a slice of do. Both: den where normalised; gate and rate where given.
    Writes:  a slice of dk [B, T, HS, K] or dv [B, T, HS, V]; the initial state's gradient, where wanted, by the first
             segment; for the gradient of a gate, by each slice of K a part in d_gate [B, T, HS, slices of K] fp32, of
             this segment's tokens alone, and in d_weight, of the same shape, of the weight dt on v.
    Bytes per token and state head over all slices: s (4K + 3V) at least, as each slice loads its full tiles again, from
    L2; + 8 normalised; + 4 (DQ_SLICES + 2 slices of K) and a gate's element for a gate's gradient.
    """
    slice_kv, h, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    count = segments_of(end, eos, segment, segment_size)
    DK_SLICES: tl.constexpr = (K + WK - 1) // WK
    place = Place(n=n, h=h, segment=segment, state_slot=state_slot, begin=begin, end=end)
    segment_states = SegmentStates(states=states, totals=totals, count=count)
    inputs = Inputs(q=q, k=k, v=v, gate=gate, rate=rate, skip=skip, do=do, den=den)
    if slice_kv < DK_SLICES:
        sweep_dk(
            slice_kv,
            place,
            inputs,
            delta,
            q_dq,
            outputs=Outputs(dk=dk, d_gate=d_gate, d_weight=d_weight),
            dS_start=dS_start,
            dz_start=dz_start,
            dS_end=dS_end,
            dz_end=dz_end,
            segment_states=segment_states,
            d_last=d_last,
            scale=scale,
            sizes=Sizes(H=H, HK=HK, HV=HV, HS=HS, K=K, V=V),
            BT=BT,
            BK=WK,
            BV=BV,
            SLICES=DK_SLICES,
            DQ_SLICES=DQ_SLICES,
            MAP=MAP,
            NORMALISED=NORMALISED,
            DECAY=DECAY,
            START=START,
            PRECISION=PRECISION,
            CAUSAL=CAUSAL,
        )
    # Not else: Triton 3.6 would give each branch shared memory of its own, and fewer programs would fit.
    if slice_kv >= DK_SLICES:
        sweep_dv(
            slice_kv - DK_SLICES,
            place,
            inputs,
            dv,
            dS_end,
            segment_states=segment_states,
            scale=scale,
            sizes=Sizes(H=H, HK=HK, HV=HV, HS=HS, K=K, V=V),
            BT=BT,
            BK=BK,
            BV=WV,
            MAP=MAP,
            NORMALISED=NORMALISED,
            DECAY=DECAY,
            START=START,
            PRECISION=PRECISION,
            CAUSAL=CAUSAL,
        )
