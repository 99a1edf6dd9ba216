"""Segments: where sequences and heads are too few to fill a GPU, a sequence is cut and its parts swept in parallel.

A segment maps the state affinely, S_end = M S_start + C, with C what it makes of a zero state and M [K, K] the product
of its tokens' transitions. Both come from one sweep, since M is the state that the segment makes of the identity
without values. Its transpose maps the state's gradient back: dS_start = M^T dS_end + D. `combine` joins the segments in
turn.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import load_state, only_if, store_state, times_state
from kernels.delta.device import (
    chunk_inverse,
    chunk_slot,
    correct,
    load_gates,
    load_tile,
    locate,
    store_end,
    total,
    unit_rows,
)


@triton.jit(do_not_specialize=["T"])
def delta_segment_map_kernel(
    k,
    v,
    beta,
    log_decay,
    inverse,
    states,
    maps,
    cu_seqlens,
    T,
    segment_size,
    segments,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    STEPS: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    OF_V: tl.constexpr,
    ALL: tl.constexpr,
    L2NORM: tl.constexpr,
    STORED: tl.constexpr,
    PRECISION: tl.constexpr,
    INVERT: tl.constexpr,
):
    """C and M of a segment: the columns of V start from 0 and take v, the columns of K start from the identity.

    Grid:    sequences x segments x HS x slices, one axis, slices fastest: OF_V slices of C, then those of M.
    On chip: a slice [K, BV] of C or M, fp32; N [BT, BT], made again in each slice unless STORED.
    Reads:   k, a slice of v, the gates, of all segments but the last, and of that one too if ALL; N where STORED.
    Writes:  states [slots, HS, K, V] and maps [slots, HS, K, K], fp32, in the segment's slot.
    Bytes per step and state head over all slices: s (K + V) + 8; 4 K (K + V) per segment.
    """
    slice_vk, h, n, _, state_slot, begin, end, eos, bos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=HS, STEPS=STEPS
    )
    if (begin >= end) | ((end == eos) & (not ALL)):
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    head = h // (HS // H)
    strict = rows[:, None] > rows[None, :]
    GATED: tl.constexpr = log_decay is not None
    mapping = slice_vk >= OF_V
    o_c = tl.where(mapping, slice_vk - OF_V, slice_vk) * BV + tl.arange(0, BV)
    S = tl.where((o_k[:, None] == o_c[None, :]) & mapping, 1.0, 0.0)
    chunk = chunk_slot(n, bos, begin, T, cu_seqlens, BT=BT, STEPS=STEPS) * HS + h
    length = (end - begin).to(tl.int32)
    for chunk_start in tl.range(0, length, BT, disable_licm=True):
        first_step = begin + chunk_start
        keep = rows < length - chunk_start
        b_k = load_tile(k + (first_step * H + head) * K, rows, keep, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        valued = rows < tl.where(mapping, 0, length - chunk_start)
        b_v = load_tile(
            v + (first_step * HS + h) * V, rows, valued, HS * V, start=slice_vk * BV, D=V, BD=BV
        )  # [BT, BV]
        b, G = load_gates(beta, log_decay, first_step, rows, keep, h, HS=HS, STEPS=STEPS)
        b_k, f_k, _rest = unit_rows(b_k, L2NORM)
        if STORED:
            b_N = tl.load(inverse + chunk * BT * BT + rows[:, None] * BT + rows[None, :])
        else:
            b_N = chunk_inverse(b_k, f_k, b, G, strict, GATED=GATED, PRECISION=PRECISION, INVERT=INVERT).to(b_k.dtype)
        b_kS = times_state(b_k, S, PRECISION) * f_k[:, None]  # [BT, BV]
        if GATED:
            b_kS *= tl.exp(G)[:, None]
        b_w = correct(b_v.to(tl.float32) - b_kS, b_N, PRECISION) * (b * f_k)[:, None]
        if GATED:
            G_last = total(G, BT)
            b_w *= tl.exp(G_last - G)[:, None]
            S *= tl.exp(G_last)
        S = tl.dot(tl.trans(b_k), b_w.to(b_k.dtype), S, input_precision=PRECISION)
        chunk += HS
    late = tl.minimum(length, 0)
    slice_vk, h, _, _, state_slot, _, _, _, _ = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=HS, STEPS=STEPS, late=late
    )
    if slice_vk >= OF_V:
        store_end(maps, state_slot * HS + h, S, (slice_vk - OF_V) * BV, late, K=K, V=K, BK=BK, BV=BV)
    else:
        store_end(states, state_slot * HS + h, S, slice_vk * BV, late, K=K, V=V, BK=BK, BV=BV)


@triton.jit
def delta_segment_combine_kernel(
    states,
    maps,
    boundary,
    cu_seqlens,
    segment_size,
    segments,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    STEPS: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    BLOCK: tl.constexpr,
    SLICES: tl.constexpr,
    REVERSE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """In place: what a segment makes of a zero state -> the state it starts from; REVERSE: gradients, from the end.

    Grid:    sequences x HS x slices of V, one axis, slices fastest. Segments one after the other.
    On chip: a slice of the state [K, BV], fp32. Its rows come back from memory in blocks for the product with M.
    Reads:   states [slots, HS, K, V] fp32, maps [slots, HS, K, K] fp32; boundary [N, HS, K, V], where given:
             the initial state; REVERSE: the gradient of the final state.
    Writes:  states.
    """
    pid = tl.program_id(0)
    h = pid // SLICES % HS
    n = (pid // (SLICES * HS)).to(tl.int64)
    if cu_seqlens is None:
        state_slot = n * segments
        count = segments
    else:
        bos = tl.load(cu_seqlens + n).to(tl.int64) * STEPS
        state_slot = bos // segment_size + n
        count = tl.cdiv(tl.load(cu_seqlens + n + 1).to(tl.int64) * STEPS - bos, segment_size).to(tl.int32)
    o_k = tl.arange(0, BK)[:, None]
    o_v = (pid % SLICES * BV + tl.arange(0, BV))[None, :]
    S = tl.zeros([BK, BV], dtype=tl.float32)
    if boundary is not None:
        S = load_state(boundary, n * HS + h, o_k, o_v, K=K, V=V, SIZE=K * V)
    for segments_done in range(count):
        segment = count - 1 - segments_done if REVERSE else segments_done
        index = (state_slot + segment) * HS + h
        # The last segment in this direction made nothing of a zero state: no segment starts from what it leaves.
        there = segments_done < count - 1
        own = tl.load(states + index * (K * V) + o_k * V + o_v, mask=only_if((o_k < K) & (o_v < V), there), other=0.0)
        tl.debug_barrier()
        store_state(states, index, S, o_k, o_v, K=K, V=V, SIZE=K * V)
        tl.debug_barrier()
        for block in range(0, K, BLOCK):
            o_c = block + tl.arange(0, BLOCK)
            b_S = load_state(states, index, o_c[:, None], o_v, K=K, V=V, SIZE=K * V)
            inside = only_if((o_k < K) & (o_c < K)[None, :], there)
            offset = o_c[None, :] * K + o_k if REVERSE else o_k * K + o_c[None, :]
            b_M = tl.load(maps + index * (K * K) + offset, mask=inside, other=0.0)
            own = tl.dot(b_M, b_S, own, input_precision=PRECISION)
        S = own
