"""Segments: where sequences x heads x slices do not fill the GPU, a sequence is cut and its parts swept in parallel.

Each segment but the last in the sweep's direction sums its own contribution to the state. The programs of the next
sweep each join the contributions of the segments before theirs.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import load_rows, locate, store_normaliser, store_state
from kernels.mlstm.device import EMPTY, known, last, stabilised, sums_of, weighed


@triton.jit(do_not_specialize=["T"])
def mlstm_segment_state_kernel(
    x,
    y,
    input_gate,
    forget_gate,
    log_den,
    delta,
    states,
    totals,
    tops,
    cu_seqlens,
    T,
    segment_size,
    segments,
    HX: tl.constexpr,
    HY: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    EXP: tl.constexpr,
    REVERSE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A segment's contribution: the weighted x^T y and, with the exponential gate, a column beside it.

    Forward, x = k and y = v, weighted as they reach the segment's end and stabilised by the segment's own top; the
    column is the sum of weighted k. REVERSE, x = q and y = do give the state's gradient over s at the segment's start,
    rows weighted by 2^R; the column is minus the sum of weighted q delta.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest; REVERSE, chunks from last to first.
    On chip: the contribution [K, BV] and [K], fp32.
    Reads:   x and a slice of y, of all segments but the last (REVERSE: the first), and both gates; REVERSE, what the
             forward pass kept in their place, log_den and delta.
    Writes:  states [slots, HS, KV (+ K)] fp32, in the segment's slot: the [K, V] part, then the column; by slice 0,
             totals [slots, HS] fp32, log2 of the segment's decay; forward with the exponential gate its natural
             logarithm, and tops, of the same shape, what stabilises the contribution.
    Bytes per token and state head over all slices: s (K + V) + 8, REVERSE + 8; 4 (KV + K) a segment.
    """
    slice_v, h, _n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if (begin >= end) | ((segment == 0) if REVERSE else (end == eos)):
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    length = (end - begin).to(tl.int32)
    start = (length - 1) // BT * BT if REVERSE else 0
    x += ((begin + start) * HX + h // (HS // HX)) * K
    y += ((begin + start) * HY + h // (HS // HY)) * V
    passed = 0.0
    unit = 0.0
    m = tl.full([1], EMPTY, tl.float32)
    C = tl.zeros([BK, BV], dtype=tl.float32)
    column = tl.zeros([BK], dtype=tl.float32)
    for tokens_done in range(0, length, BT):
        chunk_start = start - tokens_done if REVERSE else tokens_done
        keep = rows < length - chunk_start
        offsets = (begin + chunk_start + rows) * HS + h
        b_x = load_rows(x, stride=HX * K, keep=keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_y = load_rows(y, stride=HY * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        if EXP and not REVERSE:
            g, w, b_m, b_sums = stabilised(input_gate, forget_gate, offsets, rows, length - chunk_start, m=m)
            m = last(b_m, rows, BT) + tl.zeros([1], tl.float32)
            passed += last(b_sums, rows, BT)
        else:
            g, w = known(input_gate, forget_gate, offsets, keep, EXP)
            passed += tl.sum(g, 0)
        G, E, total = sums_of(g, w)
        if REVERSE:
            R, U = weighed(log_den, offsets, keep, G, EXP)
            if EXP:
                C *= tl.exp2(unit - U)
                column *= tl.exp2(unit - U)
                unit = U
        else:
            R = total - E
        C *= tl.exp2(total)
        # The sweep of dq, or of dk, rounds its rows alike: a gate's gradient takes differences between the two.
        b_x = (b_x.to(tl.float32) * tl.exp2(R)[:, None]).to(b_x.dtype)
        if EXP:
            column *= tl.exp2(total)
            if REVERSE:
                b_delta = tl.load(delta + offsets, mask=keep, other=0.0)
                column -= tl.sum(b_x.to(tl.float32) * b_delta[:, None], 0)
            else:
                column += tl.sum(b_x.to(tl.float32), 0)
        C = tl.dot(tl.trans(b_x), b_y, C, input_precision=PRECISION)
        x += -BT * HX * K if REVERSE else BT * HX * K
        y += -BT * HY * V if REVERSE else BT * HY * V
    SIZE: tl.constexpr = K * V + (K if EXP else 0)
    index = state_slot * HS + h
    store_state(states, index, C * tl.exp2(unit), o_k[:, None], o_v[None, :], K=K, V=V, SIZE=SIZE)
    if slice_v == 0:
        tl.store(totals + index, passed)
        if EXP:
            store_normaliser(states + K * V, index, column * tl.exp2(unit), o_k, K=K, SIZE=SIZE)
        if tops is not None:
            tl.store(tops + index + tl.arange(0, 1), m)
