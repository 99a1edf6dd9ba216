"""The efficient order backward, without causality: dq from the state of all keys, then the same state of all queries,
from which dk and dv follow.

With unit rows u_t = tau q_t / |q_t| and y_j = k_j / |k_j|, c = sqrt(n/K), den_t as `o` was divided by it, and
w_t = c / den_t, r_t = -do_t . o_t / den_t, what the numerator and the denominator receive:

    G_i = sum_t w_t u_ti u_t do_t^T      h_i = sum_t r_t u_ti u_t      i < K; G_K and h_K without u_ti
    du_t = sum_i u_ti (w_t S_i do_t + r_t z_i) + w_t S_K do_t + r_t z_K
    dy_j = sum_i y_ji (G_i v_j + h_i) + G_K v_j + h_K
    dv_j = sum_i y_ji G_i^T y_j / 2 + G_K^T y_j + sum_t w_t do_t

S_i is symmetric in i and its own rows, as are z, G and h: so the halves of the series are gone from du and dy. A row's
gradient is what stands across it, dq_t = tau (du_t - q (q . du_t) / |q|^2) / |q|, and dtau = sum_t q_t . du_t / |q_t|.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import summed
from kernels.feature_maps.taylor_attention.device import (
    inverse_norm,
    load_output,
    load_tile,
    locate,
    output_scale,
    store_tile,
)
from kernels.feature_maps.taylor_attention.efficient import element, feature_block, load_block, store_block


@triton.jit
def times_normalisers(b_x, z, index, length, K: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr):
    """sum_i x_i z_i + z_K over `length`, fp32, of rows x [rows, BK]; index: the head's first block of all."""
    o_k = tl.arange(0, BK)
    inside = (o_k < K)[:, None] & (o_k < K)[None, :]
    b_z = tl.load(z + (index + o_k)[:, None] * K + o_k[None, :], mask=inside, other=0.0) / length
    b_last = tl.load(z + (index + K) * K + o_k, mask=o_k < K, other=0.0) / length
    return tl.dot(b_x, b_z.to(b_x.dtype), input_precision=PRECISION) + b_last[None, :]


@triton.jit(do_not_specialize=["T"])
def taylor_bwd_efficient_dq_kernel(
    q,
    temperature,
    S,
    z,
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
    BK: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq, delta = do . o, and a block's part of the temperature's gradient.

    Grid:    sequences x H x blocks of BT queries, one axis, blocks fastest, so that a head's state comes from L2.
    On chip: du [BT, BK], fp32.
    Reads:   q, o, do, den [tokens, H] over n; the whole state of its head, over n, from L2; temperature [H].
    Writes:  dq; delta [tokens, H] fp32; d_temperature [sequences x blocks, H] fp32.
    Bytes per token and head: s (2K + 2V) + 8.
    """
    h, bos, length, block_start, block_index = locate(T, blocks, cu_seqlens, H, BT)
    if block_start >= length:
        return
    row = block_start + tl.arange(0, BT)
    b_q = load_tile(q, bos, row, length, h, heads=H, D=K, BD=BK)
    b_do, b_delta, b_den = load_output(o, do, den, delta, bos, row, length=length, head=h, heads=H, V=V, BV=BV)
    b_w = output_scale(row, length, K, False) / b_den
    b_inverse = inverse_norm(b_q)
    b_scale = b_inverse * tl.load(temperature + h).to(tl.float32)
    index = ((block_index // blocks) * HK + h // (H // HK)) * (K + 2)
    b_du = tl.zeros([BT, BK], dtype=tl.float32)
    for block in range(K + 1):
        b_element = element(q, b_scale, block, bos, row, length, head=h, heads=H, K=K)
        b_S = load_block(S, index + block, length, b_do.dtype, K=K, V=V, BK=BK, BV=BV)
        b_y = (b_do.to(tl.float32) * (b_w * b_element)[:, None]).to(b_do.dtype)
        b_du = tl.dot(b_y, tl.trans(b_S), b_du, input_precision=PRECISION)
    unit = b_q.to(tl.float32) * b_inverse[:, None]
    b_u = (b_q.to(tl.float32) * b_scale[:, None]).to(b_q.dtype)
    b_du -= (b_delta / b_den)[:, None] * times_normalisers(b_u, z, index, length, K=K, BK=BK, PRECISION=PRECISION)
    b_along = tl.sum(b_du * unit, 1)
    store_tile(dq, (b_du - unit * b_along[:, None]) * b_scale[:, None], bos, row, length, head=h, heads=H, D=K, BD=BK)
    tl.store(d_temperature + block_index * H + h + tl.arange(0, 1), summed(b_along))


@triton.jit(do_not_specialize=["T"])
def taylor_bwd_efficient_state_kernel(
    q,
    temperature,
    do,
    den,
    delta,
    G,
    g,
    cu_seqlens,
    T,
    blocks,
    H: tl.constexpr,
    HK: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """n G_i and n h_i of all queries of the heads that share keys; see above.

    Grid:    sequences x HK x (K + 1) blocks of features, one axis, blocks fastest, so that q and do come from L2.
    On chip: G_i [BK, BV] and h_i [BK], fp32.
    Reads:   q, do, den over n and delta of a group's heads once a block; temperature.
    Writes:  G [sequences, HK, K + 2, K, V] and g, for h, [sequences, HK, K + 2, K], fp32, as the forward's state: the
             last entry is one row of G alone, n sum w do, by block 0.
    Bytes per head of q: s T (K + V) + 8 T read; of keys: 4 (K + 2) K (V + 1) written.
    """
    head, bos, length, block, block_index = locate(T, blocks, cu_seqlens, HK, 1)
    b_G = tl.zeros([BK, BV], dtype=tl.float32)
    b_g = tl.zeros([BK], dtype=tl.float32)
    b_sum = tl.zeros([BV], dtype=tl.float32)
    for member in range(H // HK):
        h = head * (H // HK) + member
        b_tau = tl.load(temperature + h).to(tl.float32)
        for tile_start in range(0, length, BT):
            row = tile_start + tl.arange(0, BT)
            keep = row < length
            b_q = load_tile(q, bos, row, length, h, heads=H, D=K, BD=BK)  # [BT, BK]
            b_do = load_tile(do, bos, row, length, h, heads=H, D=V, BD=BV)  # [BT, BV]
            b_den = tl.load(den + (bos + row) * H + h, mask=keep, other=1.0)
            b_delta = tl.load(delta + (bos + row) * H + h, mask=keep, other=0.0)
            b_w = output_scale(row, length, K, False) / b_den
            b_phi = feature_block(
                q, b_q, inverse_norm(b_q) * b_tau, block, bos, row, length=length, head=h, heads=H, K=K
            )
            b_g -= tl.sum(b_phi * (b_delta / b_den)[:, None], 0)
            b_sum += tl.sum(b_do.to(tl.float32) * b_w[:, None], 0)
            b_phi = (b_phi * b_w[:, None]).to(b_do.dtype)
            b_G = tl.dot(tl.trans(b_phi), b_do, b_G, input_precision=PRECISION)
    store_block(G, g, b_G, b_g, b_sum, head=(block_index // blocks) * HK + head, block=block, K=K, V=V, BK=BK, BV=BV)


@triton.jit(do_not_specialize=["T"])
def taylor_bwd_efficient_dk_dv_kernel(
    k,
    v,
    G,
    g,
    dk,
    dv,
    cu_seqlens,
    T,
    blocks,
    H: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dk and dv of a block of keys; H are the heads of keys.

    Grid:    sequences x H x blocks of BT keys, one axis, blocks fastest, so that a head's G comes from L2.
    On chip: dy [BT, BK] and dv [BT, BV], fp32.
    Reads:   k, v; the whole G and h of its head, from L2.
    Writes:  dk, dv.
    Bytes per token and head: s (2K + 2V).
    """
    h, bos, length, block_start, block_index = locate(T, blocks, cu_seqlens, H, BT)
    if block_start >= length:
        return
    row = block_start + tl.arange(0, BT)
    b_k = load_tile(k, bos, row, length, h, heads=H, D=K, BD=BK)
    b_v = load_tile(v, bos, row, length, h, heads=H, D=V, BD=BV)
    b_inverse = inverse_norm(b_k)
    unit = b_k.to(tl.float32) * b_inverse[:, None]
    index = ((block_index // blocks) * H + h) * (K + 2)
    b_dy = tl.zeros([BT, BK], dtype=tl.float32)
    b_dv = tl.zeros([BT, BV], dtype=tl.float32)
    for block in range(K + 1):
        b_element = element(k, b_inverse, block, bos, row, length, head=h, heads=H, K=K)
        b_G = load_block(G, index + block, length, b_v.dtype, K=K, V=V, BK=BK, BV=BV)
        b_y = (b_v.to(tl.float32) * b_element[:, None]).to(b_v.dtype)
        b_dy = tl.dot(b_y, tl.trans(b_G), b_dy, input_precision=PRECISION)
        half = tl.where(tl.zeros_like(row) + block < K, 0.5, 1.0)
        b_phi = (unit * (b_element * half)[:, None]).to(b_v.dtype)
        b_dv = tl.dot(b_phi, b_G, b_dv, input_precision=PRECISION)
    b_dy += times_normalisers(unit.to(b_k.dtype), g, index, length, K=K, BK=BK, PRECISION=PRECISION)
    o_v = tl.arange(0, BV)
    b_dv += (tl.load(G + (index + K + 1) * K * V + o_v, mask=o_v < V, other=0.0) / length)[None, :]
    b_along = tl.sum(b_dy * unit, 1)
    store_tile(dk, (b_dy - unit * b_along[:, None]) * b_inverse[:, None], bos, row, length, head=h, heads=H, D=K, BD=BK)
    store_tile(dv, b_dv, bos, row, length, head=h, heads=H, D=V, BD=BV)
