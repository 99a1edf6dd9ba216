"""The backward kernels of the selective scan."""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, locate, only_if
from kernels.scan.device import inside, load_tile, store_tile
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
def selective_scan_bwd_local_kernel(
    delta,
    A,
    C,
    z,
    bias,
    do,
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
    """The gradient that a segment sends to the state before it, e <- exp(dt A) (C dy + e), and the sum of its steps.

    Grid:    as selective_scan_local_kernel's; a sequence's first segment returns at once.
    On chip: e and A [N, BD] fp32.
    Reads:   delta, z, do, C. Writes: states [slots, HS, N, V], totals [slots, HS, V], both fp32.
    Bytes per token and channel: 3 elements; per segment and channel: 4 N + 4.
    """
    block, group, _, segment, state_slot, begin, end, _ = locate(
        T, segment_size, segments, cu_seqlens, SLICES=BLOCKS, HS=H
    )
    if begin >= end:
        return
    if segment == 0:
        return
    channel, keep, modes, mask, rate, b_bias = load_block(A, bias, block, group, GROUP=HS // H * V, K=K, BN=BN, BD=BD)
    e = tl.zeros([BN, BD], tl.float32)
    total = tl.zeros([BD], tl.float32)
    steps = tl.cdiv(end - begin, BT).to(tl.int32)
    for step in range(steps):
        tile_start = begin + (steps - 1 - step) * BT
        dts = steps_of(
            load_tile(delta, channel, keep, tile_start, begin, end, stride=HS * V, BT=BT), b_bias, tile_start, end, BT
        )
        zs = load_tile(z, channel, keep, tile_start, begin, end, stride=HS * V, BT=BT)
        ss = sigmoids(zs, 0.0, BT)
        dos = load_tile(do, channel, keep, tile_start, begin, end, stride=HS * V, BT=BT)
        Cs = load_modes(C, modes, tile_start, begin, end, group, HK=H, K=K, BT=BT)
        for i in tl.static_range(BT - 1, -1, -1):
            total += dts[i]
            dy = dos[i].to(tl.float32) * zs[i].to(tl.float32) * ss[i]
            e = tl.exp2(dts[i][None, :] * rate) * (Cs[i].to(tl.float32)[:, None] * dy[None, :] + e)
    tl.store(states + state_slot * (HS * K * V) + state_at(channel, modes, K, V), e, mask=mask)
    tl.store(totals + state_slot * (HS * V) + channel, total, mask=keep)


@triton.jit
def gradients(
    x,
    h,
    e,
    b_dA,
    b_dD,
    b_dbias,
    rate,
    bias,
    b_D,
    du,
    ddelta,
    dz,
    dB,
    dC,
    channel,
    keep,
    modes,
    tile_start,
    end,
    shift,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BLOCKS: tl.constexpr,
    WHOLE: tl.constexpr,
):
    """The gradients of BT tokens, stored; (e before them, the sums of dA, dD, dbias). x: as step_inputs has it."""
    raws = x[BT : 2 * BT]
    dts = steps_of(raws, bias, tile_start, end, BT, WHOLE)
    slopes = sigmoids(raws, bias, BT)
    gates = sigmoids(x[2 * BT : 3 * BT], 0.0, BT)
    hs = (h.to(tl.float32),)
    for i in tl.static_range(BT):
        b_B = x[4 * BT + i].to(tl.float32)
        hs = hs + (tl.exp2(dts[i][None, :] * rate) * hs[i] + (dts[i] * x[i].to(tl.float32))[None, :] * b_B[:, None],)
    dus = ()
    ddeltas = ()
    dzs = ()
    to_B = dB + tile_start * (BLOCKS * H * K) + shift + modes
    to_C = dC + tile_start * (BLOCKS * H * K) + shift + modes
    for i in tl.static_range(BT - 1, -1, -1):
        dt = dts[i]
        s = gates[i]
        b_u = x[i].to(tl.float32)
        b_z = x[2 * BT + i].to(tl.float32)
        b_do = x[3 * BT + i].to(tl.float32)
        b_B = x[4 * BT + i].to(tl.float32)
        b_C = x[5 * BT + i].to(tl.float32)
        dy = b_do * b_z * s
        y = tl.sum(hs[i + 1] * b_C[:, None], 0) + b_D * b_u
        dzs = (b_do * y * s * (1.0 + b_z * (1.0 - s)),) + dzs
        dh = b_C[:, None] * dy[None, :] + e
        e = tl.exp2(dt[None, :] * rate) * dh
        w = e * hs[i]
        through_B = tl.sum(dh * b_B[:, None], 0)
        dus = (dt * through_B + b_D * dy,) + dus
        ddelta_i = (b_u * through_B + tl.sum(w * rate, 0) / LOG2E) * slopes[i]
        ddeltas = (ddelta_i,) + ddeltas
        b_dA += dt[None, :] * w
        b_dD += dy * b_u
        b_dbias += ddelta_i if WHOLE else tl.where(tile_start + i < end, ddelta_i, 0.0)
        b_dB = tl.sum(dh * (dt * b_u)[None, :], 1)
        b_dC = tl.sum(hs[i + 1] * dy[None, :], 1)
        own = inside(modes, K) if WHOLE else only_if(inside(modes, K), tile_start + i < end)
        tl.store(to_B + i * (BLOCKS * H * K), b_dB.to(dB.dtype.element_ty), mask=own)
        tl.store(to_C + i * (BLOCKS * H * K), b_dC.to(dC.dtype.element_ty), mask=own)
    store_tile(du, dus, channel, keep, tile_start, end, stride=HS * V, BT=BT, WHOLE=WHOLE)
    store_tile(ddelta, ddeltas, channel, keep, tile_start, end, stride=HS * V, BT=BT, WHOLE=WHOLE)
    store_tile(dz, dzs, channel, keep, tile_start, end, stride=HS * V, BT=BT, WHOLE=WHOLE)
    return e, b_dA, b_dD, b_dbias


@triton.jit(do_not_specialize=["T"])
def selective_scan_bwd_kernel(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    do,
    checkpoints,
    du,
    ddelta,
    dz,
    dB,
    dC,
    dA,
    dD,
    dbias,
    states,
    d_end,
    d_start,
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
    """All gradients, tokens in blocks of BT from the last to the first: states again from a checkpoint, then backwards.

    dy = do silu(z),  dh_t = C_t dy_t + e_{t+1},  e_t = exp(dt_t A) dh_t,  w_t = e_t h_{t-1}
    du = dt sum_n dh B + D dy,  ddt = u sum_n dh B + sum_n A w,  dz = do y silu'(z)
    dB_t = sum_channels dh dt u,  dC_t = sum_channels dy h,  dA = sum_t dt w

    Grid:    as selective_scan_fwd_kernel's.
    On chip: e, A and dA [N, BD], and BT tokens' states, fp32.
    Reads:   u, delta, z, do, B, C, checkpoints; the e that enters from behind: states [slots, HS, N, V] fp32 in
             segments, else d_end where given.
    Writes:  du, ddelta, dz; parts of dB and dC [tokens, BLOCKS, H, N] for each block of channels; parts of dA, dD and
             dbias for each sequence's segments; d_start where given.
    Bytes per token and channel: 7 elements, N / BT of checkpoints, 2 N / BD of parts.
    """
    block, group, n, segment, state_slot, begin, end, _ = locate(
        T, segment_size, segments, cu_seqlens, SLICES=BLOCKS, HS=H
    )
    if begin >= end:
        return
    channel, keep, modes, mask, rate, b_bias = load_block(A, bias, block, group, GROUP=HS // H * V, K=K, BN=BN, BD=BD)
    b_D = load_channels(D, channel, keep)
    offsets = state_at(channel, modes, K, V)
    SIZE: tl.constexpr = HS * K * V
    e = entering(states, d_end, state_slot, n, offsets, mask, SIZE=SIZE)
    b_dA = tl.zeros([BN, BD], tl.float32)
    b_dD = tl.zeros([BD], tl.float32)
    b_dbias = tl.zeros([BD], tl.float32)
    index = (begin - segment.to(tl.int64) * segment_size) // BT + n + segment * (segment_size // BT)
    shift = (block * H + group) * K
    # Whole steps need no masks. The first, which may not be whole, is apart; each loads what the next one needs before
    # it computes.
    steps = tl.cdiv(end - begin, BT).to(tl.int32)
    last = begin + (steps - 1) * BT
    rows = (u, delta, z, do)
    now = step_inputs(rows, B, C, channel, keep, modes, last, begin, end, group, H=H, HS=HS, K=K, V=V, BT=BT)
    h = tl.load(checkpoints + (index + steps - 1) * SIZE + offsets, mask=mask, other=0.0)
    for _ in range(tl.minimum(steps, 1)):
        e, b_dA, b_dD, b_dbias = gradients(
            now,
            h,
            e,
            b_dA,
            b_dD,
            b_dbias,
            rate,
            b_bias,
            b_D,
            du,
            ddelta,
            dz,
            dB,
            dC,
            channel,
            keep,
            modes,
            last,
            end,
            shift,
            H=H,
            HS=HS,
            K=K,
            V=V,
            BT=BT,
            BLOCKS=BLOCKS,
            WHOLE=False,
        )
        before = tl.maximum(last - BT, begin)
        now = step_inputs(rows, B, C, channel, keep, modes, before, begin, end, group, H=H, HS=HS, K=K, V=V, BT=BT)
        h = tl.load(checkpoints + (index + tl.maximum(steps - 2, 0)) * SIZE + offsets, mask=mask, other=0.0)
    for step in range(1, steps):
        tile_start = begin + (steps - 1 - step) * BT
        # The last step loads its own tokens again.
        after = tl.maximum(steps - 2 - step, 0)
        next_h = tl.load(checkpoints + (index + after) * SIZE + offsets, mask=mask, other=0.0)
        start = begin + after * BT
        then = step_inputs(
            rows, B, C, channel, keep, modes, start, begin, end, group, H=H, HS=HS, K=K, V=V, BT=BT, WHOLE=True
        )
        e, b_dA, b_dD, b_dbias = gradients(
            now,
            h,
            e,
            b_dA,
            b_dD,
            b_dbias,
            rate,
            b_bias,
            b_D,
            du,
            ddelta,
            dz,
            dB,
            dC,
            channel,
            keep,
            modes,
            tile_start,
            end,
            shift,
            H=H,
            HS=HS,
            K=K,
            V=V,
            BT=BT,
            BLOCKS=BLOCKS,
            WHOLE=True,
        )
        now = then
        h = next_h
    index = n * segments + segment
    tl.store(dA + index * SIZE + channel[None, :] * K + modes[:, None], b_dA, mask=mask)
    tl.store(dD + index * (HS * V) + channel, b_dD, mask=keep)
    tl.store(dbias + index * (HS * V) + channel, b_dbias, mask=keep)
    if d_start is not None and segment == 0:
        tl.store(d_start + n * SIZE + offsets, e.to(d_start.dtype.element_ty), mask=mask)
