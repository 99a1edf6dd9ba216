"""What depends on one chunk alone, for all chunks at once: decayed operands, scores and the inverse."""

# Triton types a device function as one that never returns, and a constexpr as an object of its own.
# pyright: reportGeneralTypeIssues=false, reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_delta.device import (
    add_scores,
    below_diagonal,
    decay,
    inverse_norm,
    load_beta,
    load_gates,
    sums_in_chunk,
    with_diagonal,
)
from kernels.common.device import load_rows, locate, store_rows
from kernels.common.triangular import invert_unit_lower


@triton.jit
def inverse_norms(q, k, keep, H: tl.constexpr, K: tl.constexpr, BS: tl.constexpr):
    """1 / |q| and 1 / |k| of a chunk's rows, [BT] each."""
    BT: tl.constexpr = keep.shape[0]
    of_q = tl.zeros([BT], dtype=tl.float32)
    of_k = tl.zeros([BT], dtype=tl.float32)
    for start in tl.range(0, K, BS, disable_licm=True, num_stages=1):
        b_q = load_rows(q, H * K, keep, start, BT=BT, D=K, BD=BS).to(tl.float32)
        b_k = load_rows(k, H * K, keep, start, BT=BT, D=K, BD=BS).to(tl.float32)
        of_q += tl.sum(b_q * b_q, 1)
        of_k += tl.sum(b_k * b_k, 1)
    return inverse_norm(of_q), inverse_norm(of_k)


@triton.jit
def store_total(total, G, start, K: tl.constexpr):
    """2^G of a chunk's last row, of the slice G [BT, BK] from `start` on. It is masked out of all rows, not summed."""
    i = tl.arange(0, G.shape[0])[:, None]
    o_k = start + tl.arange(0, G.shape[1])[None, :]
    tl.store(total + o_k + i * 0, tl.exp2(G), mask=(o_k < K) & (i == G.shape[0] - 1))


@triton.jit(do_not_specialize=["T"])
def channel_delta_prepare_kernel(
    q,
    k,
    g,
    beta,
    a,
    b,
    w,
    read,
    write,
    write_v,
    inverse,
    qb,
    ak,
    qk,
    total,
    norms,
    cu_seqlens,
    scale,
    T,
    chunks,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    BT: tl.constexpr,
    BS: tl.constexpr,
    DPLR: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Decayed operands of each token and the scores between the tokens of a chunk.

    With G the running sum of the gates in the chunk and E its value at the end, and A the scores of rows a (KDA: k) and
    columns b (KDA: beta k), each through the decays in between:

        read = s q 2^G    write = b 2^(E-G)    write_v = k 2^(E-G)    total = 2^E
        KDA   inverse = (I + A)^-1    w = -inverse k 2^G
        DPLR  inverse = (I - A)^-1    w = inverse a 2^(G-g)

    Where `norms` is given (KDA), q and k are divided by their norms first.

    Grid:    sequences x chunks x HS, one axis. DPLR twice that: one program for columns b, one for k and `read`.
    On chip: scores [BT, BT] fp32, and slices [BT, BS] of the operands, one after another.
    Reads:   q, k, g, beta or a, b; with `norms` q and k twice, DPLR q, a, g twice; w, where it left what the inverse
             multiplies.
    Writes:  w (twice), read, write (and write_v) [B, T, HS, K]; inverse, qb (and ak, qk) [B, T, HS, BT]; total
             [chunks, HS, K] fp32; norms [B, T, HS, 2] fp32, what rows of q and k were multiplied by.
    Bytes per token and state head: KDA (5 s + c) K + 4 s BT, DPLR (8 s + c) K + 8 s BT, with s and c bytes per element
    of q and g; what is read again comes from L2.
    """
    PARTS: tl.constexpr = 2 if DPLR else 1
    of_values, h, _, _, chunk, begin, end, _ = locate(T, BT, chunks, cu_seqlens, SLICES=PARTS, HS=HS)
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    keep = rows < (end - begin).to(tl.int32)
    HALF: tl.constexpr = "half" if q.dtype.element_ty != tl.float32 else PRECISION
    offset = begin * HS + h
    q += (begin * H + h // (HS // H)) * K
    k += (begin * H + h // (HS // H)) * K
    g += offset * K
    w += offset * K
    read += offset * K
    inverse += offset * BT
    qb += offset * BT
    total += (chunk * HS + h) * K
    A = tl.zeros([BT, BT], dtype=tl.float32)
    Q = tl.zeros([BT, BT], dtype=tl.float32)
    diagonal = tl.zeros([BT], dtype=tl.float32)
    if DPLR:
        a += offset * K
        b += offset * K
        written = write + offset * K
        if of_values:
            written = write_v + offset * K
    else:
        beta += offset
        write += offset * K
        column = load_beta(beta, keep, HS, BT)
        of_q = tl.zeros([BT], dtype=tl.float32) + scale
        of_k = tl.zeros([BT], dtype=tl.float32) + 1.0
        if norms is not None:
            of_q, of_k = inverse_norms(q, k, keep, H=H, K=K, BS=BS)
            norms += offset * 2 + rows * HS * 2
            tl.store(norms, of_q, mask=keep)
            tl.store(norms + 1, of_k, mask=keep)
            of_q *= scale
        column *= of_k

    for start in tl.range(0, K, BS, disable_licm=True, num_stages=1):
        b_g = load_gates(g, HS * K, keep, start, K=K, BK=BS)  # [BT, BS]
        b_G, G_after, middle = sums_in_chunk(b_g)
        b_q = load_rows(q, H * K, keep, start, BT=BT, D=K, BD=BS)
        # Rows that the inverse will multiply wait in w.
        if DPLR:
            b_a = load_rows(a, HS * K, keep, start, BT=BT, D=K, BD=BS)
            if of_values:
                b_y = load_rows(k, H * K, keep, start, BT=BT, D=K, BD=BS)
                store_rows(read, b_q * (tl.exp2(b_G) * scale), HS * K, keep, start, BT=BT, D=K, BD=BS)
            else:
                b_y = load_rows(b, HS * K, keep, start, BT=BT, D=K, BD=BS)
                store_rows(w, b_a * decay(b_G - b_g), HS * K, keep, start, BT=BT, D=K, BD=BS)
                store_total(total, b_G, start, K=K)
            store_rows(written, b_y * tl.exp2(G_after), HS * K, keep, start, BT=BT, D=K, BD=BS)
            diagonal += tl.sum(b_q.to(tl.float32) * b_y, 1)
            A, Q = add_scores(A, Q, b_q, b_a, b_y, b_g, middle, PRECISION)
        else:
            b_y = load_rows(k, H * K, keep, start, BT=BT, D=K, BD=BS)
            before = tl.exp2(b_G)
            store_total(total, b_G, start, K=K)
            store_rows(read, b_q * (before * of_q[:, None]), HS * K, keep, start, BT=BT, D=K, BD=BS)
            store_rows(w, -b_y * (before * of_k[:, None]), HS * K, keep, start, BT=BT, D=K, BD=BS)
            after = tl.exp2(G_after) * column[:, None]
            store_rows(write, b_y * after, HS * K, keep, start, BT=BT, D=K, BD=BS)
            diagonal += tl.sum(b_q.to(tl.float32) * b_y, 1)
            A, Q = add_scores(A, Q, b_q, None, b_y, b_g, middle, PRECISION)
    A = below_diagonal(A)
    Q = with_diagonal(Q, diagonal)
    if DPLR:
        Q *= scale
        if of_values:
            store_rows(ak + offset * BT, A, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
            store_rows(qk + offset * BT, Q, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
            return
        A = -A
    else:
        A *= of_k[:, None] * column[None, :]
        Q *= of_q[:, None] * column[None, :]
    store_rows(qb, Q, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
    T_inverse = invert_unit_lower(A, BT, HALF).to(q.dtype.element_ty)
    store_rows(inverse, T_inverse, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)

    # What one thread stored in w others load.
    tl.debug_barrier()
    for start in tl.range(0, K, BS, disable_licm=True):
        b_a = load_rows(w, HS * K, keep, start, BT=BT, D=K, BD=BS)
        b_w = tl.dot(T_inverse, b_a, input_precision=PRECISION)
        # All have loaded what is written over.
        tl.debug_barrier()
        store_rows(w, b_w, HS * K, keep, start, BT=BT, D=K, BD=BS)
