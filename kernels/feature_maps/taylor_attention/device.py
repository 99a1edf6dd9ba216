"""What the kernels of this folder call on the device: where a program works, tiles, norms, the series."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def locate(T, blocks, cu_seqlens, H: tl.constexpr, BT: tl.constexpr):
    """A program's (head, first token of the sequence, its length, first row of its block within it, block of all)."""
    pid = tl.program_id(0)
    n = (pid // (blocks * H)).to(tl.int64)
    block_start = pid % blocks * BT
    if cu_seqlens is None:
        bos = n * T
        length = T
    else:
        bos = tl.load(cu_seqlens + n).to(tl.int64)
        length = tl.load(cu_seqlens + n + 1) - tl.load(cu_seqlens + n)
    return pid // blocks % H, bos, length, block_start, n * blocks + pid % blocks


@triton.jit
def tile_of(bos, row, head, heads: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    """Offsets [rows, BD] of a head's rows in [tokens, heads, D]."""
    return ((bos + row) * heads + head)[:, None] * D + tl.arange(0, BD)[None, :]


@triton.jit
def load_tile(base, bos, row, length, head, heads: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    """A head's rows [rows, BD] of [tokens, heads, D]; zero beyond the sequence and beyond D."""
    mask = (row < length)[:, None] & (tl.arange(0, BD) < D)[None, :]
    return tl.load(base + tile_of(bos, row, head, heads=heads, D=D, BD=BD), mask=mask, other=0.0)


@triton.jit
def store_tile(base, x, bos, row, length, head, heads: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    """Store what load_tile loads, in the pointer's dtype."""
    mask = (row < length)[:, None] & (tl.arange(0, BD) < D)[None, :]
    tl.store(base + tile_of(bos, row, head, heads=heads, D=D, BD=BD), x.to(base.dtype.element_ty), mask=mask)


@triton.jit
def load_output(o, do, den, delta, bos, row, length, head, heads: tl.constexpr, V: tl.constexpr, BV: tl.constexpr):
    """(do [rows, BV], delta = do . o [rows], which it stores, den [rows]) of a head; 0, 0, 1 beyond the sequence."""
    b_do = load_tile(do, bos, row, length, head, heads=heads, D=V, BD=BV)
    b_o = load_tile(o, bos, row, length, head, heads=heads, D=V, BD=BV)
    b_delta = tl.sum(b_do.to(tl.float32) * b_o.to(tl.float32), 1)
    offsets = (bos + row) * heads + head
    tl.store(delta + offsets, b_delta, mask=row < length)
    return b_do, b_delta, tl.load(den + offsets, mask=row < length, other=1.0)


@triton.jit
def inverse_norm(x):
    """1 / |x| of each row in fp32, and 0 for a row of zeros."""
    wide = x.to(tl.float32)
    square = tl.sum(wide * wide, 1)
    return tl.where(square > 0.0, tl.rsqrt(tl.where(square > 0.0, square, 1.0)), 0.0)


@triton.jit
def series(x):
    """1 + x + x^2 / 2."""
    return 1.0 + x * (1.0 + 0.5 * x)


@triton.jit
def output_scale(row, length, K: tl.constexpr, CAUSAL: tl.constexpr):
    """sqrt(n / K) for rows [rows], n the keys that a row sees."""
    seen = row + 1 if CAUSAL else tl.zeros_like(row) + length
    return tl.sqrt(seen.to(tl.float32) / K)
