"""The forward kernels of the gated scan: what a segment adds to a state, and the outputs."""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, locate
from kernels.scan.device import inside, load_tile, store_tile


@triton.jit
def input_scales(rows, BT: tl.constexpr):
    """sqrt(1 - e^{2g}) in fp32 of each row g of log decays. Near 0 by its series: the difference would cancel."""
    scales = ()
    for i in tl.static_range(BT):
        y = 2.0 * rows[i].to(tl.float32)
        tail = 1.0 + y / 5.0 * (1.0 + y / 6.0 * (1.0 + y / 7.0 * (1.0 + y / 8.0)))
        series = -y * (1.0 + y / 2.0 * (1.0 + y / 3.0 * (1.0 + y / 4.0 * tail)))
        scales = scales + (tl.sqrt(tl.where(y > -0.5, series, 1.0 - tl.exp2(y * LOG2E))),)
    return scales


@triton.jit(do_not_specialize=["T"])
def gated_scan_local_kernel(
    x,
    log_decay,
    states,
    totals,
    cu_seqlens,
    T,
    segment_size,
    segments,
    D: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
    BLOCKS: tl.constexpr,
    STAGES: tl.constexpr,
    SCALED: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """What a segment adds to a state of zeros, and the log2 of what it keeps of one.

    h <- a h + s x over the segment's tokens; REVERSE: e <- a (x + e) from the last token to the first, where x is the
    outputs' gradient.

    Grid:    sequences x segments x blocks of channels, one axis, blocks fastest. The last segment (REVERSE: the first)
             returns at once: it adds to no other segment's start.
    On chip: h and the sum of log decays, [BD] fp32 each.
    Reads:   x and log_decay [B, T, D].
    Writes:  states and totals [slots, D] fp32. Bytes per token and channel: 2 elements; per segment and channel: 8.
    """
    block, _, _, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=BLOCKS, HS=1
    )
    if begin >= end:
        return
    if (segment == 0) if REVERSE else (end == eos):
        return
    columns = block * BD + tl.arange(0, BD)
    keep = inside(columns, D)
    steps = tl.cdiv(end - begin, BT).to(tl.int32)
    h = tl.zeros([BD], tl.float32)
    total = tl.zeros([BD], tl.float32)
    for step in tl.range(0, steps, num_stages=STAGES):
        tile_start = begin + (steps - 1 - step if REVERSE else step) * BT
        xs = load_tile(x, columns, keep, tile_start, begin, end, stride=D, BT=BT)
        gs = load_tile(log_decay, columns, keep, tile_start, begin, end, stride=D, BT=BT)
        if SCALED and not REVERSE:
            scales = input_scales(gs, BT)
        for i in tl.static_range(BT):
            # A token beyond the segment neither adds nor decays: its row holds zeros.
            g = gs[BT - 1 - i if REVERSE else i].to(tl.float32)
            b_x = xs[BT - 1 - i if REVERSE else i].to(tl.float32)
            if SCALED and not REVERSE:
                b_x *= scales[i]
            a = tl.exp2(g * LOG2E)
            total += g * LOG2E
            h = a * (h + b_x) if REVERSE else a * h + b_x
    tl.store(states + state_slot * D + columns, h, mask=keep)
    tl.store(totals + state_slot * D + columns, total, mask=keep)


@triton.jit(do_not_specialize=["T"])
def gated_scan_fwd_kernel(
    x,
    log_decay,
    o,
    start,
    states,
    end_state,
    cu_seqlens,
    T,
    segment_size,
    segments,
    D: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
    BLOCKS: tl.constexpr,
    STAGES: tl.constexpr,
    SCALED: tl.constexpr,
):
    """h_t = a_t h_{t-1} + s_t x_t, o_t = h_t.

    Grid:    sequences x segments x blocks of channels, one axis, blocks fastest.
    On chip: h [BD] fp32 over all tokens of the segment.
    Reads:   x and log_decay [B, T, D]; the start: states [slots, D] fp32 in segments, else start [N, D] where given.
    Writes:  o [B, T, D]; end_state [N, D] where wanted. Bytes per token and channel: 3 elements.
    """
    block, _, n, _, state_slot, begin, end, eos = locate(T, segment_size, segments, cu_seqlens, SLICES=BLOCKS, HS=1)
    if begin >= end:
        return
    columns = block * BD + tl.arange(0, BD)
    keep = inside(columns, D)
    h = tl.zeros([BD], tl.float32)
    if states is not None:
        h += tl.load(states + state_slot * D + columns, mask=keep, other=0.0)
    elif start is not None:
        h += tl.load(start + n * D + columns, mask=keep, other=0.0).to(tl.float32)
    steps = tl.cdiv(end - begin, BT).to(tl.int32)
    for step in tl.range(0, steps, num_stages=STAGES):
        tile_start = begin + step * BT
        xs = load_tile(x, columns, keep, tile_start, begin, end, stride=D, BT=BT)
        gs = load_tile(log_decay, columns, keep, tile_start, begin, end, stride=D, BT=BT)
        if SCALED:
            scales = input_scales(gs, BT)
        hs = ()
        for i in tl.static_range(BT):
            g = gs[i].to(tl.float32)
            b_x = xs[i].to(tl.float32)
            if SCALED:
                b_x *= scales[i]
            h = tl.exp2(g * LOG2E) * h + b_x
            hs = hs + (h,)
        store_tile(o, hs, columns, keep, tile_start, end, stride=D, BT=BT)
    if end_state is not None and end == eos:
        tl.store(end_state + n * D + columns, h.to(end_state.dtype.element_ty), mask=keep)
