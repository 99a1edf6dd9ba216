"""The output sweep where operands come from memory: chunks in turn, with a slice of the state in registers."""

# Triton types a device function as one that never returns, and a constexpr as an object of its own.
# pyright: reportGeneralTypeIssues=false, reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_delta.device import chunk_of, place_of
from kernels.common.device import load_rows, load_state, locate, store_rows, store_state, times_state


@triton.jit
def chunk_values(
    v, inverse, ak, keep, start, HS: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, PRECISION: tl.constexpr
):
    """(v, what u is of the values alone: inverse v or inverse ak v), a slice [BT, BV] of each."""
    BT: tl.constexpr = keep.shape[0]
    b_v = load_rows(v, HS * V, keep, start, BT=BT, D=V, BD=BV)
    x = b_v
    if ak is not None:
        b_ak = load_rows(ak, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
        x = tl.dot(b_ak, b_v, input_precision=PRECISION).to(b_v.dtype)
    b_inverse = load_rows(inverse, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
    return b_v, tl.dot(b_inverse, x, input_precision=PRECISION)


@triton.jit(do_not_specialize=["T"])
def channel_delta_output_kernel(
    v,
    w,
    read,
    write,
    write_v,
    inverse,
    qb,
    ak,
    qk,
    total,
    o,
    S_start,
    S_end,
    kept_S,
    kept_u,
    cu_seqlens,
    T,
    segment_size,
    segments,
    chunks,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    SEGMENTED: tl.constexpr,
    DPLR: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """u = w S + inverse x;  o = read S + qb u (+ qk v);  S = total S + write^T u (+ write_v^T v).

    x is v, or ak v where DPLR; what is in parentheses is DPLR's alone.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: S [K, BV], fp32, over all chunks of the segment.
    Reads:   w, read, write (write_v), inverse, qb (ak, qk), total, a slice of v; a start state where one is given (a
             state a sequence, or a segment's if SEGMENTED).
    Writes:  a slice of o; the final state, where wanted, by the last segment; where a backward pass follows, the state
             before each chunk, kept_S [chunks, HS, K, V], and kept_u [B, T, HS, V].
    Bytes per token and state head over all slices, s bytes per element: KDA s (3K + 2V + 2 BT), DPLR s (4K + 2V +
    4 BT); for what is kept s (KV / BT + V).
    """
    slice_v, h, n, segment, state_slot, begin, end, _ = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    offset = begin * HS + h
    w += offset * K
    read += offset * K
    write += offset * K
    v += offset * V
    o += offset * V
    inverse += offset * BT
    qb += offset * BT
    if DPLR:
        write_v += offset * K
        ak += offset * BT
        qk += offset * BT
    if kept_u is not None:
        kept_u += offset * V
    chunk = chunk_of(n, segment, begin, segment_size, chunks, cu_seqlens, BT=BT) * HS + h
    S = tl.zeros([BK, BV], dtype=tl.float32)
    if S_start is not None:
        S = load_state(
            S_start, (state_slot if SEGMENTED else n) * HS + h, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V
        )

    left = (end - begin).to(tl.int32)
    for _chunk_start in range(0, left, BT):
        keep = rows < left
        if kept_S is not None:
            store_state(kept_S, chunk, S, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
        b_v, b_x = chunk_values(v, inverse, ak, keep, start=slice_v * BV, HS=HS, V=V, BV=BV, PRECISION=PRECISION)
        b_w = load_rows(w, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_u = (b_x + times_state(b_w, S, PRECISION)).to(b_v.dtype)  # [BT, BV]
        if DPLR and BK < 256:
            # Keeps these loads behind the products above: both together need more registers than there are. Of 256 keys
            # the barrier itself costs some.
            tl.debug_barrier()
        b_q = load_rows(read, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_qb = load_rows(qb, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
        b_o = tl.dot(b_qb, b_u, times_state(b_q, S, PRECISION), input_precision=PRECISION)
        b_b = load_rows(write, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        S *= tl.load(total + chunk * K + o_k, mask=o_k < K, other=0.0)[:, None]
        S = tl.dot(tl.trans(b_b), b_u, S, input_precision=PRECISION)
        if DPLR:
            b_qk = load_rows(qk, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
            b_o = tl.dot(b_qk, b_v, b_o, input_precision=PRECISION)
            b_k = load_rows(write_v, HS * K, keep, start=0, BT=BT, D=K, BD=BK)
            S = tl.dot(tl.trans(b_k), b_v, S, input_precision=PRECISION)
            write_v += BT * HS * K
            ak += BT * HS * BT
            qk += BT * HS * BT
        store_rows(o, b_o, HS * V, keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
        if kept_u is not None:
            store_rows(kept_u, b_u, HS * V, keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
            kept_u += BT * HS * V
        w += BT * HS * K
        read += BT * HS * K
        write += BT * HS * K
        v += BT * HS * V
        o += BT * HS * V
        inverse += BT * HS * BT
        qb += BT * HS * BT
        chunk += HS
        left -= BT

    if S_end is not None:
        slice_v, number, _, last = place_of(left, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS)
        o_v = slice_v * BV + tl.arange(0, BV)
        if last:
            store_state(S_end, number, S, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
