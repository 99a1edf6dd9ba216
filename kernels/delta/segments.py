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

from kernels.common.device import load_state, only_if, slots_of, store_state, times_state
from kernels.delta.device import (
    chunk_slot,
    correct,
    load_decay,
    load_factors,
    load_square,
    load_start,
    load_tile,
    locate,
    operand,
    state_times,
    store_end,
)


@triton.jit(do_not_specialize=["T"])
def delta_segment_map_kernel(
    k,
    v,
    inverse,
    factors,
    S_start,
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
    PRECISION: tl.constexpr,
):
    """C and M of a segment: the columns of V start from 0 and take v, the columns of K start from the identity.

    C of a sequence's first segment starts from the initial state, so its M is not needed.

    Grid:    sequences x segments x HS x slices, one axis, slices fastest: OF_V slices of C, then those of M.
    On chip: a slice of C or M, transposed [BV, K], fp32.
    Reads:   k, a slice of v, N and the rows' factors, of all segments but the last, and of that one too if ALL; the
             initial state, where one is given.
    Writes:  states [slots, HS, K, V], fp32, and maps [slots, HS, K, K], in the segment's slot.
    Bytes per step and state head over all slices: s (K + V + BT) + 16; 4 K (K + V) per segment.
    """
    slice_vk, h, n, segment, state_slot, begin, end, eos, bos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=HS, STEPS=STEPS
    )
    mapping = slice_vk >= OF_V
    if (begin >= end) | ((end == eos) & ((not ALL) | (not mapping))) | ((segment == 0) & mapping):
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    head = h // (HS // H)
    o_c = tl.where(mapping, slice_vk - OF_V, slice_vk) * BV + tl.arange(0, BV)
    S = tl.where((o_k[None, :] == o_c[:, None]) & mapping, 1.0, 0.0)
    if S_start is not None:
        start = tl.trans(load_start(S_start, n * HS + h, slice_vk * BV, K=K, V=V, BK=BK, BV=BV))
        S = tl.where(segment == 0, start, S)
    chunk = chunk_slot(n, bos, begin, T, cu_seqlens, BT=BT, STEPS=STEPS) * HS + h
    length = (end - begin).to(tl.int32)
    decay = load_decay(factors, chunk, length > 0, BT)
    for chunk_start in tl.range(0, length, BT, disable_licm=True):
        first_step = begin + chunk_start
        keep = rows < length - chunk_start
        b_k = load_tile(k + (first_step * H + head) * K, rows, keep, H * K, start=0, D=K, BD=BK)  # [BT, BK]
        valued = rows < tl.where(mapping, 0, length - chunk_start)
        b_v = load_tile(
            v + (first_step * HS + h) * V, rows, valued, HS * V, start=slice_vk * BV, D=V, BD=BV
        )  # [BT, BV]
        b_N = load_square(inverse, chunk, BT)
        of_k, _of_q, of_w = load_factors(factors, chunk, BT)
        following = load_decay(factors, chunk + HS, chunk_start + BT < length, BT)
        b_k = operand(b_k, L2NORM)
        b_x = tl.trans(b_v).to(tl.float32) - state_times(S, b_k, PRECISION) * of_k[None, :]  # [BV, BT]
        b_r = correct(b_x, tl.trans(b_N), PRECISION)
        b_w = (b_r * of_w[None, :]).to(b_k.dtype)
        S = tl.dot(b_w, b_k, S * decay, input_precision=PRECISION)
        chunk += HS
        decay = following
    late = tl.minimum(length, 0)
    slice_vk, h, _, _, state_slot, _, _, _, _ = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HEADS=HS, STEPS=STEPS, late=late
    )
    if slice_vk >= OF_V:
        store_end(maps, state_slot * HS + h, tl.trans(S), (slice_vk - OF_V) * BV, late, K=K, V=K, BK=BK, BV=BV)
    else:
        store_end(states, state_slot * HS + h, tl.trans(S), slice_vk * BV, late, K=K, V=V, BK=BK, BV=BV)


@triton.jit
def delta_segment_combine_kernel(
    states,
    maps,
    starts,
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
    """What segments make of a zero state -> the states they start from; REVERSE: gradients, from the end.

    Forward, what the first segment makes is of the initial state already.

    Grid:    sequences x HS x slices of V, one axis, slices fastest. Segments one after the other.
    On chip: a slice of the state [K, BV], fp32. If BLOCK < BK, its rows come back from memory in blocks for the product
             with M.
    Reads:   states [slots, HS, K, V] fp32, maps [slots, HS, K, K]; boundary [N, HS, K, V], where given: the initial
             state; REVERSE: the gradient of the final state.
    Writes:  starts [slots, HS, K, V] fp32.
    """
    pid = tl.program_id(0)
    h = pid // SLICES % HS
    n = (pid // (SLICES * HS)).to(tl.int64)
    state_slot, count = slots_of(n, segment_size, segments, cu_seqlens, STEPS)
    o_k = tl.arange(0, BK)[:, None]
    o_v = (pid % SLICES * BV + tl.arange(0, BV))[None, :]
    o_c = tl.arange(0, BLOCK)
    S = tl.zeros([BK, BV], dtype=tl.float32)
    if boundary is not None:
        S = load_state(boundary, n * HS + h, o_k, o_v, K=K, V=V, SIZE=K * V)
    for segments_done in range(count):
        segment = count - 1 - segments_done if REVERSE else segments_done
        index = (state_slot + segment) * HS + h
        # The last segment in this direction made nothing of a zero state: no segment starts from what it leaves.
        there = segments_done < count - 1
        mapped = there & (segment > 0)
        own = tl.load(states + index * (K * V) + o_k * V + o_v, mask=only_if((o_k < K) & (o_v < V), there), other=0.0)
        store_state(starts, index, S, o_k, o_v, K=K, V=V, SIZE=K * V)
        if BLOCK == BK:
            own += times_state(_load_map(maps, index, o_k, o_c, mapped, K=K, REVERSE=REVERSE), S, PRECISION)
        else:
            tl.debug_barrier()
            for block in range(0, K, BLOCK):
                b_S = load_state(starts, index, (block + o_c)[:, None], o_v, K=K, V=V, SIZE=K * V)
                b_M = _load_map(maps, index, o_k, block + o_c, mapped, K=K, REVERSE=REVERSE)
                own += times_state(b_M, b_S, PRECISION)
        S = own


@triton.jit
def _load_map(maps, index, o_k, o_c, there, K: tl.constexpr, REVERSE: tl.constexpr):
    """Columns o_c of a segment's M, or of its transpose."""
    inside = only_if((o_k < K) & (o_c < K)[None, :], there)
    return tl.load(
        maps + index * (K * K) + (o_c[None, :] * K + o_k if REVERSE else o_k * K + o_c[None, :]), inside, 0.0
    )
