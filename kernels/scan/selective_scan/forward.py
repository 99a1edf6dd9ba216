"""The forward kernels of the selective scan: what a segment adds to a state, and the outputs."""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import locate, only_if
from kernels.scan.device import load_tile, store_tile
from kernels.scan.selective_scan.device import (
    entering,
    load_block,
    load_channels,
    load_modes,
    sigmoids,
    state_at,
    step_inputs,
    steps_of,
)


@triton.jit(do_not_specialize=["T"])
def selective_scan_local_kernel(
    u,
    delta,
    A,
    B,
    bias,
    states,
    totals,
    cu_seqlens,
    T,
    segment_size,
    segments,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """What a segment adds to a state of zeros, h <- exp(dt A) h + dt B u, and the sum of its steps dt.

    Grid:    sequences x segments x groups x blocks of channels, one axis, blocks fastest. The last segment returns at
             once: it adds to no other segment's start.
    On chip: h and A [N, BD] fp32.
    Reads:   u, delta, B. Writes: states [slots, HS, N, V], totals [slots, HS, V], both fp32.
    Bytes per token and channel: 2 elements; per segment and channel: 4 N + 4.
    """
    block, group, _, _, state_slot, begin, end, eos = locate(T, segment_size, segments, cu_seqlens, SLICES=BLOCKS, HS=H)
    if begin >= end:
        return
    if end == eos:
        return
    channel, keep, modes, mask, rate, b_bias = load_block(A, bias, block, group, GROUP=HS // H * V, K=K, BN=BN, BD=BD)
    h = tl.zeros([BN, BD], tl.float32)
    total = tl.zeros([BD], tl.float32)
    for step in range(tl.cdiv(end - begin, BT).to(tl.int32)):
        tile_start = begin + step * BT
        us = load_tile(u, channel, keep, tile_start, begin, end, stride=HS * V, BT=BT)
        dts = steps_of(
            load_tile(delta, channel, keep, tile_start, begin, end, stride=HS * V, BT=BT), b_bias, tile_start, end, BT
        )
        Bs = load_modes(B, modes, tile_start, begin, end, group, HK=H, K=K, BT=BT)
        for i in tl.static_range(BT):
            dt = dts[i]
            total += dt
            h = tl.exp2(dt[None, :] * rate) * h + (dt * us[i].to(tl.float32))[None, :] * Bs[i].to(tl.float32)[:, None]
    tl.store(states + state_slot * (HS * K * V) + state_at(channel, modes, K, V), h, mask=mask)
    tl.store(totals + state_slot * (HS * V) + channel, total, mask=keep)


@triton.jit
def outputs(
    x,
    h,
    rate,
    bias,
    b_D,
    checkpoints,
    index,
    offsets,
    mask,
    tile_start,
    end,
    SIZE: tl.constexpr,
    BT: tl.constexpr,
    INTERVAL: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """(outputs of BT tokens, a tuple of [BD], the state after them); checkpoints of them from slot `index` on.

    x: as step_inputs has it, of u, delta and z
    """
    dts = steps_of(x[BT : 2 * BT], bias, tile_start, end, BT, WHOLE)
    ss = sigmoids(x[2 * BT : 3 * BT], 0.0, BT)
    found = ()
    for i in tl.static_range(BT):
        if checkpoints is not None and i % INTERVAL == 0:
            b_h = h.to(checkpoints.dtype.element_ty)
            keep = mask if WHOLE else only_if(mask, tile_start + i < end)
            tl.store(checkpoints + (index + i // INTERVAL) * SIZE + offsets, b_h, mask=keep)
        dt = dts[i]
        b_u = x[i].to(tl.float32)
        h = tl.exp2(dt[None, :] * rate) * h + (dt * b_u)[None, :] * x[3 * BT + i].to(tl.float32)[:, None]
        y = tl.sum(h * x[4 * BT + i].to(tl.float32)[:, None], 0) + b_D * b_u
        found = found + (y * x[2 * BT + i].to(tl.float32) * ss[i],)
    return found, h


@triton.jit(do_not_specialize=["T"])
def selective_scan_fwd_kernel(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    o,
    start,
    states,
    end_state,
    checkpoints,
    cu_seqlens,
    T,
    segment_size,
    segments,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
    BLOCKS: tl.constexpr,
    INTERVAL: tl.constexpr,
):
    """h <- exp(dt A) h + dt B u,  o = (C . h + D u) silu(z).

    Grid:    sequences x segments x groups x blocks of channels, one axis, blocks fastest.
    On chip: h and A [N, BD] fp32 over all tokens of the segment: no state goes to memory between tokens.
    Reads:   u, delta, z, B, C; the start: states [slots, HS, N, V] fp32 in segments, else `start` where given.
    Writes:  o; end_state [sequences, HS, N, V] where wanted; where a backward pass follows, checkpoints: h before every
             INTERVAL-th token. Bytes per token and channel: 4 elements, and N / INTERVAL of checkpoints.
    """
    block, group, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=BLOCKS, HS=H
    )
    if begin >= end:
        return
    channel, keep, modes, mask, rate, b_bias = load_block(A, bias, block, group, GROUP=HS // H * V, K=K, BN=BN, BD=BD)
    b_D = load_channels(D, channel, keep)
    offsets = state_at(channel, modes, K, V)
    SIZE: tl.constexpr = HS * K * V
    h = entering(states, start, state_slot, n, offsets, mask, SIZE=SIZE)
    index = (begin - segment.to(tl.int64) * segment_size) // INTERVAL + n + segment * (segment_size // INTERVAL)
    # Whole steps need no masks. Each loads what the next one needs before it computes.
    whole = ((end - begin) // BT).to(tl.int32)
    tile_start = begin
    rows = (u, delta, z)
    now = step_inputs(rows, B, C, channel, keep, modes, tile_start, begin, end, group, H=H, HS=HS, K=K, V=V, BT=BT)
    for step in range(whole - 1):
        after = tile_start + BT
        then = step_inputs(
            rows, B, C, channel, keep, modes, after, begin, end, group, H=H, HS=HS, K=K, V=V, BT=BT, WHOLE=True
        )
        os, h = outputs(
            now,
            h,
            rate,
            b_bias,
            b_D,
            checkpoints,
            index + step * (BT // INTERVAL),
            offsets,
            mask,
            tile_start,
            end,
            SIZE=SIZE,
            BT=BT,
            INTERVAL=INTERVAL,
            WHOLE=True,
        )
        store_tile(o, os, channel, keep, tile_start, end, stride=HS * V, BT=BT, WHOLE=True)
        tile_start = after
        now = then
    steps = tl.cdiv(end - begin, BT).to(tl.int32)
    for step in range(tl.maximum(whole - 1, 0), steps):
        os, h = outputs(
            now,
            h,
            rate,
            b_bias,
            b_D,
            checkpoints,
            index + step * (BT // INTERVAL),
            offsets,
            mask,
            tile_start,
            end,
            SIZE=SIZE,
            BT=BT,
            INTERVAL=INTERVAL,
            WHOLE=False,
        )
        store_tile(o, os, channel, keep, tile_start, end, stride=HS * V, BT=BT)
        tile_start += BT
        now = step_inputs(rows, B, C, channel, keep, modes, tile_start, begin, end, group, H=H, HS=HS, K=K, V=V, BT=BT)
    if end_state is not None and end == eos:
        tl.store(end_state + n * SIZE + offsets, h.to(end_state.dtype.element_ty), mask=mask)
