"""The direct order forward: weights of a block of queries against all keys, never in memory."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.feature_maps.taylor_attention.device import (
    inverse_norm,
    load_tile,
    locate,
    output_scale,
    series,
    store_tile,
)


@triton.jit(do_not_specialize=["T"])
def taylor_fwd_direct_kernel(
    q,
    k,
    v,
    temperature,
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
    BS: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    CAUSAL: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """o = sqrt(n/K) (a v) / den, den = sum a, a = 1 + x + x^2/2, x = tau q k^T / (|q| |k|).

    Grid:    sequences x H x blocks of BT queries, one axis, blocks fastest, so that a head's keys come from L2.
    On chip: the numerator [BT, BV] and den [BT], fp32; weights [BT, BS]. Norms scale the fp32 products.
    Reads:   q; k and v of a head once a block, up to the block's last query where CAUSAL; temperature [H].
    Writes:  o; den [tokens, H] fp32.
    Bytes per token and head: s (2K + 2V) + 4; what each block loads again comes from L2.
    """
    h, bos, length, block_start, _block = locate(T, blocks, cu_seqlens, H, BT)
    if block_start >= length:
        return
    row = block_start + tl.arange(0, BT)
    b_q = load_tile(q, bos, row, length, h, heads=H, D=K, BD=BK)
    b_row = inverse_norm(b_q) * tl.load(temperature + h).to(tl.float32)
    acc = tl.zeros([BT, BV], dtype=tl.float32)
    total = tl.zeros([BT], dtype=tl.float32)
    stop = tl.minimum(block_start + BT, length) if CAUSAL else length
    for tile_start in range(0, stop, BS):
        column = tile_start + tl.arange(0, BS)
        b_k = load_tile(k, bos, column, length, h // (H // HK), heads=HK, D=K, BD=BK)  # [BS, BK]
        b_v = load_tile(v, bos, column, length, h // (H // HK), heads=HK, D=V, BD=BV)  # [BS, BV]
        b_x = tl.dot(b_q, tl.trans(b_k), input_precision=PRECISION) * b_row[:, None] * inverse_norm(b_k)[None, :]
        valid = (column < length)[None, :]
        if CAUSAL:
            valid = valid & (row[:, None] >= column[None, :])
        b_a = tl.where(valid, series(b_x), 0.0)
        total += tl.sum(b_a, 1)
        acc = tl.dot(b_a.to(b_v.dtype), b_v, acc, input_precision=PRECISION)
    keep = row < length
    total = tl.where(keep, total, 1.0)
    tl.store(den + (bos + row) * H + h, total, mask=keep)
    acc *= (output_scale(row, length, K, CAUSAL) / total)[:, None]
    store_tile(o, acc, bos, row, length, head=h, heads=H, D=V, BD=BV)
