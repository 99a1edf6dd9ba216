"""Segments: where sequences x heads do not fill the GPU, a sequence is cut and its parts swept in parallel.

A segment maps the state before it to the state after it, S -> M S + N, exactly. `map` finds N [K, V] as the state that
a segment leaves behind from zero, and M [K, K] as what it makes of the unit matrix without values; `combine` turns N,
in place, into the state that each segment starts from. Backward the map is dS -> M^T dS + N', with the same M.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_delta.device import chunk_of
from kernels.channel_delta.forward import chunk_values
from kernels.common.device import load_rows, load_state, locate, only_if, store_state, times_state


@triton.jit(do_not_specialize=["T"])
def channel_delta_segment_map_kernel(
    v,
    w,
    write,
    write_v,
    inverse,
    ak,
    total,
    states,
    maps,
    cu_seqlens,
    T,
    segment_size,
    segments,
    chunks,
    last,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    VALUES: tl.constexpr,
    DPLR: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """S = total S + write^T u (+ write_v^T v), u = w S + inverse x, over a segment: N from 0, M from I with v = 0.

    Grid:    sequences x segments x HS x slices, one axis, slices fastest: VALUES slices of N, the others of M. A
             sequence's last segment is left out unless `last` is 1.
    On chip: S [K, BV], fp32, over all chunks of the segment.
    Reads:   w, write, total; inverse (ak, write_v) and a slice of v for N.
    Writes:  states [slots, HS, K, V] and maps [slots, HS, K, K], fp32.
    Bytes per token and state head over all slices, s bytes per element: KDA s (2K + V + BT), DPLR s (3K + V + 2 BT).
    """
    slice_vk, h, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if (begin >= end) | ((end == eos) & (last == 0)):
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    of_values = slice_vk < VALUES
    start = tl.where(of_values, slice_vk, slice_vk - VALUES) * BV
    columns = start + tl.arange(0, BV)
    offset = begin * HS + h
    w += offset * K
    write += offset * K
    v += offset * V
    inverse += offset * BT
    if DPLR:
        write_v += offset * K
        ak += offset * BT
    chunk = chunk_of(n, segment, begin, segment_size, chunks, cu_seqlens, BT=BT) * HS + h
    unit = (o_k[:, None] == columns[None, :]) & (slice_vk >= VALUES)
    S = tl.where(unit, 1.0, 0.0)

    length = (end - begin).to(tl.int32)
    for chunk_start in range(0, length, BT):
        keep = rows < length - chunk_start
        # M has no values: its slices load nothing of them.
        b_v, b_x = chunk_values(
            v, inverse, ak, only_if(keep, of_values), start=start, HS=HS, V=V, BV=BV, PRECISION=PRECISION
        )
        b_w = load_rows(w, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_u = (b_x + times_state(b_w, S, PRECISION)).to(b_v.dtype)  # [BT, BV]
        b_b = load_rows(write, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        S *= tl.load(total + chunk * K + o_k, mask=o_k < K, other=0.0)[:, None]
        S = tl.dot(tl.trans(b_b), b_u, S, input_precision=PRECISION)
        if DPLR:
            b_k = load_rows(write_v, HS * K, only_if(keep, of_values), start=0, BT=BT, D=K, BD=BK)
            S = tl.dot(tl.trans(b_k), b_v, S, input_precision=PRECISION)
            write_v += BT * HS * K
            ak += BT * HS * BT
        w += BT * HS * K
        write += BT * HS * K
        v += BT * HS * V
        inverse += BT * HS * BT
        chunk += HS

    if of_values:
        store_state(states, state_slot * HS + h, S, o_k[:, None], columns[None, :], K=K, V=V, SIZE=K * V)
    else:
        store_state(maps, state_slot * HS + h, S, o_k[:, None], columns[None, :], K=K, V=K, SIZE=K * K)


@triton.jit
def channel_delta_combine_kernel(
    states,
    maps,
    boundary,
    cu_seqlens,
    segment_size,
    segments,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BK: tl.constexpr,
    BS: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    REVERSE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """In place: N of each segment -> the state it starts from; REVERSE: N' -> the gradient of the state it ends in.

    Grid:    sequences x HS x slices of V, one axis, slices fastest; segments one after another.
    On chip: a slice [K, BV] of the running state, fp32.
    Reads:   states and maps of all segments but the last in this direction; boundary [N, HS, K, V], where given: the
             initial state; REVERSE: the gradient of the final state. A state is read again as it was written, BS rows
             at a time, for its product with M or M^T.
    Writes:  states [slots, HS, K, V] fp32.
    """
    pid = tl.program_id(0)
    slice_v = pid % SLICES
    h = pid // SLICES % HS
    n = (pid // (SLICES * HS)).to(tl.int64)
    if cu_seqlens is None:
        state_slot = n * segments
        count = segments
    else:
        bos = tl.load(cu_seqlens + n).to(tl.int64)
        state_slot = bos // segment_size + n
        count = tl.cdiv(tl.load(cu_seqlens + n + 1).to(tl.int64) - bos, segment_size).to(tl.int32)
    o_k = tl.arange(0, BK)
    ss = tl.arange(0, BS)
    o_v = slice_v * BV + tl.arange(0, BV)
    S = tl.zeros([BK, BV], dtype=tl.float32)
    if boundary is not None:
        S = load_state(boundary, n * HS + h, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
    for segments_done in range(count):
        index = (state_slot + (count - 1 - segments_done if REVERSE else segments_done)) * HS + h
        # The last segment in this direction has no own contribution: no segment starts from it.
        inside = tl.where(segments_done < count - 1, V, 0)
        own = tl.load(
            states + index * K * V + o_k[:, None] * V + o_v[None, :],
            mask=(o_k < K)[:, None] & (o_v < inside)[None, :],
            other=0.0,
        )
        # What was loaded is about to be overwritten, and what is written read by other threads.
        tl.debug_barrier()
        store_state(states, index, S, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
        tl.debug_barrier()
        S = own
        if segments_done < count - 1:
            for start in range(0, K, BS):
                rows = load_state(states, index, (start + ss)[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)  # [BS, BV]
                if REVERSE:
                    M = tl.trans(load_state(maps, index, (start + ss)[:, None], o_k[None, :], K=K, V=K, SIZE=K * K))
                else:
                    M = load_state(maps, index, o_k[:, None], (start + ss)[None, :], K=K, V=K, SIZE=K * K)
                S = tl.dot(M, rows, S, input_precision=PRECISION)
