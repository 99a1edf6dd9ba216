"""The second backward launch: slices of dk and slices of dv side by side, so that the tiles they share come from L2."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_decay.backward_dk import sweep_dk
from kernels.channel_decay.backward_dv import sweep_dv
from kernels.channel_decay.device import Inputs
from kernels.common.device import Place, Sizes, locate


@triton.jit(do_not_specialize=["T"])
def channel_bwd_dk_dv_kernel(
    q,
    k,
    v,
    g,
    u,
    do,
    dq,
    dk,
    dv,
    dg,
    du,
    dS_start,
    dS_end,
    checkpoints,
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
    K_SLICES: tl.constexpr,
    V_SLICES: tl.constexpr,
    SEGMENTED: tl.constexpr,
    INTERVAL: tl.constexpr,
    STAGES: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk, dv, dg, du, the own terms of dq, and the initial state's gradient: see sweep_dk and sweep_dv.

    Grid:    sequences x segments x HS x (slices of K, then slices of V), one axis, slices fastest.
    On chip: a slice of dS, [V, WK] or [K, WV], fp32, from the final state's gradient or the segment's.
    Reads:   q, k, v, g, u, do, dq, the checkpoints, a start state where there is one.
    Writes:  dq (completed), dk, dv, dg; du [slots, HS, K] fp32; the initial state's gradient.
    Bytes per token and state head over all slices of dk: b (5K + 2V) + 2c K, of dv: b (2K + 2V) + c K, with b, c bytes
    per element of q and g; KV elements per INTERVAL.
    """
    slice_kv, h, n, segment, state_slot, begin, end, _ = locate(
        T, segment_size, segments, cu_seqlens, SLICES=K_SLICES + V_SLICES, HS=HS
    )
    if begin >= end:
        return
    place = Place(n=n, h=h, segment=segment, state_slot=state_slot, begin=begin, end=end)
    inputs = Inputs(q=q, k=k, v=v, g=g, u=u, do=do)
    if slice_kv < K_SLICES:
        sweep_dk(
            slice_kv,
            place,
            inputs,
            dq=dq,
            dk=dk,
            dg=dg,
            du=du,
            dS_start=dS_start,
            dS_end=dS_end,
            checkpoints=checkpoints,
            cu_seqlens=cu_seqlens,
            scale=scale,
            T=T,
            segment_size=segment_size,
            sizes=Sizes(H=H, HK=HK, HV=HV, HS=HS, K=K, V=V),
            BT=BT,
            BK=WK,
            BV=BV,
            SEGMENTED=SEGMENTED,
            INTERVAL=INTERVAL,
            STAGES=STAGES,
            WIDE=WIDE,
            PRECISION=PRECISION,
        )
    else:
        sweep_dv(
            slice_kv - K_SLICES,
            place,
            inputs,
            dv=dv,
            dS_end=dS_end,
            scale=scale,
            sizes=Sizes(H=H, HK=HK, HV=HV, HS=HS, K=K, V=V),
            BT=BT,
            BK=BK,
            BV=WV,
            SEGMENTED=SEGMENTED,
            STAGES=STAGES,
            WIDE=WIDE,
            PRECISION=PRECISION,
        )
