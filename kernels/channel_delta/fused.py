"""The forward sweep and a segment's map straight from the inputs: nothing of a chunk passes through memory.

A chunk is taken in three steps, each of which loads what it needs again: its scores, in slices of K; what it corrects
and reads of the state; what it writes. What one step holds in registers is gone before the next, so that [K, BV] of
the state stay there; the second and third reading of a chunk come from the caches.

S is held as S^T [BV, BK], and u and o are made as u^T and o^T [BV, BT]: rows of the products are values, up to 128 of
them, so that both halves of 8 warps have rows of their own, S is the left operand, which comes from registers, and the
scores are right operands, which wait in shared memory.
"""

# Triton types a device function as one that never returns, and a constexpr as an object of its own.
# pyright: reportGeneralTypeIssues=false, reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_delta.device import chunk_scores, decay, inverse_norm, load_beta, load_sums, place_of, plain
from kernels.common.device import load_rows, load_state, locate, only_if, store_rows, store_state
from kernels.common.triangular import invert_unit_lower


@triton.jit
def norms(x):
    """1 / |x| of whole rows x [BT, BK]."""
    x = x.to(tl.float32)
    return inverse_norm(tl.sum(x * x, 1))


@triton.jit
def of_state(x, S, PRECISION: tl.constexpr):
    """S x^T [BV, BT] fp32 for rows x [BT, BK] and a state S [BV, BK] that is rounded to x's dtype."""
    unit = 1.0
    if x.dtype == tl.float16:
        # As in times_state: fp16 has no range for a state.
        unit = tl.max(tl.max(tl.abs(S), 1), 0)
        unit = tl.where(unit > 0.0, unit, 1.0)
        S = S / unit
    return tl.dot(S.to(x.dtype), tl.trans(x), input_precision=PRECISION) * unit


@triton.jit
def corrections(
    v,
    k,
    a,
    g,
    inverse,
    ak,
    S,
    keep,
    keep_v,
    start,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    L2NORM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """u^T [BV, BT] in v's dtype: u = inverse (v - k 2^G S), or DPLR inverse (ak v + a 2^(G-g) S)."""
    BV: tl.constexpr = plain(S.shape[0])
    BK: tl.constexpr = plain(S.shape[1])
    BT: tl.constexpr = keep.shape[0]
    dtype = v.dtype.element_ty
    b_g, b_G = load_sums(g, HS * K, keep, start=0, K=K, BK=BK)
    if a is not None:
        b_a = load_rows(a, HS * K, keep, start=0, BT=BT, D=K, BD=BK)
        x = of_state((b_a * decay(b_G - b_g)).to(dtype), S, PRECISION)
        b_v = load_rows(v, HS * V, keep_v, start, BT=BT, D=V, BD=BV)
        x = tl.dot(tl.trans(b_v), tl.trans(ak), x, input_precision=PRECISION)
    else:
        b_k = load_rows(k, H * K, keep, start=0, BT=BT, D=K, BD=BK)
        x = of_state((b_k * tl.exp2(b_G)).to(dtype), S, PRECISION)
        if L2NORM:
            x *= norms(b_k)[None, :]
        x = tl.trans(load_rows(v, HS * V, keep_v, start, BT=BT, D=V, BD=BV)) - x
    return tl.dot(x.to(dtype), tl.trans(inverse), input_precision=PRECISION).to(dtype)


@triton.jit
def written(
    S,
    u,
    v,
    k,
    b,
    g,
    beta,
    keep,
    keep_v,
    start,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    L2NORM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """The state [BV, BK] after a chunk: 2^E S + u^T b 2^(E-G), and DPLR v^T k 2^(E-G); u is transposed, [BV, BT]."""
    BV: tl.constexpr = plain(S.shape[0])
    BK: tl.constexpr = plain(S.shape[1])
    BT: tl.constexpr = keep.shape[0]
    dtype = v.dtype.element_ty
    b_g, b_G = load_sums(g, HS * K, keep, start=0, K=K, BK=BK)
    G_last = tl.sum(b_g, 0)
    after = decay(G_last[None, :] - b_G)
    S *= tl.exp2(G_last)[None, :]
    # Keeps loads behind the sums: both together need more registers than there are.
    tl.debug_barrier()
    if b is not None:
        b_b = load_rows(b, HS * K, keep, start=0, BT=BT, D=K, BD=BK)
        S = tl.dot(u, (b_b * after).to(dtype), S, input_precision=PRECISION)
        b_k = load_rows(k, H * K, keep, start=0, BT=BT, D=K, BD=BK)
        b_v = load_rows(v, HS * V, keep_v, start, BT=BT, D=V, BD=BV)
        S = tl.dot(tl.trans(b_v), (b_k * after).to(dtype), S, input_precision=PRECISION)
    else:
        b_k = load_rows(k, H * K, keep, start=0, BT=BT, D=K, BD=BK)
        factor = load_beta(beta, keep, HS, BT)
        if L2NORM:
            factor *= norms(b_k)
        S = tl.dot(u, (b_k * (after * factor[:, None])).to(dtype), S, input_precision=PRECISION)
    return S


@triton.jit(do_not_specialize=["T"])
def channel_delta_fused_output_kernel(
    q,
    k,
    v,
    g,
    beta,
    a,
    b,
    o,
    S_start,
    S_end,
    cu_seqlens,
    scale,
    T,
    segment_size,
    segments,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BS: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    SEGMENTED: tl.constexpr,
    DPLR: tl.constexpr,
    L2NORM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """o = read S + qb u (+ qk v) and the state after each chunk, as README.md has them, from the inputs themselves.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: S^T [BV, K], fp32, over all chunks of the segment; scores [BT, BT].
    Reads:   q, k, g, beta or a and b, a slice of v; a start state where one is given (one per sequence, or per segment
             if SEGMENTED).
    Writes:  a slice of o; the final state, where wanted, by the last segment.
    Bytes per token and state head, s and c bytes per element of q and g: KDA s (2K + 2V) + c K + 4, DPLR s (4K + 2V) +
    c K. Each chunk's operands are loaded two to four times, and by each slice.
    """
    slice_v, h, n, _, state_slot, begin, end, _ = locate(T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS)
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    start = slice_v * BV
    o_v = start + tl.arange(0, BV)
    dtype = q.dtype.element_ty
    HALF: tl.constexpr = "half" if q.dtype.element_ty != tl.float32 else PRECISION
    offset = begin * HS + h
    q += (begin * H + h // (HS // H)) * K
    k += (begin * H + h // (HS // H)) * K
    g += offset * K
    v += offset * V
    o += offset * V
    if DPLR:
        a += offset * K
        b += offset * K
    else:
        beta += offset
    S = tl.zeros([BV, BK], dtype=tl.float32)
    if S_start is not None:
        S = load_state(
            S_start, (state_slot if SEGMENTED else n) * HS + h, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V
        )

    left = (end - begin).to(tl.int32)
    for _chunk_start in tl.range(0, left, BT, disable_licm=True, num_stages=1):
        keep = rows < left
        ak = None
        if DPLR:
            ak, qk, _q, _k = chunk_scores(
                q, a, k, g, beta, scale, keep, H=H, HY=H, HS=HS, K=K, BS=BS, L2NORM=L2NORM, PRECISION=PRECISION
            )
            ak, qk = ak.to(dtype), qk.to(dtype)
            A, qb, _q, _k = chunk_scores(
                q, a, b, g, beta, scale, keep, H=H, HY=HS, HS=HS, K=K, BS=BS, L2NORM=L2NORM, PRECISION=PRECISION
            )
            A = -A
        else:
            A, qb, _q, _k = chunk_scores(
                q, None, k, g, beta, scale, keep, H=H, HY=H, HS=HS, K=K, BS=BS, L2NORM=L2NORM, PRECISION=PRECISION
            )
        qb = qb.to(dtype)
        inverse = invert_unit_lower(A, BT, HALF).to(dtype)
        # Keeps the loads of the next step behind the products of this one.
        tl.debug_barrier()
        b_u = corrections(
            v, k, a, g, inverse, ak, S, keep, keep, start, H=H, HS=HS, K=K, V=V, L2NORM=L2NORM, PRECISION=PRECISION
        )
        tl.debug_barrier()
        b_G = load_sums(g, HS * K, keep, start=0, K=K, BK=BK)[1]
        b_q = load_rows(q, H * K, keep, start=0, BT=BT, D=K, BD=BK)
        # S is scaled and not q, or the compiler would keep what the corrections rounded of S up to here.
        b_o = of_state((b_q * tl.exp2(b_G)).to(dtype), S * scale, PRECISION)
        if L2NORM:
            b_o *= norms(b_q)[None, :]
        b_o = tl.dot(b_u, tl.trans(qb), b_o, input_precision=PRECISION)
        if DPLR:
            b_v = load_rows(v, HS * V, keep, start, BT=BT, D=V, BD=BV)
            b_o = tl.dot(tl.trans(b_v), tl.trans(qk), b_o, input_precision=PRECISION)
        store_rows(o, tl.trans(b_o), HS * V, keep, start, BT=BT, D=V, BD=BV)
        tl.debug_barrier()
        S = written(
            S, b_u, v, k, b, g, beta, keep, keep, start, H=H, HS=HS, K=K, V=V, L2NORM=L2NORM, PRECISION=PRECISION
        )
        q += BT * H * K
        k += BT * H * K
        g += BT * HS * K
        v += BT * HS * V
        o += BT * HS * V
        left -= BT
        if DPLR:
            a += BT * HS * K
            b += BT * HS * K
        else:
            beta += BT * HS

    if S_end is not None:
        slice_v, number, _, last = place_of(left, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS)
        o_v = slice_v * BV + tl.arange(0, BV)
        if last:
            store_state(S_end, number, S, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V)


@triton.jit(do_not_specialize=["T"])
def channel_delta_fused_map_kernel(
    k,
    v,
    g,
    beta,
    a,
    b,
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
    BT: tl.constexpr,
    BK: tl.constexpr,
    BS: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    VALUES: tl.constexpr,
    DPLR: tl.constexpr,
    L2NORM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """What a segment makes of a zero state, N, and of the unit matrix without values, M, from the inputs themselves.

    Grid:    sequences x segments x HS x slices, one axis, slices fastest: VALUES slices of N, the others of M. A
             sequence's last segment is left out: no segment starts from it.
    On chip: S^T [BV, K], fp32, over all chunks of the segment; scores [BT, BT].
    Reads:   k, g, beta or a and b; a slice of v for N.
    Writes:  states [slots, HS, K, V] and maps [slots, HS, K, K], fp32.
    Bytes per token and state head, s and c bytes per element of k and g: KDA s (K + V) + c K + 4, DPLR s (3K + V) +
    c K.
    """
    slice_vk, h, _, _, _, begin, end, eos = locate(T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS)
    if (begin >= end) | (end == eos):
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    of_values = slice_vk < VALUES
    start = tl.where(of_values, slice_vk, slice_vk - VALUES) * BV
    columns = start + tl.arange(0, BV)
    dtype = k.dtype.element_ty
    HALF: tl.constexpr = "half" if k.dtype.element_ty != tl.float32 else PRECISION
    offset = begin * HS + h
    k += (begin * H + h // (HS // H)) * K
    g += offset * K
    v += offset * V
    if DPLR:
        a += offset * K
        b += offset * K
    else:
        beta += offset
    S = tl.where((o_k[None, :] == columns[:, None]) & (slice_vk >= VALUES), 1.0, 0.0)

    # All but the last segment of a sequence are whole chunks.
    left = segment_size
    for _chunk_start in tl.range(0, segment_size, BT, disable_licm=True, num_stages=1):
        keep = rows < BT
        # M has no values: its slices load nothing of them.
        keep_v = only_if(keep, of_values)
        ak = None
        if DPLR:
            ak = chunk_scores(
                None, a, k, g, beta, 1.0, keep, H=H, HY=H, HS=HS, K=K, BS=BS, L2NORM=L2NORM, PRECISION=PRECISION
            )[0]
            ak = ak.to(dtype)
            A = chunk_scores(
                None, a, b, g, beta, 1.0, keep, H=H, HY=HS, HS=HS, K=K, BS=BS, L2NORM=L2NORM, PRECISION=PRECISION
            )[0]
            A = -A
        else:
            A = chunk_scores(
                None, None, k, g, beta, 1.0, keep, H=H, HY=H, HS=HS, K=K, BS=BS, L2NORM=L2NORM, PRECISION=PRECISION
            )[0]
        inverse = invert_unit_lower(A, BT, HALF).to(dtype)
        tl.debug_barrier()
        b_u = corrections(
            v, k, a, g, inverse, ak, S, keep, keep_v, start, H=H, HS=HS, K=K, V=V, L2NORM=L2NORM, PRECISION=PRECISION
        )
        tl.debug_barrier()
        S = written(
            S, b_u, v, k, b, g, beta, keep, keep_v, start, H=H, HS=HS, K=K, V=V, L2NORM=L2NORM, PRECISION=PRECISION
        )
        k += BT * H * K
        g += BT * HS * K
        v += BT * HS * V
        left -= BT
        if DPLR:
            a += BT * HS * K
            b += BT * HS * K
        else:
            beta += BT * HS

    _, _, state_slot, _ = place_of(left, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS)
    if of_values:
        store_state(states, state_slot, S, o_k[None, :], columns[:, None], K=K, V=V, SIZE=K * V)
    else:
        store_state(maps, state_slot, S, o_k[None, :], columns[:, None], K=K, V=K, SIZE=K * K)
