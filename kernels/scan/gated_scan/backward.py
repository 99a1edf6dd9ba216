"""The backward kernel of the gated scan."""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, locate
from kernels.scan.device import inside, load_tile, store_tile
from kernels.scan.gated_scan.forward import input_scales


@triton.jit(do_not_specialize=["T"])
def gated_scan_bwd_kernel(
    x,
    log_decay,
    o,
    do,
    dx,
    d_log_decay,
    start,
    states,
    d_end,
    d_start,
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
    """dh_t = do_t + e_{t+1},  e_t = a_t dh_t,  dx_t = s_t dh_t,  dg_t = e_t h_{t-1} [ - dh_t x_t a_t^2 / s_t ].

    e_t is the gradient that leaves token t for the one before it; h_{t-1} is the output before. Without a scale, x is
    not needed.

    Grid:    sequences x segments x blocks of channels, one axis, blocks fastest.
    On chip: e [BD] fp32 over all tokens of the segment, the last one first.
    Reads:   do, log_decay and o [B, T, D], x where it is scaled; the e that enters from behind: states [slots, D] fp32
             in segments, else d_end [N, D] where given; start [N, D], where given, as h_0.
    Writes:  dx, d_log_decay [B, T, D]; d_start [N, D] where given. Bytes per token and channel: 5 elements, scaled 6.
    """
    block, _, n, segment, state_slot, begin, end, _ = locate(T, segment_size, segments, cu_seqlens, SLICES=BLOCKS, HS=1)
    if begin >= end:
        return
    columns = block * BD + tl.arange(0, BD)
    keep = inside(columns, D)
    e = tl.zeros([BD], tl.float32)
    if states is not None:
        e += tl.load(states + state_slot * D + columns, mask=keep, other=0.0)
    elif d_end is not None:
        e += tl.load(d_end + n * D + columns, mask=keep, other=0.0).to(tl.float32)
    h_start = tl.zeros([BD], tl.float32)
    if start is not None and segment == 0:
        h_start += tl.load(start + n * D + columns, mask=keep, other=0.0).to(tl.float32)
    # The output before a segment's first token belongs to the segment before it, where there is one.
    before = begin - tl.where(segment > 0, 1, 0)
    steps = tl.cdiv(end - begin, BT).to(tl.int32)
    for step in tl.range(0, steps, num_stages=STAGES):
        tile_start = begin + (steps - 1 - step) * BT
        gs = load_tile(log_decay, columns, keep, tile_start, begin, end, stride=D, BT=BT)
        dos = load_tile(do, columns, keep, tile_start, begin, end, stride=D, BT=BT)
        hs = load_tile(o, columns, keep, tile_start - 1, begin=before, end=end, stride=D, BT=BT)
        if SCALED:
            xs = load_tile(x, columns, keep, tile_start, begin, end, stride=D, BT=BT)
            scales = input_scales(gs, BT)
        dxs = ()
        dgs = ()
        for i in tl.static_range(BT - 1, -1, -1):
            g = gs[i].to(tl.float32)
            h = hs[i].to(tl.float32)
            if i == 0:
                h += tl.where((tile_start == begin) & (segment == 0), h_start, 0.0)
            a = tl.exp2(g * LOG2E)
            dh = dos[i].to(tl.float32) + e
            e = a * dh
            dg = e * h
            if SCALED:
                s = scales[i]
                slope = tl.where(s > 0.0, a * a / tl.where(s > 0.0, s, 1.0), 0.0)
                dg -= dh * xs[i].to(tl.float32) * slope
                dh *= s
            dxs = (dh,) + dxs
            dgs = (dg,) + dgs
        store_tile(dx, dxs, columns, keep, tile_start, end, stride=D, BT=BT)
        store_tile(d_log_decay, dgs, columns, keep, tile_start, end, stride=D, BT=BT)
    if d_start is not None and segment == 0:
        tl.store(d_start + n * D + columns, e.to(d_start.dtype.element_ty), mask=keep)
