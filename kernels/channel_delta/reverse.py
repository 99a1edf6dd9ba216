"""The sweep of the state's gradient, chunks from last to first, with a slice of it in registers."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_delta.device import chunk_of
from kernels.common.device import load_rows, load_state, locate, store_rows, store_state, times_state


@triton.jit(do_not_specialize=["T"])
def channel_delta_reverse_kernel(
    do,
    w,
    read,
    write,
    write_v,
    inverse,
    qb,
    ak,
    qk,
    total,
    dv,
    dz,
    kept_dS,
    dS_end,
    dS_start,
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
    MAP: tl.constexpr,
    DPLR: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """du = qb^T do + write dS;  dz = inverse^T du;  dS = total dS + read^T do + w^T du.

    dz is the gradient of what the inverse was applied to: dv where KDA; DPLR dv = ak^T dz + qk^T do + write_v dS.
    With MAP it only finds N', what a segment adds to the gradient of the state before it: dS starts from 0.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest. MAP leaves out each first segment.
    On chip: dS [K, BV], fp32, over all chunks of the segment, starting from the gradient of the state after it.
    Reads:   w, read, write (write_v), inverse, qb (ak, qk), total, a slice of do; dS_end, one a sequence (SEGMENTED:
             a segment).
    Writes:  a slice of dv (and dz); the gradient of the state after each chunk, kept_dS [chunks, HS, K, V]; dS_start,
             that of the initial state, where wanted, by the first segment. MAP: dS_start [slots, HS, K, V] fp32 alone.
    Bytes per token and state head over all slices, s bytes per element: KDA s (3K + 2V + 2 BT + KV / BT), DPLR s (4K +
    3V + 4 BT + KV / BT); MAP s (3K + V + BT).
    """
    slice_v, h, n, segment, state_slot, begin, end, _ = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    if MAP:  # noqa: SIM102 - joined, the condition is no longer the compiler's
        if segment == 0:
            return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    length = (end - begin).to(tl.int32)
    last = (length - 1) // BT
    offset = (begin + last * BT) * HS + h
    w += offset * K
    read += offset * K
    write += offset * K
    do += offset * V
    qb += offset * BT
    if not MAP:
        dv += offset * V
        inverse += offset * BT
        if DPLR:
            write_v += offset * K
            ak += offset * BT
            qk += offset * BT
            dz += offset * V
    chunk = (chunk_of(n, segment, begin, segment_size, chunks, cu_seqlens, BT=BT) + last) * HS + h
    dS = tl.zeros([BK, BV], dtype=tl.float32)
    if dS_end is not None:
        dS = load_state(
            dS_end, (state_slot if SEGMENTED else n) * HS + h, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V
        )

    for tokens_done in range(0, length, BT):
        keep = rows < length - last * BT + tokens_done
        if not MAP:
            store_state(kept_dS, chunk, dS, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
        b_do = load_rows(do, HS * V, keep, slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_qb = load_rows(qb, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
        b_b = load_rows(write, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_du = tl.dot(tl.trans(b_qb), b_do, times_state(b_b, dS, PRECISION), input_precision=PRECISION)
        b_du = b_du.to(b_do.dtype)  # [BT, BV]
        if not MAP:
            b_inverse = load_rows(inverse, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
            b_dz = tl.dot(tl.trans(b_inverse), b_du, input_precision=PRECISION)  # [BT, BV]
            b_dv = b_dz
            if DPLR:
                store_rows(dz, b_dz, HS * V, keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
                b_ak = load_rows(ak, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
                b_qk = load_rows(qk, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
                b_k = load_rows(write_v, HS * K, keep, start=0, BT=BT, D=K, BD=BK)
                b_dv = tl.dot(
                    tl.trans(b_ak), b_dz.to(b_do.dtype), times_state(b_k, dS, PRECISION), input_precision=PRECISION
                )
                b_dv = tl.dot(tl.trans(b_qk), b_do, b_dv, input_precision=PRECISION)
                write_v -= BT * HS * K
                ak -= BT * HS * BT
                qk -= BT * HS * BT
                dz -= BT * HS * V
            store_rows(dv, b_dv, HS * V, keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
            dv -= BT * HS * V
            inverse -= BT * HS * BT
        dS *= tl.load(total + chunk * K + o_k, mask=o_k < K, other=0.0)[:, None]
        b_q = load_rows(read, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        dS = tl.dot(tl.trans(b_q), b_do, dS, input_precision=PRECISION)
        b_w = load_rows(w, HS * K, keep, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        dS = tl.dot(tl.trans(b_w), b_du, dS, input_precision=PRECISION)
        w -= BT * HS * K
        read -= BT * HS * K
        write -= BT * HS * K
        do -= BT * HS * V
        qb -= BT * HS * BT
        chunk -= HS

    if MAP:
        store_state(dS_start, state_slot * HS + h, dS, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
    elif dS_start is not None and segment == 0:
        store_state(dS_start, n * HS + h, dS, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
