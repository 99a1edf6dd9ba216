"""What all slices and sweeps of a chunk share: its queries and keys with their decay, its scores, its whole decay."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_decay.device import (
    NARROWEST,
    block_of,
    derived_key,
    operand,
    sums_of,
    times_add,
    total_of,
)
from kernels.common.device import Sizes, load_rows, locate, store_rows


@triton.jit
def scored(
    A,
    own,
    q,
    k,
    g,
    bonus,
    total,
    scale,
    EXCLUSIVE: tl.constexpr,
    BT: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """(A [BT, BT] and own [BT] with the scores of these columns added, s e^R q and e^(E-G) k, fp32 [BT, W]).

    Scores are those of q and k around the tile's midpoint, s 2^(R - E/2) q and 2^(E/2 - G) k. A takes those of all
    pairs; if EXCLUSIVE only those of an earlier key, and `own` what a token reads of its own.
    """
    R, later = sums_of(g, EXCLUSIVE, BT)
    half = total * 0.5
    s_q = q.to(tl.float32) * (tl.exp2(R - half[None, :]) * scale)
    s_k = k.to(tl.float32) * tl.exp2(later - half[None, :])
    scores = times_add(s_q, tl.trans(operand(s_k, WIDE)), A, WIDE, PRECISION)
    if EXCLUSIVE:
        rows = tl.arange(0, BT)
        scores = tl.where(rows[:, None] > rows[None, :], scores, A)
        own += tl.sum(q.to(tl.float32) * k.to(tl.float32) * (bonus * scale)[None, :], 1)
    f = tl.exp2(half)[None, :]
    return scores, own, s_q * f, s_k * f


@triton.jit
def exactly(A, q, k, g, u, bonus, reads, writes, scale, count, o_k, sizes, BT: tl.constexpr, W: tl.constexpr):
    """A [BT, BT] with the scores of columns o_k added, for any gates: the recurrence on keys, one token at a time.

    Stores these columns of reads and writes. No factor is above 1. count: tokens from the chunk's first on
    """
    H: tl.constexpr = sizes.H
    HK: tl.constexpr = sizes.HK
    HS: tl.constexpr = sizes.HS
    K: tl.constexpr = sizes.K
    rows = tl.arange(0, BT)
    keys = tl.zeros([BT, W], dtype=tl.float32)
    decay = tl.full([W], 1.0, dtype=tl.float32)
    for t in tl.range(BT, disable_licm=True):
        inside = (o_k < K) & (t < count)
        a_g = tl.load(g + t * HS * K + o_k, mask=inside, other=0.0).to(tl.float32)
        a_q = tl.load(q + t * H * K + o_k, mask=inside, other=0.0).to(tl.float32) * scale
        a_k = derived_key(a_g) if k is None else tl.load(k + t * HK * K + o_k, mask=inside, other=0.0).to(tl.float32)
        own = (rows == t)[:, None]
        kept = tl.exp(a_g)
        after = tl.where(own, a_k[None, :], keys * kept[None, :])
        if u is None:
            decay *= kept
            row = tl.sum(after * a_q[None, :], 1)
            tl.store(reads + t * K + o_k, (a_q * decay).to(reads.dtype.element_ty), mask=o_k < K)
        else:
            row = tl.sum(tl.where(own, (bonus * a_k)[None, :], keys) * a_q[None, :], 1)
            tl.store(reads + t * K + o_k, (a_q * decay).to(reads.dtype.element_ty), mask=o_k < K)
            decay *= kept
        keys = after
        A += tl.where(own, row[None, :], 0.0)
    tl.store(writes + rows[:, None] * K + o_k[None, :], keys.to(writes.dtype.element_ty), mask=(o_k < K)[None, :])
    return A


@triton.jit(do_not_specialize=["T"])
def channel_prepare_kernel(
    q,
    k,
    g,
    u,
    reads,
    writes,
    scores,
    decays,
    cu_seqlens,
    scale,
    T,
    segment_size,
    segments,
    H: tl.constexpr,
    HK: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    BT: tl.constexpr,
    W: tl.constexpr,
    STAGES: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """s e^R q, e^(E-G) k, e^E and the scores s sum_k e^(R_i-G_j) q_i k_j of every chunk; k = 1 - e^g where k is None.

    Grid:    sequences x segments x HS, one axis, heads fastest; the chunks of a segment one after the other.
    On chip: scores [BT, BT], fp32; K is walked in tiles of W.
    Reads:   q, k, g, u.
    Writes:  reads and writes [chunks, HS, BT, K] and scores [chunks, HS, BT, BT], bf16 or fp32 if WIDE, 0 where there
             is no token; decays [chunks, HS, K] fp32.
    Bytes per token and state head: 2b K + c K + w (2K + BT) + 4K / BT, with b, c and w bytes per element of q, of g and
    of what is written.
    """
    _, h, n, segment, _, begin, end, _ = locate(T, segment_size, segments, cu_seqlens, SLICES=1, HS=HS)
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    whole = rows >= 0
    q += (begin * H + h // (HS // H)) * K
    if k is not None:
        k += (begin * HK + h // (HS // HK)) * K
    g += (begin * HS + h) * K
    slot = block_of(begin, segment, n, segment_size, BT, T=T, cu_seqlens=cu_seqlens) * HS + h
    sizes: tl.constexpr = Sizes(H=H, HK=HK, HV=1, HS=HS, K=K, V=1)
    length = (end - begin).to(tl.int32)
    for chunk_start in tl.range(0, length, BT, num_stages=STAGES, disable_licm=True):
        left = length - chunk_start
        keep = rows < left
        at = slot * BT * K
        b_A = tl.zeros([BT, BT], dtype=tl.float32)
        b_own = tl.zeros([BT], dtype=tl.float32)
        for start in tl.static_range(0, K, W):
            o_k = start + tl.arange(0, W)
            b_g = load_rows(g, stride=HS * K, keep=keep, start=start, BT=BT, D=K, BD=W)  # [BT, W]
            b_q = load_rows(q, stride=H * K, keep=keep, start=start, BT=BT, D=K, BD=W)  # [BT, W]
            if k is None:
                b_k = derived_key(b_g)
            else:
                b_k = load_rows(k, stride=HK * K, keep=keep, start=start, BT=BT, D=K, BD=W)  # [BT, W]
            bonus = 0.0
            if u is not None:
                bonus = tl.load(u + h * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)
            total = total_of(b_g)
            # Counted, so that a NaN takes the exact form, where it spoils no earlier token.
            if tl.sum(tl.where(total > NARROWEST, 0, 1), 0) == 0:
                b_A, b_own, b_reads, b_writes = scored(
                    b_A, b_own, b_q, b_k, b_g, bonus, total, scale, u is not None, BT, WIDE, PRECISION
                )
                store_rows(reads + at, b_reads, stride=K, keep=whole, start=start, BT=BT, D=K, BD=W)
                store_rows(writes + at, b_writes, stride=K, keep=whole, start=start, BT=BT, D=K, BD=W)
            else:
                b_A = exactly(b_A, q, k, g, u, bonus, reads + at, writes + at, scale, left, o_k, sizes, BT, W)
            tl.store(decays + slot * K + o_k, tl.exp2(total), mask=o_k < K)
        b_A = tl.where(rows[:, None] >= rows[None, :], b_A, 0.0)
        if u is not None:
            b_A += tl.where(rows[:, None] == rows[None, :], b_own[:, None], 0.0)
        square = scores + slot * BT * BT + rows[:, None] * BT + rows[None, :]
        tl.store(square, b_A.to(scores.dtype.element_ty))
        q += BT * H * K
        if k is not None:
            k += BT * HK * K
        g += BT * HS * K
        slot += HS
