"""The efficient order forward, without causality: one state of all keys' features, then one product per query.

Features are made on chip, in blocks: those of element i are x_i x, K of them, for the second order; then x itself, and
1. Both orders of a product are kept, as in the paper: a block is a tile of the state, and needs no table of pairs.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.feature_maps.taylor_attention.device import inverse_norm, load_tile, locate, output_scale, store_tile


@triton.jit
def element(base, b_scale, block, bos, row, length, head, heads: tl.constexpr, K: tl.constexpr):
    """scale x_i [rows] of rows x, fp32, for i = block < K, and 1 for block = K."""
    offsets = ((bos + row) * heads + head) * K + block
    b_x = tl.load(base + offsets, mask=(row < length) & (tl.zeros_like(row) + block < K), other=0.0).to(tl.float32)
    return tl.where(tl.zeros_like(row) + block < K, b_x * b_scale, 1.0)


@triton.jit
def feature_block(base, b_x, b_scale, block, bos, row, length, head, heads: tl.constexpr, K: tl.constexpr):
    """Features [rows, BK] of block `block`, fp32: scale x_i (scale x), for i = block < K, and scale x for block = K.

    b_x: the rows [rows, BK]; b_scale: what each row is multiplied by
    """
    unit = b_x.to(tl.float32) * b_scale[:, None]
    return unit * element(base, b_scale, block, bos, row, length, head=head, heads=heads, K=K)[:, None]


@triton.jit
def load_block(S, index, length, dtype, K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr):
    """S_i [BK, BV] over `length`, in a dtype; index: which block of all."""
    o_k, o_v = tl.arange(0, BK), tl.arange(0, BV)
    inside = (o_k < K)[:, None] & (o_v < V)[None, :]
    return (tl.load(S + index * K * V + o_k[:, None] * V + o_v[None, :], mask=inside, other=0.0) / length).to(dtype)


@triton.jit
def store_block(
    S, z, b_S, b_z, b_sum, head, block, K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr
):
    """Block `block` of a head's state; block 0 stores the sum of values [BV] too, as the row after the last block.

    head: which head of all sequences
    """
    o_k, o_v = tl.arange(0, BK), tl.arange(0, BV)
    index = head * (K + 2) + block
    inside = (o_k < K)[:, None] & (o_v < V)[None, :]
    tl.store(S + index * K * V + o_k[:, None] * V + o_v[None, :], b_S, mask=inside)
    tl.store(z + index * K + o_k, b_z, mask=o_k < K)
    if block == 0:
        tl.store(S + (index + K + 1) * K * V + o_v, b_sum, mask=o_v < V)


@triton.jit(do_not_specialize=["T"])
def taylor_fwd_state_kernel(
    k,
    v,
    S,
    z,
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
    """S_i = sum_j k_ji k_j v_j^T and z_i = sum_j k_ji k_j for i < K; S_K = sum_j k_j v_j^T, z_K = sum_j k_j; of unit k.

    Grid:    sequences x H x (K + 1) blocks of features, one axis, blocks fastest, so that k and v come from L2.
    On chip: S_i [BK, BV] and z_i [BK], fp32.
    Reads:   k and v of a head once a block.
    Writes:  S [sequences, H, K + 2, K, V] and z [sequences, H, K + 2, K], fp32: the last entry is one row of S alone,
             the sum of v, by block 0.
    Bytes per head: s T (K + V) read, 4 (K + 2) K (V + 1) written.
    """
    h, bos, length, block, block_index = locate(T, blocks, cu_seqlens, H, 1)
    b_S = tl.zeros([BK, BV], dtype=tl.float32)
    b_z = tl.zeros([BK], dtype=tl.float32)
    b_sum = tl.zeros([BV], dtype=tl.float32)
    for tile_start in range(0, length, BT):
        row = tile_start + tl.arange(0, BT)
        b_k = load_tile(k, bos, row, length, h, heads=H, D=K, BD=BK)  # [BT, BK]
        b_v = load_tile(v, bos, row, length, h, heads=H, D=V, BD=BV)  # [BT, BV]
        b_phi = feature_block(k, b_k, inverse_norm(b_k), block, bos, row, length=length, head=h, heads=H, K=K)
        b_z += tl.sum(b_phi, 0)
        b_sum += tl.sum(b_v.to(tl.float32), 0)
        b_S = tl.dot(tl.trans(b_phi.to(b_v.dtype)), b_v, b_S, input_precision=PRECISION)
    store_block(S, z, b_S, b_z, b_sum, head=(block_index // blocks) * H + h, block=block, K=K, V=V, BK=BK, BV=BV)


@triton.jit(do_not_specialize=["T"])
def taylor_fwd_product_kernel(
    q,
    temperature,
    S,
    z,
    o,
    den,
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
    """o = sqrt(n/K) (sum_i q_i q^T S_i / 2 + q^T S_K + sum v) / (sum_i q_i q . z_i / 2 + q . z_K + n), of q tau / |q|.

    Grid:    sequences x H x blocks of BT queries, one axis, blocks fastest, so that a head's state comes from L2.
    On chip: the numerator [BT, BV] and the denominator [BT], fp32.
    Reads:   q; the whole state of its head, over n, so that it is a mean, from L2; temperature [H].
    Writes:  o; den [tokens, H] fp32, over n, where a backward pass follows.
    Bytes per token and head: s (K + V); + 4 where den is kept.
    """
    h, bos, length, block_start, block_index = locate(T, blocks, cu_seqlens, H, BT)
    if block_start >= length:
        return
    row = block_start + tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    b_q = load_tile(q, bos, row, length, h, heads=H, D=K, BD=BK)
    b_scale = inverse_norm(b_q) * tl.load(temperature + h).to(tl.float32)
    index = ((block_index // blocks) * HK + h // (H // HK)) * (K + 2)
    acc = tl.zeros([BT, BV], dtype=tl.float32)
    total = tl.zeros([BT], dtype=tl.float32)
    for block in range(K + 1):
        b_phi = feature_block(q, b_q, b_scale, block, bos, row, length=length, head=h, heads=H, K=K)
        b_phi *= tl.where(tl.zeros_like(row) + block < K, 0.5, 1.0)[:, None]
        b_z = tl.load(z + (index + block) * K + o_k, mask=o_k < K, other=0.0) / length
        total += tl.sum(b_phi * b_z[None, :], 1)
        b_S = load_block(S, index + block, length, b_q.dtype, K=K, V=V, BK=BK, BV=BV)
        acc = tl.dot(b_phi.to(b_q.dtype), b_S, acc, input_precision=PRECISION)
    o_v = tl.arange(0, BV)
    acc += (tl.load(S + (index + K + 1) * K * V + o_v, mask=o_v < V, other=0.0) / length)[None, :]
    total += 1.0
    if den is not None:
        tl.store(den + (bos + row) * H + h, total, mask=row < length)
    acc *= (output_scale(row, length, K, False) / total)[:, None]
    store_tile(o, acc, bos, row, length, head=h, heads=H, D=V, BD=BV)
