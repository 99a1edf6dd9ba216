"""What depends on one chunk alone, for all chunks at once: decayed operands, scores and the inverse."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_delta.device import chunk_scores, decay, load_beta, load_sums
from kernels.common.device import load_rows, locate, store_rows
from kernels.common.triangular import invert_unit_lower


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

    Grid:    sequences x chunks x HS, one axis.
    On chip: scores [BT, BT] fp32, and slices [BT, BS] of the operands, one after another.
    Reads:   q, k, g, beta or a, b: twice, DPLR q, a, g three times.
    Writes:  w, read, write (and write_v) [B, T, HS, K]; inverse, qb (and ak, qk) [B, T, HS, BT]; total [chunks, HS, K]
             fp32; norms [B, T, HS, 2] fp32, what rows of q and k were multiplied by.
    Bytes per token and state head: KDA (5 s + c) K + 4 s BT, DPLR (8 s + c) K + 8 s BT, with s and c bytes per element
    of q and g; what is read again comes from L2.
    """
    _, h, _, _, chunk, begin, end, _ = locate(T, BT, chunks, cu_seqlens, SLICES=1, HS=HS)
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
    write += offset * K
    inverse += offset * BT
    qb += offset * BT
    total += (chunk * HS + h) * K
    if DPLR:
        a += offset * K
        b += offset * K
        write_v += offset * K
        AK, QK, _, _ = chunk_scores(
            q, a, k, g, beta, scale, keep, H=H, HY=H, HS=HS, K=K, BS=BS, L2NORM=False, PRECISION=PRECISION
        )
        store_rows(ak + offset * BT, AK, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
        store_rows(qk + offset * BT, QK, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
        A, QB, _, _ = chunk_scores(
            q, a, b, g, beta, scale, keep, H=H, HY=HS, HS=HS, K=K, BS=BS, L2NORM=False, PRECISION=PRECISION
        )
        A = -A
    else:
        beta += offset
        L2NORM: tl.constexpr = norms is not None
        A, QB, of_q, of_k = chunk_scores(
            q, None, k, g, beta, scale, keep, H=H, HY=H, HS=HS, K=K, BS=BS, L2NORM=L2NORM, PRECISION=PRECISION
        )
        if norms is not None:
            norms += offset * 2 + rows * HS * 2
            tl.store(norms, of_q, mask=keep)
            tl.store(norms + 1, of_k, mask=keep)
    store_rows(qb, QB, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)
    T_inverse = invert_unit_lower(A, BT, HALF).to(q.dtype.element_ty)
    store_rows(inverse, T_inverse, HS * BT, keep, start=0, BT=BT, D=BT, BD=BT)

    for start in tl.range(0, K, BS, disable_licm=True):
        b_g, b_G = load_sums(g, HS * K, keep, start, K=K, BK=BS)
        G_last = tl.sum(b_g, 0)
        b_q = load_rows(q, H * K, keep, start, BT=BT, D=K, BD=BS).to(tl.float32) * scale
        b_k = load_rows(k, H * K, keep, start, BT=BT, D=K, BD=BS).to(tl.float32)
        if norms is not None:
            b_q *= of_q[:, None]
            b_k *= of_k[:, None]
        after = decay(G_last[None, :] - b_G)
        before = tl.exp2(b_G)
        store_rows(read, b_q * before, HS * K, keep, start, BT=BT, D=K, BD=BS)
        if DPLR:
            b_a = load_rows(a, HS * K, keep, start, BT=BT, D=K, BD=BS).to(tl.float32) * decay(b_G - b_g)
            b_b = load_rows(b, HS * K, keep, start, BT=BT, D=K, BD=BS).to(tl.float32)
            store_rows(write_v, b_k * after, HS * K, keep, start, BT=BT, D=K, BD=BS)
        else:
            b_a = -b_k * before
            b_b = b_k * load_beta(beta, keep, HS, BT)[:, None]
        store_rows(write, b_b * after, HS * K, keep, start, BT=BT, D=K, BD=BS)
        b_w = tl.dot(T_inverse, b_a.to(q.dtype.element_ty), input_precision=PRECISION)
        store_rows(w, b_w, HS * K, keep, start, BT=BT, D=K, BD=BS)
        o_k = start + tl.arange(0, BS)
        tl.store(total + o_k, tl.exp2(G_last), mask=o_k < K)
