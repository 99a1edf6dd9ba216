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
    segment,
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
    part, h, n, order, slot, low, high, end = locate(T, segment, segments, cu_seqlens, SLICES=SLICES, HS=HS)
    if (low >= high) | ((high == end) & (last == 0)):
        return
    rows = tl.arange(0, BT)
    kk = tl.arange(0, BK)
    of_values = part < VALUES
    start = tl.where(of_values, part, part - VALUES) * BV
    columns = start + tl.arange(0, BV)
    at = low * HS + h
    w += at * K
    write += at * K
    v += at * V
    inverse += at * BT
    if DPLR:
        write_v += at * K
        ak += at * BT
    chunk = chunk_of(n, order, low, segment, chunks, cu_seqlens, BT=BT) * HS + h
    unit = (kk[:, None] == columns[None, :]) & (part >= VALUES)
    S = tl.where(unit, 1.0, 0.0)

    length = (high - low).to(tl.int32)
    for done in range(0, length, BT):
        keep = rows < length - done
        # M has no values: its slices load nothing of them.
        b_v, b_x = chunk_values(
            v, inverse, ak, only_if(keep, of_values), start=start, HS=HS, V=V, BV=BV, PRECISION=PRECISION
        )
        b_w = load_rows(w, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_u = (b_x + times_state(b_w, S, PRECISION)).to(b_v.dtype)  # [BT, BV]
        b_b = load_rows(write, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        S *= tl.load(total + chunk * K + kk, mask=kk < K, other=0.0)[:, None]
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
        store_state(states, slot * HS + h, S, kk[:, None], columns[None, :], K=K, V=V, SIZE=K * V)
    else:
        store_state(maps, slot * HS + h, S, kk[:, None], columns[None, :], K=K, V=K, SIZE=K * K)


@triton.jit
def channel_delta_combine_kernel(
    states,
    maps,
    boundary,
    cu_seqlens,
    segment,
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
    part = pid % SLICES
    h = pid // SLICES % HS
    n = (pid // (SLICES * HS)).to(tl.int64)
    if cu_seqlens is None:
        slot = n * segments
        count = segments
    else:
        first = tl.load(cu_seqlens + n).to(tl.int64)
        slot = first // segment + n
        count = tl.cdiv(tl.load(cu_seqlens + n + 1).to(tl.int64) - first, segment).to(tl.int32)
    kk = tl.arange(0, BK)
    ss = tl.arange(0, BS)
    vv = part * BV + tl.arange(0, BV)
    S = tl.zeros([BK, BV], dtype=tl.float32)
    if boundary is not None:
        S = load_state(boundary, n * HS + h, kk[:, None], vv[None, :], K=K, V=V, SIZE=K * V)
    for step in range(count):
        index = (slot + (count - 1 - step if REVERSE else step)) * HS + h
        # The last segment in this direction has no own contribution: no segment starts from it.
        inside = tl.where(step < count - 1, V, 0)
        own = tl.load(
            states + index * K * V + kk[:, None] * V + vv[None, :],
            mask=(kk < K)[:, None] & (vv < inside)[None, :],
            other=0.0,
        )
        # What was loaded is about to be overwritten, and what is written read by other threads.
        tl.debug_barrier()
        store_state(states, index, S, kk[:, None], vv[None, :], K=K, V=V, SIZE=K * V)
        tl.debug_barrier()
        S = own
        if step < count - 1:
            for low in range(0, K, BS):
                rows = load_state(states, index, (low + ss)[:, None], vv[None, :], K=K, V=V, SIZE=K * V)  # [BS, BV]
                if REVERSE:
                    M = tl.trans(load_state(maps, index, (low + ss)[:, None], kk[None, :], K=K, V=K, SIZE=K * K))
                else:
                    M = load_state(maps, index, kk[:, None], (low + ss)[None, :], K=K, V=K, SIZE=K * K)
                S = tl.dot(M, rows, S, input_precision=PRECISION)
