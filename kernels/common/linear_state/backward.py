"""The three backward sweeps, each with a slice of a state in registers and no partial sums in memory.

With w_t = s / den_t (s where not normalised) and delta_t = do_t . o_t (0 where not normalised):

    dq_t = w_t phi'(q_t) (S_t do_t - delta_t z_t)           dS_t = dS_{t+1} + w_t phi(q_t) do_t^T
    dk_t = phi'(k_t) (dS_t v_t + dz_t)                      dz_t = dz_{t+1} - w_t delta_t phi(q_t)
    dv_t = dS_t^T phi(k_t)

The normaliser is one more column of the state: its v is 1 and its output's gradient is -delta / den. The sweeps of dk
and dv hold dS / s, so that the products run on q as it is stored. Normalised, they hold it times `unit`, the largest
denominator of the chunk, since the weights 1 / den of a long sequence are too small for fp16.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.linear_state.device import (
    features,
    load_normaliser,
    load_rows,
    load_state,
    locate,
    slope,
    store_normaliser,
    store_rows,
    store_state,
    times_state,
)


@triton.jit(do_not_specialize=["T"])
def linear_bwd_dq_kernel(
    q, k, v, o, do, den, delta, dq, S_start, z_start, cu_seqlens, scale, T, segment, segments,
    H: tl.constexpr, HK: tl.constexpr, HV: tl.constexpr, HS: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, SLICES: tl.constexpr, MAP: tl.constexpr,
    NORMALISED: tl.constexpr, SEGMENTED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dq = w phi'(q) (do S^T - delta z + tril(do v^T - delta) phi(k)), and delta for the sweeps that follow.

    Grid:    sequences x segments x HS x slices of K, one axis, slices fastest.
    On chip: S^T [V, BK] and z [BK], fp32.
    Reads:   v, do and a slice of k; a slice of q where phi has a slope; o and den where normalised.
    Writes:  a slice of dq [B, T, HS, K]; delta [B, T, HS] fp32 by slice 0.
    Bytes a token and state head over all slices: s (2K + 2V); + s K with a slope; + s V + 8 normalised.
    """
    part, h, n, _, slot, low, high, _ = locate(T, segment, segments, cu_seqlens, SLICES, HS)
    if low >= high:
        return
    rows = tl.arange(0, BT)
    kk = part * BK + tl.arange(0, BK)
    vv = tl.arange(0, BV)
    if MAP != "identity":
        q += (low * H + h // (HS // H)) * K
    k += (low * HK + h // (HS // HK)) * K
    v += (low * HV + h // (HS // HV)) * V
    do += (low * HS + h) * V
    dq += (low * HS + h) * K
    if NORMALISED:
        o += (low * HS + h) * V

    S = tl.zeros([BV, BK], dtype=tl.float32)
    z = tl.zeros([BK], dtype=tl.float32)
    # A segment's S and z lie in one row, so that one launch combines both.
    SIZE: tl.constexpr = K * V + (K if SEGMENTED and NORMALISED else 0)
    index = (slot if SEGMENTED else n) * HS + h
    if S_start is not None:
        S = load_state(S_start, index, kk[None, :], vv[:, None], K, V, SIZE)
        if NORMALISED:
            z = load_normaliser(S_start + K * V if SEGMENTED else z_start, index, kk, K, SIZE if SEGMENTED else K)

    causal = rows[:, None] >= rows[None, :]
    length = (high - low).to(tl.int32)
    for done in range(0, length, BT):
        keep = rows < length - done
        b_do = load_rows(do, HS * V, keep, 0, BT, V, BV)  # [BT, BV]
        b_v = load_rows(v, HV * V, keep, 0, BT, V, BV)  # [BT, BV]
        b_k = features(load_rows(k, HK * K, keep, part * BK, BT, K, BK), keep, part * BK, K, BK, MAP)  # [BT, BK]
        b_P = tl.dot(b_do, tl.trans(b_v), input_precision=PRECISION)  # [BT, BT]
        b_dq = times_state(b_do, S, PRECISION)  # [BT, BK]
        if NORMALISED:
            b_o = load_rows(o, HS * V, keep, 0, BT, V, BV)
            b_delta = tl.sum(b_do.to(tl.float32) * b_o.to(tl.float32), 1)
            b_P -= b_delta[:, None]
            b_dq -= b_delta[:, None] * z[None, :]
            z += tl.sum(b_k.to(tl.float32), 0)
        b_P = tl.where(causal, b_P, 0.0)
        b_dq = tl.dot(b_P.to(b_k.dtype), b_k, b_dq, input_precision=PRECISION) * scale
        if NORMALISED:
            at = (low + done + rows) * HS + h
            b_dq = b_dq / tl.load(den + at, mask=keep, other=1.0)[:, None]
            tl.store(delta + at, b_delta, mask=rows < tl.where(part == 0, length - done, 0))
            o += BT * HS * V
        if MAP != "identity":
            b_dq *= slope(load_rows(q, H * K, keep, part * BK, BT, K, BK), MAP)
            q += BT * H * K
        store_rows(dq, b_dq, HS * K, keep, part * BK, BT, K, BK)
        S = tl.dot(tl.trans(b_v), b_k, S, input_precision=PRECISION)
        k += BT * HK * K
        v += BT * HV * V
        do += BT * HS * V
        dq += BT * HS * K


@triton.jit(do_not_specialize=["T"])
def linear_bwd_dk_kernel(
    q, k, v, do, den, delta, dk, dS_start, dz_start, dS_end, dz_end, cu_seqlens, scale, T, segment, segments,
    H: tl.constexpr, HK: tl.constexpr, HV: tl.constexpr, HS: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, SLICES: tl.constexpr, MAP: tl.constexpr,
    NORMALISED: tl.constexpr, SEGMENTED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dk = s phi'(k) (v dS^T + dz + triu(v do^T - delta) phi(q) / den), and the initial state's gradient.

    Grid:    sequences x segments x HS x slices of K, one axis, slices fastest; chunks from last to first.
    On chip: dS^T / s [V, BK] and dz / s [BK], fp32, starting from the final state's gradient.
    Reads:   v, do and a slice of q; a slice of k where phi has a slope; den and delta where normalised.
    Writes:  a slice of dk [B, T, HS, K]; the initial state's gradient, where wanted, by the first segment.
    Bytes a token and state head over all slices: s (2K + 2V); + s K with a slope; + 8 normalised.
    """
    part, h, n, order, slot, low, high, _ = locate(T, segment, segments, cu_seqlens, SLICES, HS)
    if low >= high:
        return
    rows = tl.arange(0, BT)
    kk = part * BK + tl.arange(0, BK)
    vv = tl.arange(0, BV)
    length = (high - low).to(tl.int32)
    last = low + (length - 1) // BT * BT
    q += (last * H + h // (HS // H)) * K
    if MAP != "identity":
        k += (last * HK + h // (HS // HK)) * K
    v += (last * HV + h // (HS // HV)) * V
    do += (last * HS + h) * V
    dk += (last * HS + h) * K

    dS = tl.zeros([BV, BK], dtype=tl.float32)
    dz = tl.zeros([BK], dtype=tl.float32)
    # A segment's S and z lie in one row, so that one launch combines both.
    SIZE: tl.constexpr = K * V + (K if SEGMENTED and NORMALISED else 0)
    index = (slot if SEGMENTED else n) * HS + h
    factor = 1.0 if SEGMENTED else 1.0 / scale
    if dS_start is not None:
        dS = load_state(dS_start, index, kk[None, :], vv[:, None], K, V, SIZE) * factor
    if NORMALISED:
        if SEGMENTED:
            dz = load_normaliser(dS_start + K * V, index, kk, K, SIZE)
        elif dz_start is not None:
            dz = load_normaliser(dz_start, index, kk, K, K) * factor

    unit = 1.0
    later = rows[:, None] <= rows[None, :]
    for done in range(0, length, BT):
        first = (length - 1) // BT * BT - done
        keep = rows < length - first
        b_v = load_rows(v, HV * V, keep, 0, BT, V, BV)  # [BT, BV]
        b_do = load_rows(do, HS * V, keep, 0, BT, V, BV)  # [BT, BV]
        b_q = features(load_rows(q, H * K, keep, part * BK, BT, K, BK), keep, part * BK, K, BK, MAP)  # [BT, BK]
        b_P = tl.dot(b_v, tl.trans(b_do), input_precision=PRECISION)  # [BT, BT]
        if NORMALISED:
            at = (low + first + rows) * HS + h
            b_den = tl.load(den + at, mask=keep, other=0.0)
            b_delta = tl.load(delta + at, mask=keep, other=0.0)
            largest = tl.max(tl.abs(b_den), 0)
            dS *= largest / unit
            dz *= largest / unit
            unit = largest
            b_w = b_q.to(tl.float32) * (unit / tl.where(keep, b_den, 1.0))[:, None]
            b_q = b_w.to(b_q.dtype)
            b_P -= b_delta[None, :]
        b_P = tl.where(later, b_P, 0.0)
        b_dk = times_state(b_v, dS, PRECISION)  # [BT, BK]
        b_dk = tl.dot(b_P.to(b_q.dtype), b_q, b_dk, input_precision=PRECISION)
        if NORMALISED:
            b_dk += dz[None, :]
            dz -= tl.sum(b_w * b_delta[:, None], 0)
        b_dk *= scale / unit
        if MAP != "identity":
            b_dk *= slope(load_rows(k, HK * K, keep, part * BK, BT, K, BK), MAP)
            k -= BT * HK * K
        store_rows(dk, b_dk, HS * K, keep, part * BK, BT, K, BK)
        dS = tl.dot(tl.trans(b_do), b_q, dS, input_precision=PRECISION)
        q -= BT * H * K
        v -= BT * HV * V
        do -= BT * HS * V
        dk -= BT * HS * K

    if dS_end is not None and order == 0:
        store_state(dS_end, n * HS + h, dS * (scale / unit), kk[None, :], vv[:, None], K, V, K * V)
        if NORMALISED:
            store_normaliser(dz_end, n * HS + h, dz * (scale / unit), kk, K, K)


@triton.jit(do_not_specialize=["T"])
def linear_bwd_dv_kernel(
    q, k, do, den, dv, dS_start, cu_seqlens, scale, T, segment, segments,
    H: tl.constexpr, HK: tl.constexpr, HS: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
    BT: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr, SLICES: tl.constexpr, MAP: tl.constexpr,
    NORMALISED: tl.constexpr, SEGMENTED: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """dv = s (phi(k) dS + triu(phi(k) phi(q)^T) do / den).

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest; chunks from last to first.
    On chip: dS / s [K, BV], fp32, starting from the final state's gradient.
    Reads:   q, k and a slice of do; den where normalised.
    Writes:  a slice of dv [B, T, HS, V].
    Bytes a token and state head over all slices: s (2K + 2V); + 4 normalised.
    """
    part, h, n, _, slot, low, high, _ = locate(T, segment, segments, cu_seqlens, SLICES, HS)
    if low >= high:
        return
    rows = tl.arange(0, BT)
    kk = tl.arange(0, BK)
    vv = part * BV + tl.arange(0, BV)
    length = (high - low).to(tl.int32)
    last = low + (length - 1) // BT * BT
    q += (last * H + h // (HS // H)) * K
    k += (last * HK + h // (HS // HK)) * K
    do += (last * HS + h) * V
    dv += (last * HS + h) * V

    dS = tl.zeros([BK, BV], dtype=tl.float32)
    # A segment's S and z lie in one row, so that one launch combines both.
    SIZE: tl.constexpr = K * V + (K if SEGMENTED and NORMALISED else 0)
    index = (slot if SEGMENTED else n) * HS + h
    if dS_start is not None:
        dS = load_state(dS_start, index, kk[:, None], vv[None, :], K, V, SIZE) * (1.0 if SEGMENTED else 1.0 / scale)

    unit = 1.0
    later = rows[:, None] <= rows[None, :]
    for done in range(0, length, BT):
        first = (length - 1) // BT * BT - done
        keep = rows < length - first
        b_k = features(load_rows(k, HK * K, keep, 0, BT, K, BK), keep, 0, K, BK, MAP)  # [BT, BK]
        b_q = features(load_rows(q, H * K, keep, 0, BT, K, BK), keep, 0, K, BK, MAP)  # [BT, BK]
        b_do = load_rows(do, HS * V, keep, part * BV, BT, V, BV)  # [BT, BV]
        if NORMALISED:
            b_den = tl.load(den + (low + first + rows) * HS + h, mask=keep, other=0.0)
            largest = tl.max(tl.abs(b_den), 0)
            dS *= largest / unit
            unit = largest
            b_do = (b_do.to(tl.float32) * (unit / tl.where(keep, b_den, 1.0))[:, None]).to(b_do.dtype)
        b_P = tl.where(later, tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION), 0.0)  # [BT, BT]
        b_dv = times_state(b_k, dS, PRECISION)
        b_dv = tl.dot(b_P.to(b_do.dtype), b_do, b_dv, input_precision=PRECISION)  # [BT, BV]
        store_rows(dv, b_dv * (scale / unit), HS * V, keep, part * BV, BT, V, BV)
        dS = tl.dot(tl.trans(b_q), b_do, dS, input_precision=PRECISION)
        q -= BT * H * K
        k -= BT * HK * K
        do -= BT * HS * V
        dv -= BT * HS * V
