"""The second backward launch: slices of dk and slices of dv side by side, so that the tiles they share come from L2."""

# Triton types a device function as one that never returns, and constexpr names as no plain values.
# pyright: reportGeneralTypeIssues=false, reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_decay.backward_dk import sweep_dk
from kernels.channel_decay.backward_dv import sweep_dv
from kernels.channel_decay.device import Checkpoints, Gradients, Inputs, Settings
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
    W: tl.constexpr,
    SEGMENTED: tl.constexpr,
    INTERVAL: tl.constexpr,
    STAGES: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk, dv, dg, du, the own terms of dq, and the initial state's gradient: see sweep_dk and sweep_dv.

    Grid:    sequences x segments x HS x (slices of W of K, then of V), one axis, slices fastest.
    On chip: a slice of dS, [V, W] or [K, W], fp32, from the final state's gradient or the segment's.
    Reads:   q, k, v, g, u, do, dq, the checkpoints, a start state where there is one.
    Writes:  dq (completed), dk, dv, dg; du [slots, HS, K] fp32; the initial state's gradient.
    Bytes per token and state head over all slices of dk: b (5K + 2V) + 2c K, of dv: b (2K + 2V) + c K, with b, c bytes
    per element of q and g; KV elements per INTERVAL.
    """
    K_SLICES: tl.constexpr = (K + W - 1) // W
    SLICES: tl.constexpr = K_SLICES + (V + W - 1) // W
    slice_kv, h, n, segment, state_slot, begin, end, _ = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    place = Place(n=n, h=h, segment=segment, state_slot=state_slot, begin=begin, end=end)
    inputs = Inputs(q=q, k=k, v=v, g=g, u=u, do=do, dS_end=dS_end)
    stored = Checkpoints(states=checkpoints, cu_seqlens=cu_seqlens, T=T, segment_size=segment_size)
    gradients = Gradients(dq=dq, dk=dk, dv=dv, dg=dg, du=du, dS_start=dS_start)
    sizes: tl.constexpr = Sizes(H=H, HK=HK, HV=HV, HS=HS, K=K, V=V)
    settings: tl.constexpr = Settings(
        BT=BT, SEGMENTED=SEGMENTED, INTERVAL=INTERVAL, STAGES=STAGES, WIDE=WIDE, PRECISION=PRECISION
    )
    if slice_kv < K_SLICES:
        sweep_dk(slice_kv, place, inputs, gradients, stored, scale=scale, sizes=sizes, settings=settings, BK=W, BV=BV)
    else:
        sweep_dv(slice_kv - K_SLICES, place, inputs, dv, scale, sizes=sizes, settings=settings, BK=BK, BV=W)
