"""What a chunk needs of its own tokens alone, for all chunks at once: decayed operands, scores and the inverse."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.channel_delta.device import LEVELS, boundary, decay, load_gates, pairs_of
from kernels.common.linear_state.device import load_rows, locate, store_rows
from kernels.common.triangular import invert_unit_lower


@triton.jit(do_not_specialize=["T"])
def channel_delta_prepare_kernel(
    q, k, g, beta, a, b, w, read, write, write_v, scores, total, cu_seqlens, scale, T, chunks,
    H: tl.constexpr, HS: tl.constexpr, K: tl.constexpr, BT: tl.constexpr, BS: tl.constexpr, DPLR: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """Decayed operands of each token and the scores between the tokens of a chunk.

    With G the running sum of the gates in the chunk and E its value at the end, and A the scores of rows a (KDA: k) and
    columns b (KDA: beta k), each through the decays in between:

        read = s q 2^G    write = b 2^(E-G)    write_v = k 2^(E-G)    total = 2^E
        KDA   inverse = (I + A)^-1    w = -inverse k 2^G
        DPLR  inverse = (I - A)^-1    w = inverse a 2^(G-g)
        scores = inverse, qb or inverse, qb, ak, qk

    Grid:    sequences x chunks x HS, one axis.
    On chip: scores [BT, BT] fp32, and slices [BT, BS] of the operands, one after another.
    Reads:   q, k, g twice; beta or a, b twice.
    Writes:  w, read, write (and write_v) [B, T, HS, K]; scores [B, T, HS, 2 or 4, BT]; total [chunks, HS, K] fp32.
    Bytes a token and state head: KDA (5 s + c) K + 4 s BT, DPLR (8 s + c) K + 8 s BT, with s and c bytes an element of
    q and g; the second reading comes from L2.
    """
    _, h, _, _, slot, low, high, _ = locate(T, BT, chunks, cu_seqlens, 1, HS)
    if low >= high:
        return
    rows = tl.arange(0, BT)
    keep = rows < (high - low).to(tl.int32)
    MATRICES: tl.constexpr = 4 if DPLR else 2
    HALF: tl.constexpr = "half" if q.dtype.element_ty != tl.float32 else PRECISION
    at = low * HS + h
    q += (low * H + h // (HS // H)) * K
    k += (low * H + h // (HS // H)) * K
    g += at * K
    w += at * K
    read += at * K
    write += at * K
    scores += at * MATRICES * BT
    total += (slot * HS + h) * K
    if DPLR:
        a += at * K
        b += at * K
        write_v += at * K
        b_beta = tl.zeros([BT], dtype=tl.float32)
    else:
        b_beta = tl.load(beta + at + rows * HS, mask=keep, other=0.0).to(tl.float32)

    d_qk = tl.zeros([BT], dtype=tl.float32)
    d_qb = tl.zeros([BT], dtype=tl.float32)
    A = tl.zeros([BT, BT], dtype=tl.float32)
    QB = tl.zeros([BT, BT], dtype=tl.float32)
    AK = tl.zeros([BT, BT], dtype=tl.float32)
    QK = tl.zeros([BT, BT], dtype=tl.float32)
    for start in range(0, K, BS):
        b_g = load_gates(g, HS * K, keep, start, BT, K, BS)  # [BT, BS]
        b_G = tl.cumsum(b_g, 0)
        b_q = load_rows(q, H * K, keep, start, BT, K, BS)
        b_k = load_rows(k, H * K, keep, start, BT, K, BS)
        if DPLR:
            b_a = load_rows(a, HS * K, keep, start, BT, K, BS)
            b_b = load_rows(b, HS * K, keep, start, BT, K, BS)
        order = pairs_of(g, start, rows, keep, HS, K, BT)
        for level in tl.static_range(LEVELS):
            if 2 << level <= BT:
                pairs = (order >> level) == 1
                R = boundary(b_G, 1 << level, BT, BS)
                z = tl.exp2(-tl.abs(b_G - R))
                qz = (b_q * z).to(q.dtype.element_ty)
                if DPLR:
                    az = (b_a * decay(b_G - b_g - R)).to(q.dtype.element_ty)
                    bz = tl.trans((b_b * z).to(q.dtype.element_ty))
                    kz = tl.trans((b_k * z).to(q.dtype.element_ty))
                    AK += tl.where(pairs, tl.dot(az, kz, input_precision=PRECISION), 0.0)
                    QK += tl.where(pairs, tl.dot(qz, kz, input_precision=PRECISION), 0.0)
                else:
                    az = (b_k * z).to(q.dtype.element_ty)
                    bz = tl.trans((b_k * (z * b_beta[:, None])).to(q.dtype.element_ty))
                A += tl.where(pairs, tl.dot(az, bz, input_precision=PRECISION), 0.0)
                QB += tl.where(pairs, tl.dot(qz, bz, input_precision=PRECISION), 0.0)
        # Not added to the scores here: the diagonal's mask would stay in registers through the loop.
        d_qk += tl.sum(b_q.to(tl.float32) * b_k, 1)
        if DPLR:
            d_qb += tl.sum(b_q.to(tl.float32) * b_b, 1)

    same = rows[:, None] == rows[None, :]
    QB += tl.where(same, (d_qb if DPLR else d_qk * b_beta)[:, None], 0.0)
    if DPLR:
        QK += tl.where(same, d_qk[:, None], 0.0)
    store_rows(scores + BT, QB * scale, HS * MATRICES * BT, keep, 0, BT, BT, BT)
    if DPLR:
        store_rows(scores + 2 * BT, AK, HS * MATRICES * BT, keep, 0, BT, BT, BT)
        store_rows(scores + 3 * BT, QK * scale, HS * MATRICES * BT, keep, 0, BT, BT, BT)
        A = -A
    inverse = invert_unit_lower(A, BT, HALF).to(q.dtype.element_ty)
    store_rows(scores, inverse, HS * MATRICES * BT, keep, 0, BT, BT, BT)
    for start in range(0, K, BS):
        b_g = load_gates(g, HS * K, keep, start, BT, K, BS)
        b_G = tl.cumsum(b_g, 0)
        end = tl.sum(b_g, 0)
        b_q = load_rows(q, H * K, keep, start, BT, K, BS).to(tl.float32) * scale
        b_k = load_rows(k, H * K, keep, start, BT, K, BS).to(tl.float32)
        after = decay(end[None, :] - b_G)
        before = tl.exp2(b_G)
        store_rows(read, b_q * before, HS * K, keep, start, BT, K, BS)
        if DPLR:
            b_a = load_rows(a, HS * K, keep, start, BT, K, BS).to(tl.float32) * decay(b_G - b_g)
            b_b = load_rows(b, HS * K, keep, start, BT, K, BS).to(tl.float32)
            store_rows(write_v, b_k * after, HS * K, keep, start, BT, K, BS)
        else:
            b_a = -b_k * before
            b_b = b_k * b_beta[:, None]
        store_rows(write, b_b * after, HS * K, keep, start, BT, K, BS)
        b_w = tl.dot(inverse, b_a.to(q.dtype.element_ty), input_precision=PRECISION)
        store_rows(w, b_w, HS * K, keep, start, BT, K, BS)
        kk = start + tl.arange(0, BS)
        tl.store(total + kk, tl.exp2(end), mask=kk < K)
