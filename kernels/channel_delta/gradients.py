"""The gradients of all that meets the state, for all chunks at once."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_delta.device import decay, depth, first_level, load_sums, pairs_at
from kernels.common.device import load_rows, locate, store_rows, times_state


@triton.jit
def of_values(
    x,
    y,
    P_xy,
    factor,
    keep,
    H: tl.constexpr,
    STRIDE: tl.constexpr,
    V: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Stores factor x y^T [BT, BT] over all of V in P_xy, and returns its diagonal [BT]."""
    BT: tl.constexpr = keep.shape[0]
    P = tl.zeros([BT, BT], dtype=tl.float32)
    for start in range(0, V, BV):
        b_x = load_rows(x, H * V, keep, start, BT=BT, D=V, BD=BV)
        b_y = load_rows(y, H * V, keep, start, BT=BT, D=V, BD=BV)
        P = tl.dot(b_x, tl.trans(b_y), P, input_precision=PRECISION)
    P *= factor
    store_rows(P_xy, P, STRIDE, keep, start=0, BT=BT, D=BT, BD=BT)
    i = tl.arange(0, BT)
    return tl.sum(tl.where(i[:, None] == i[None, :], P, 0.0), 1)


@triton.jit
def load_pairs(P, STRIDE: tl.constexpr, keep, pairs, BT: tl.constexpr):
    """The elements of P [BT, BT] that one level takes, the others 0."""
    # Masked in the load, they would be loaded one by one.
    return tl.where(pairs, load_rows(P, STRIDE, keep, start=0, BT=BT, D=BT, BD=BT), 0.0)


@triton.jit
def of_state(
    x,
    S,
    keep,
    first,
    H: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BS: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """x S^T [BT, BS] over all of V, for BS rows of the state from `first` on."""
    BT: tl.constexpr = keep.shape[0]
    out = tl.zeros([BT, BS], dtype=tl.float32)
    for start in range(0, V, BV):
        b_x = load_rows(x, H * V, keep, start, BT=BT, D=V, BD=BV)
        o_k = first + tl.arange(0, BS)
        o_v = start + tl.arange(0, BV)
        b_S = tl.load(S + o_k[:, None] * V + o_v[None, :], mask=(o_k < K)[:, None] & (o_v < V)[None, :], other=0.0)
        out += times_state(b_x, tl.trans(b_S), PRECISION)
    return out


@triton.jit
def product_of_states(S, dS, first, K: tl.constexpr, V: tl.constexpr, BS: tl.constexpr, BV: tl.constexpr):
    """rowsum S dS [BS] over all of V."""
    out = tl.zeros([BS], dtype=tl.float32)
    o_k = first + tl.arange(0, BS)
    for start in range(0, V, BV):
        o_v = start + tl.arange(0, BV)
        offsets = o_k[:, None] * V + o_v[None, :]
        mask = (o_k < K)[:, None] & (o_v < V)[None, :]
        b_S = tl.load(S + offsets, mask=mask, other=0.0).to(tl.float32)
        out += tl.sum(b_S * tl.load(dS + offsets, mask=mask, other=0.0).to(tl.float32), 1)
    return out


@triton.jit
def across(x, dx, factor, along, keep, start, H: tl.constexpr, HS: tl.constexpr, K: tl.constexpr, BS: tl.constexpr):
    """In place, of a slice: dx of x' = factor x, factor 1 / |x|, -> dx of x; along: x' . dx of whole rows [BT]."""
    BT: tl.constexpr = keep.shape[0]
    b_x = load_rows(x, H * K, keep, start, BT=BT, D=K, BD=BS) * factor[:, None]
    b_dx = load_rows(dx, HS * K, keep, start, BT=BT, D=K, BD=BS).to(tl.float32) - b_x * along[:, None]
    store_rows(dx, b_dx * factor[:, None], HS * K, keep, start, BT=BT, D=K, BD=BS)


@triton.jit
def through_scores(P, q, a, y, g, G, keep, first, STRIDE: tl.constexpr, DPLR: tl.constexpr, PRECISION: tl.constexpr):
    """What rows q, a and columns y receive through the chunk's scores: (dq, da, dy, for dg: of all, of DPLR's a).

    P: where the gradients [BT, BT] of the scores q y lie, those of a y behind them; q, a, y [BT, BS]. Without DPLR a
    reads through its own gate, and what it adds to dg is among the rest.
    """
    BT: tl.constexpr = G.shape[0]
    BS: tl.constexpr = G.shape[1]
    dtype = P.dtype.element_ty
    dq = tl.zeros([BT, BS], dtype=tl.float32)
    da = tl.zeros([BT, BS], dtype=tl.float32)
    dy = tl.zeros([BT, BS], dtype=tl.float32)
    upto = tl.zeros([BT, BS], dtype=tl.float32)
    upto_a = tl.zeros([BT, BS], dtype=tl.float32)
    for level in tl.range(first, depth(BT), disable_licm=True, num_stages=1):
        pairs, since, most = pairs_at(level, first, g, G)
        after = decay(-since, most)
        before = decay(since, most)
        # The rounded operands of both products, so that rows and columns cancel in dg where they should.
        yz = (y * after).to(dtype)
        qz = (q * before).to(dtype)
        P_q = load_pairs(P, STRIDE, keep, pairs, BT)
        x = tl.dot(P_q, yz, input_precision=PRECISION)
        dq += x * before
        upto += qz.to(tl.float32) * x
        c = tl.dot(tl.trans(P_q), qz, input_precision=PRECISION)
        if DPLR:
            before = decay(since - g, most)
        az = (a * before).to(dtype)
        P_a = load_pairs(P + BT, STRIDE, keep, pairs, BT)
        x = tl.dot(P_a, yz, input_precision=PRECISION)
        da += x * before
        if DPLR:
            upto_a += az.to(tl.float32) * x
        else:
            upto += az.to(tl.float32) * x
        c = tl.dot(tl.trans(P_a), az, c, input_precision=PRECISION)
        dy += c * after
        upto -= yz.to(tl.float32) * c
    return dq, da, dy, upto, upto_a


@triton.jit(do_not_specialize=["T"])
def channel_delta_gradients_kernel(
    q,
    k,
    v,
    g,
    beta,
    a,
    b,
    norms,
    do,
    dz,
    u,
    kept_S,
    kept_dS,
    dscores,
    dq,
    dk,
    dg,
    dbeta,
    da,
    db,
    cu_seqlens,
    scale,
    T,
    chunks,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BS: tl.constexpr,
    BV: tl.constexpr,
    DPLR: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Gradients of rows q, a and columns b, k through the chunk's scores and through the states at its ends.

    With P_xy the scores' gradients (P_qb = do u^T, P_ab = dz u^T, P_qk = do v^T, P_ak = dz v^T, masked) and every
    product inside the chunk through the decays in between:

        dq = s (2^G do S^T + P_qb b + P_qk k)        db = 2^(E-G) u dS^T + P_qb^T s q + P_ab^T a
        da = 2^(G-g) dz S^T + P_ab b + P_ak k        dk = 2^(E-G) v dS^T + P_qk^T s q + P_ak^T a

    KDA: a is -k and reads through G, b is beta k, there is no fourth column: dk = beta db - da, dbeta = k . db.
    A row that reads through token t's gate and a column that is read through it add to dg_t what they multiply.
    Where `norms` is given, all this is of x' = x / |x|, and dx = (dx' - x' (x' . dx')) / |x| follows in a second turn
    over dq and dk.

    Grid:    sequences x chunks x HS, one axis.
    On chip: two or four P [BT, BT], and slices [BT, BS] of all else, one after another.
    Reads:   q, k, g (beta or a, b), do, dz, u (v), and the states before and after the chunk.
    Writes:  dq, dk [B, T, HS, K]; dg; dbeta [B, T, HS] fp32 or da, db.
    Bytes per token and state head, s and c bytes per element of q and g: KDA s (4K + 3V + 2KV / BT) + 2 c K,
    DPLR s (8K + 4V + 2KV / BT) + 2 c K. The tokens' values and gradients are loaded once more for each slice, from L2.
    """
    _, h, _, _, chunk, begin, end, _ = locate(T, BT, chunks, cu_seqlens, SLICES=1, HS=HS)
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    keep = rows < (end - begin).to(tl.int32)
    offset = begin * HS + h
    q += (begin * H + h // (HS // H)) * K
    k += (begin * H + h // (HS // H)) * K
    g += offset * K
    do += offset * V
    dz += offset * V
    u += offset * V
    dq += offset * K
    dk += offset * K
    dg += offset * K
    kept_S += (chunk * HS + h) * K * V
    kept_dS += (chunk * HS + h) * K * V
    MATRICES: tl.constexpr = 4 if DPLR else 2
    STRIDE: tl.constexpr = HS * MATRICES * BT
    dscores += offset * MATRICES * BT
    # Of KDA, a is -k: its rows are k, and the sign goes to what they multiply.
    SIGN: tl.constexpr = 1.0 if DPLR else -1.0
    d_qb = of_values(do, u, dscores, scale, keep, H=HS, STRIDE=STRIDE, V=V, BV=BV, PRECISION=PRECISION)
    of_values(dz, u, dscores + BT, SIGN, keep, H=HS, STRIDE=STRIDE, V=V, BV=BV, PRECISION=PRECISION)
    if DPLR:
        a += offset * K
        b += offset * K
        da += offset * K
        db += offset * K
        v += offset * V
        b_beta = tl.zeros([BT], dtype=tl.float32)
        d_qk = of_values(do, v, dscores + 2 * BT, scale, keep, H=HS, STRIDE=STRIDE, V=V, BV=BV, PRECISION=PRECISION)
        of_values(dz, v, dscores + 3 * BT, 1.0, keep, H=HS, STRIDE=STRIDE, V=V, BV=BV, PRECISION=PRECISION)
    else:
        b_beta = tl.load(beta + offset + rows * HS, mask=keep, other=0.0).to(tl.float32)
    b_dbeta = tl.zeros([BT], dtype=tl.float32)
    if norms is not None:
        norms += offset * 2 + rows * HS * 2
        along_q = tl.zeros([BT], dtype=tl.float32)
        along_k = tl.zeros([BT], dtype=tl.float32)
    # What one thread stored others load below.
    tl.debug_barrier()

    for start in tl.range(0, K, BS, disable_licm=True):
        b_g, b_G = load_sums(g, HS * K, keep, start, K=K, BK=BS)  # [BT, BS]
        b_q = load_rows(q, H * K, keep, start, BT=BT, D=K, BD=BS)
        b_k = load_rows(k, H * K, keep, start, BT=BT, D=K, BD=BS)
        if norms is not None:
            b_q *= tl.load(norms, mask=keep, other=0.0)[:, None]
            b_k *= tl.load(norms + 1, mask=keep, other=0.0)[:, None]
        if DPLR:
            b_a = load_rows(a, HS * K, keep, start, BT=BT, D=K, BD=BS)
            b_b = load_rows(b, HS * K, keep, start, BT=BT, D=K, BD=BS)
        else:
            b_a = b_k
            b_b = b_k * b_beta[:, None]
        first = first_level(b_g, b_G, q.dtype.element_ty)
        b_dq, b_da, b_db, upto, upto_a = through_scores(
            dscores, b_q, b_a, b_b, b_g, b_G, keep, first, STRIDE=STRIDE, DPLR=DPLR, PRECISION=PRECISION
        )
        if DPLR:
            x_dq, x_da, b_dk, x_upto, x_upto_a = through_scores(
                dscores + 2 * BT, b_q, b_a, b_k, b_g, b_G, keep, first, STRIDE=STRIDE, DPLR=DPLR, PRECISION=PRECISION
            )
            b_dq += x_dq
            b_da += x_da
            upto += x_upto
            upto_a += x_upto_a
            b_dq += d_qb[:, None] * b_b + d_qk[:, None] * b_k
            b_dk += d_qk[:, None] * b_q
        else:
            b_dq += d_qb[:, None] * b_b
        b_db += d_qb[:, None] * b_q

        # Rows read from before the chunk, columns are read after it: gates up to a row, gates after a column.
        G_last = tl.sum(b_g, 0)
        before = tl.exp2(b_G)
        more = of_state(do, kept_S, keep, start, H=HS, K=K, V=V, BS=BS, BV=BV, PRECISION=PRECISION)
        more *= before * scale
        b_dq += more
        upto += b_q * more
        before_a = decay(b_G - b_g) if DPLR else before
        more = of_state(dz, kept_S, keep, start, H=HS, K=K, V=V, BS=BS, BV=BV, PRECISION=PRECISION)
        more *= before_a * SIGN
        b_da += more
        if DPLR:
            upto_a += b_a * more
        else:
            upto += b_a * more
        after = decay(G_last[None, :] - b_G)
        more = of_state(u, kept_dS, keep, start, H=HS, K=K, V=V, BS=BS, BV=BV, PRECISION=PRECISION) * after
        b_db += more
        beyond = b_b * more
        # The gates after a column are all but those up to it.
        passed = tl.sum(beyond, 0)
        upto -= beyond
        if DPLR:
            more = of_state(v, kept_dS, keep, start, H=HS, K=K, V=V, BS=BS, BV=BV, PRECISION=PRECISION) * after
            b_dk += more
            beyond = b_k * more
            passed += tl.sum(beyond, 0)
            upto -= beyond
            store_rows(da, b_da, HS * K, keep, start, BT=BT, D=K, BD=BS)
            store_rows(db, b_db, HS * K, keep, start, BT=BT, D=K, BD=BS)
        else:
            b_dbeta += tl.sum(b_k * b_db, 1)
            b_dk = b_beta[:, None] * b_db + b_da
        store_rows(dq, b_dq, HS * K, keep, start, BT=BT, D=K, BD=BS)
        store_rows(dk, b_dk, HS * K, keep, start, BT=BT, D=K, BD=BS)
        if norms is not None:
            along_q += tl.sum(b_q * b_dq, 1)
            along_k += tl.sum(b_k * b_dk, 1)
        passed += tl.exp2(G_last) * product_of_states(kept_S, kept_dS, start, K=K, V=V, BS=BS, BV=BV)
        b_dg = tl.cumsum(upto + upto_a if DPLR else upto, 0, reverse=True) + passed[None, :]
        if DPLR:
            # a reads through the gates before its own token.
            b_dg -= upto_a
        store_rows(dg, b_dg, HS * K, keep, start, BT=BT, D=K, BD=BS)
    if not DPLR:
        tl.store(dbeta + offset + rows * HS, b_dbeta, mask=keep)
    if norms is not None:
        tl.debug_barrier()
        of_q = tl.load(norms, mask=keep, other=0.0)
        of_k = tl.load(norms + 1, mask=keep, other=0.0)
        for start in tl.range(0, K, BS, disable_licm=True):
            across(q, dq, of_q, along_q, keep, start, H=H, HS=HS, K=K, BS=BS)
            across(k, dk, of_k, along_k, keep, start, H=H, HS=HS, K=K, BS=BS)
