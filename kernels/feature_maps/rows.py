"""Triton kernels of maps that need a whole row: the features of q and k in one launch, and their gradients in one.

    softmax: y = softmax(x)                                    dx = y (dy - y . dy)
    favor:   y = exp(x' W^T - x'^2 / 2 - m) / sqrt(M)          dx = K^(-1/4) (y dy) W - K^(-1/2) x sum(y dy)

x' = x K^(-1/4); m is the row's largest exponent for queries, 0 for keys, and carries no gradient.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_tile(base, first, end, width: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr):
    """Rows first .. first + BT, below `end`, of a matrix [rows, width], [BT, BD]; zero beyond."""
    row, column = first + tl.arange(0, BT), tl.arange(0, BD)
    mask = (row < end)[:, None] & (column < width)[None, :]
    return tl.load(base + row[:, None] * width + column[None, :], mask=mask, other=0.0)


@triton.jit
def store_tile(base, x, first, end, width: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr):
    """Store what load_tile loads, in the pointer's dtype."""
    row, column = first + tl.arange(0, BT), tl.arange(0, BD)
    mask = (row < end)[:, None] & (column < width)[None, :]
    tl.store(base + row[:, None] * width + column[None, :], x.to(base.dtype.element_ty), mask=mask)


@triton.jit
def feature_rows_fwd_kernel(
    q,
    k,
    W,
    phi_q,
    phi_k,
    q_rows,
    k_rows,
    K: tl.constexpr,
    F: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BF: tl.constexpr,
    MAP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """phi_q = phi(q) and phi_k = phi(k), rows of F features.

    Grid:    blocks of BT rows of q, then of k.
    On chip: a block's exponents [BT, BF], fp32.
    Reads:   q [q_rows, K], k [k_rows, K]; W [F, K] for favor, by every program, from L2.
    Writes:  phi_q [q_rows, F], phi_k [k_rows, F].
    Bytes per row: s (K + F), with s bytes per element.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(q_rows, BT)
    query = pid < blocks
    if query:
        x, y, first, end = q, phi_q, pid * BT, q_rows
    else:
        x, y, first, end = k, phi_k, (pid - blocks) * BT, k_rows
    b_x = load_tile(x, first, end, width=K, BT=BT, BD=BK)
    wide = b_x.to(tl.float32)
    inside = (tl.arange(0, BF) < F)[None, :]
    if MAP == "softmax":
        exponent = tl.where(inside, wide, float("-inf"))
        e = tl.exp(exponent - tl.max(exponent, 1)[:, None])
        b_y = e / tl.sum(e, 1)[:, None]
    else:
        b_W = load_tile(W, first=0, end=F, width=K, BT=BF, BD=BK)
        exponent = tl.dot(b_x, tl.trans(b_W), input_precision=PRECISION) * K**-0.25
        exponent -= (tl.sum(wide * wide, 1) * (0.5 * K**-0.5))[:, None]
        largest = tl.max(tl.where(inside, exponent, float("-inf")), 1)
        exponent -= (largest * query.to(tl.float32))[:, None]
        b_y = tl.exp(exponent) * F**-0.5
    store_tile(y, b_y, first, end, width=F, BT=BT, BD=BF)


@triton.jit
def feature_rows_bwd_kernel(
    q,
    k,
    W,
    phi_q,
    phi_k,
    d_phi_q,
    d_phi_k,
    dq,
    dk,
    q_rows,
    k_rows,
    K: tl.constexpr,
    F: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BF: tl.constexpr,
    MAP: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """dq and dk from the gradients of the features.

    Grid:    blocks of BT rows of q, then of k.
    On chip: a block's y dy [BT, BF], fp32.
    Reads:   phi_q, d_phi_q [q_rows, F], phi_k, d_phi_k [k_rows, F]; for favor q [q_rows, K], k [k_rows, K], W [F, K].
    Writes:  dq [q_rows, K], dk [k_rows, K].
    Bytes per row: s (2F + K), + s K for favor.
    """
    pid = tl.program_id(0).to(tl.int64)
    blocks = tl.cdiv(q_rows, BT)
    if pid < blocks:
        x, y, dy, dx, first, end = q, phi_q, d_phi_q, dq, pid * BT, q_rows
    else:
        x, y, dy, dx, first, end = k, phi_k, d_phi_k, dk, (pid - blocks) * BT, k_rows
    b_y = load_tile(y, first, end, width=F, BT=BT, BD=BF).to(tl.float32)
    b_g = b_y * load_tile(dy, first, end, width=F, BT=BT, BD=BF).to(tl.float32)
    total = tl.sum(b_g, 1)[:, None]
    if MAP == "softmax":
        b_dx = b_g - b_y * total
    else:
        b_x = load_tile(x, first, end, width=K, BT=BT, BD=BK)
        b_W = load_tile(W, first=0, end=F, width=K, BT=BF, BD=BK)
        b_dx = tl.dot(b_g.to(b_x.dtype), b_W, input_precision=PRECISION) * K**-0.25
        b_dx -= b_x.to(tl.float32) * (total * K**-0.5)
    store_tile(dx, b_dx, first, end, width=K, BT=BT, BD=BK)
