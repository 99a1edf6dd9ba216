"""The direct order backward: dq with the temperature's gradient, then dk and dv; weights are made again.

With c_t = sqrt(n_t/K), delta_t = do_t . o_t and u_tj = q_t . k_j / (|q_t| |k_j|), so that x = tau u:

    dx_tj = (c_t do_t . v_j - delta_t) (1 + x_tj) / den_t          dtau = sum dx u
    dq_t = tau sum_j dx_tj k_j / (|q_t| |k_j|) - q_t sum_j dx_tj x_tj / |q_t|^2
    dk_j = tau sum_t dx_tj q_t / (|q_t| |k_j|) - k_j sum_t dx_tj x_tj / |k_j|^2
    dv_j = sum_t c_t a_tj do_t / den_t
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.feature_maps.taylor_attention.device import (
    inverse_norm,
    load_output,
    load_tile,
    locate,
    output_scale,
    series,
    store_tile,
)


@triton.jit(do_not_specialize=["T"])
def taylor_bwd_dq_kernel(
    q,
    k,
    v,
    temperature,
    o,
    do,
    den,
    delta,
    dq,
    d_temperature,
    cu_seqlens,
    T,
    blocks,
    H: tl.constexpr,
    HK: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BS: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq, delta, and a block's part of the temperature's gradient.

    Grid:    sequences x H x blocks of BT queries, one axis, blocks fastest.
    On chip: sum_j dx k / |k| [BT, BK] and sum_j dx u [BT], fp32.
    Reads:   q, o, do, den; k and v of a head once a block, from L2; temperature.
    Writes:  dq; delta [tokens, H] fp32; d_temperature [sequences x blocks, H] fp32.
    Bytes per token and head: s (3K + 3V) + 8.
    """
    h, bos, length, block_start, block = locate(T, blocks, cu_seqlens, H, BT)
    if block_start >= length:
        return
    row = block_start + tl.arange(0, BT)
    keep = row < length
    b_q = load_tile(q, bos, row, length, h, heads=H, D=K, BD=BK)
    b_do, b_delta, b_den = load_output(o, do, den, delta, bos, row, length=length, head=h, heads=H, V=V, BV=BV)
    b_c = output_scale(row, length, K, CAUSAL)
    b_tau = tl.load(temperature + h).to(tl.float32)
    b_rq = inverse_norm(b_q)
    acc = tl.zeros([BT, BK], dtype=tl.float32)
    b_along = tl.zeros([BT], dtype=tl.float32)
    stop = tl.minimum(block_start + BT, length) if CAUSAL else length
    for tile_start in range(0, stop, BS):
        column = tile_start + tl.arange(0, BS)
        b_k = load_tile(k, bos, column, length, h // (H // HK), heads=HK, D=K, BD=BK)  # [BS, BK]
        b_v = load_tile(v, bos, column, length, h // (H // HK), heads=HK, D=V, BD=BV)  # [BS, BV]
        b_rk = inverse_norm(b_k)
        b_u = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * b_rq[:, None] * b_rk[None, :]
        b_da = tl.dot(b_do, tl.trans(b_v), input_precision=PRECISION) * b_c[:, None] - b_delta[:, None]
        valid = keep[:, None] & (column < length)[None, :]
        if CAUSAL:
            valid = valid & (row[:, None] >= column[None, :])
        b_dx = tl.where(valid, b_da * (1.0 + b_tau * b_u) / b_den[:, None], 0.0)
        b_along += tl.sum(b_dx * b_u, 1)
        acc = tl.dot((b_dx * b_rk[None, :]).to(b_k.dtype), b_k, acc, input_precision=PRECISION)
    b_dq = acc * (b_tau * b_rq)[:, None] - b_q.to(tl.float32) * (b_tau * b_along * b_rq * b_rq)[:, None]
    store_tile(dq, b_dq, bos, row, length, head=h, heads=H, D=K, BD=BK)
    tl.store(d_temperature + block * H + h, tl.sum(b_along, 0))


@triton.jit(do_not_specialize=["T"])
def taylor_bwd_dk_dv_kernel(
    q,
    k,
    v,
    temperature,
    do,
    den,
    delta,
    dk,
    dv,
    cu_seqlens,
    T,
    blocks,
    H: tl.constexpr,
    HK: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BS: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk and dv of a block of keys, for each head of q.

    Grid:    sequences x H x blocks of BS keys, one axis, blocks fastest.
    On chip: sum_t dx q / |q| [BS, BK] and dv [BS, BV], fp32.
    Reads:   k, v; q, do, den and delta of a head once a block, from the block's first key on where CAUSAL, from L2.
    Writes:  dk [tokens, H, K], dv [tokens, H, V].
    Bytes per token and head: s (3K + 3V) + 8.
    """
    h, bos, length, block_start, _block = locate(T, blocks, cu_seqlens, H, BS)
    if block_start >= length:
        return
    column = block_start + tl.arange(0, BS)
    b_k = load_tile(k, bos, column, length, h // (H // HK), heads=HK, D=K, BD=BK)
    b_v = load_tile(v, bos, column, length, h // (H // HK), heads=HK, D=V, BD=BV)
    b_rk = inverse_norm(b_k)
    b_tau = tl.load(temperature + h).to(tl.float32)
    b_dk = tl.zeros([BS, BK], dtype=tl.float32)
    b_dv = tl.zeros([BS, BV], dtype=tl.float32)
    b_along = tl.zeros([BS], dtype=tl.float32)
    start = block_start // BT * BT if CAUSAL else 0
    for tile_start in range(start, length, BT):
        row = tile_start + tl.arange(0, BT)
        keep = row < length
        b_q = load_tile(q, bos, row, length, h, heads=H, D=K, BD=BK)  # [BT, BK]
        b_do = load_tile(do, bos, row, length, h, heads=H, D=V, BD=BV)  # [BT, BV]
        b_den = tl.load(den + (bos + row) * H + h, mask=keep, other=1.0)
        b_delta = tl.load(delta + (bos + row) * H + h, mask=keep, other=0.0)
        b_w = output_scale(row, length, K, CAUSAL) / b_den
        b_rq = inverse_norm(b_q)
        b_x = tl.dot(b_k, tl.trans(b_q), input_precision=PRECISION) * b_rk[:, None] * (b_rq * b_tau)[None, :]
        b_da = tl.dot(b_v, tl.trans(b_do), input_precision=PRECISION) * b_w[None, :] - (b_delta / b_den)[None, :]
        valid = (column < length)[:, None] & keep[None, :]
        if CAUSAL:
            valid = valid & (row[None, :] >= column[:, None])
        b_a = tl.where(valid, series(b_x) * b_w[None, :], 0.0)
        b_dx = tl.where(valid, b_da * (1.0 + b_x), 0.0)
        b_along += tl.sum(b_dx * b_x, 1)
        b_dv = tl.dot(b_a.to(b_do.dtype), b_do, b_dv, input_precision=PRECISION)
        b_dk = tl.dot((b_dx * b_rq[None, :]).to(b_q.dtype), b_q, b_dk, input_precision=PRECISION)
    b_dk = b_dk * (b_tau * b_rk)[:, None] - b_k.to(tl.float32) * (b_along * b_rk * b_rk)[:, None]
    store_tile(dk, b_dk, bos, column, length, head=h, heads=H, D=K, BD=BK)
    store_tile(dv, b_dv, bos, column, length, head=h, heads=H, D=V, BD=BV)
