"""The inverse of a unit lower triangular tile, on chip: blocks of 16 at once, then merged in pairs by tensor cores.

With A strictly lower triangular and X = (I + A)^{-1} known for all diagonal blocks of `size` rows, a pair of neighbours
with A21 between them merges exactly:

    [X11          0 ]        X <- X - X L X        L: the blocks A21 of A, zero elsewhere
    [-X22 A21 X11 X22]

From size 1 on this needs no division, no powers of A (whose elements grow like binomial coefficients where keys repeat)
and no row-by-row loop. Where A comes from normalised keys and beta in [0, 2], every element of X is at most 2 in size,
since a product of I - beta k k^T never stretches a vector: float16 holds A and X with 11 bits, so operands are float16
for half-precision inputs and accumulators float32. A merge writes where X was zero: each element is rounded once.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = tl.constexpr(16)


@triton.jit
def invert_unit_lower(A, C: tl.constexpr, PRECISION: tl.constexpr):
    """(I + A)^{-1} [C, C] for a strictly lower triangular fp32 A [C, C]; C is 16, 32, 64 or 128.

    PRECISION: "half" multiplies float16 operands and returns float16; else the input precision of float32 products
    ("tf32x3", "ieee"), and the result is float32. A must be zero on and above its diagonal.
    """
    if PRECISION == "half":
        A = A.to(tl.float16)
    i = tl.arange(0, C)
    if C == BLOCK:
        X = tl.reshape(invert_blocks(tl.reshape(A, [1, BLOCK, BLOCK]), PRECISION), [C, C])
    else:
        n: tl.constexpr = C // BLOCK
        b = tl.arange(0, n)
        own = b[:, None, None, None] == b[None, None, :, None]
        D = tl.sum(tl.where(own, tl.reshape(A, [n, BLOCK, n, BLOCK]), 0.0), 2)
        D = invert_blocks(D.to(A.dtype), PRECISION)
        X = tl.reshape(tl.where(own, tl.expand_dims(D, 2), 0.0), [C, C]).to(A.dtype)
        X = merge(X, A, i[:, None], i[None, :], BLOCK, PRECISION)
        if C > 2 * BLOCK:
            X = merge(X, A, i[:, None], i[None, :], 2 * BLOCK, PRECISION)
        if C > 4 * BLOCK:
            X = merge(X, A, i[:, None], i[None, :], 4 * BLOCK, PRECISION)
    return X


@triton.jit
def invert_blocks(A, PRECISION: tl.constexpr):
    """The same for many tiles at once: A [n, 16, 16], float16 where PRECISION is "half", else float32."""
    i = tl.arange(0, BLOCK)[None, :, None]
    j = tl.arange(0, BLOCK)[None, None, :]
    X = tl.where(i == j, 1.0, tl.where(i // 2 == j // 2, -A, 0.0)).to(A.dtype)
    X = merge(X, A, i, j, 2, PRECISION)
    X = merge(X, A, i, j, 4, PRECISION)
    return merge(X, A, i, j, 8, PRECISION)


@triton.jit
def merge(X, A, i, j, SIZE: tl.constexpr, PRECISION: tl.constexpr):
    """X, inverse for diagonal blocks of SIZE rows, -> for those of 2 SIZE rows; i, j: indices of row and column."""
    L = tl.where((i // (2 * SIZE) == j // (2 * SIZE)) & (i // SIZE != j // SIZE), A, 0.0).to(A.dtype)
    if PRECISION == "half":
        LX = tl.dot(L, X).to(tl.float16)
        X -= tl.dot(X, LX).to(tl.float16)
    else:
        LX = tl.dot(L, X, input_precision=PRECISION)
        X -= tl.dot(X, LX, input_precision=PRECISION)
    return X
