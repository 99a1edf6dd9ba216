"""What the kernels of this folder call on the device: gates, and the decays between the tokens of a chunk.

Inside a chunk token i reads token j, j < i, through the decay of the tokens in between, channel by channel:

    P_ij = sum_c x_ic y_jc 2^(G_ic - G_jc),   G: running sum of the log decays

No factor of that exponent is bounded over a chunk, so pairs are taken by level: at half size h = 1, 2, 4, …, rows in
the upper half of a block of 2h see columns in its lower half through R, the sum at the end of the lower half. Then
G_i - R <= 0 and R - G_j <= 0, whatever the gates: z = 2^-|G - R| serves rows and columns alike, and each level is one
product of x z and y z, of which a mask keeps that level's pairs. Every pair belongs to one level: that of the highest
bit in which i and j differ.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.linear_state.device import load_rows

# Gates are held in powers of 2. What decays below 2^-96 in one token is lost in fp32 beside anything else: a gate of
# -inf is this one, so that no difference of two sums is inf - inf and no sum outgrows fp32's digits.
SMALLEST = tl.constexpr(-96.0)
# Levels of the longest chunk, 256 tokens.
LEVELS = tl.constexpr(8)


@triton.jit
def load_gates(g, stride: tl.constexpr, keep, start, BT: tl.constexpr, K: tl.constexpr, BK: tl.constexpr):
    """Log decays [BT, BK] in powers of 2, fp32; 0 where nothing is stored."""
    x = load_rows(g, stride, keep, start, BT, K, BK).to(tl.float32) * 1.4426950408889634
    # Not maximum: it would turn a NaN into a number.
    return tl.where(x < SMALLEST, SMALLEST, x)


@triton.jit
def decay(x):
    """2^x, at most 1: a difference of two sums may exceed 0 by rounding."""
    return tl.exp2(tl.where(x > 0.0, 0.0, x))


@triton.jit
def boundary(G, HALF: tl.constexpr, BT: tl.constexpr, BK: tl.constexpr):
    """R [BT, BK]: G of the last row of the lower half, for every row of a block of 2 HALF."""
    blocks = tl.reshape(G, [BT // (2 * HALF), 2 * HALF, BK])
    row = tl.arange(0, 2 * HALF)[None, :, None]
    R = tl.sum(tl.where(row == HALF - 1, blocks, 0.0), 1)
    return tl.reshape(tl.broadcast_to(R[:, None, :], [BT // (2 * HALF), 2 * HALF, BK]), [BT, BK])


@triton.jit
def pairs_of(g, start, rows, keep, HS: tl.constexpr, K: tl.constexpr, BT: tl.constexpr):
    """[BT, BT]: i xor j where j < i, else 0; shifted right by a level it is 1 for that level's pairs.

    It is made anew for each slice, from something that only the slice knows: else the compiler moves the masks of all
    levels out of the loop over slices, where they take more registers than there are.
    """
    i = tl.arange(0, BT)[:, None]
    j = tl.arange(0, BT)[None, :]
    seen = tl.load(g + rows * HS * K + start, mask=keep, other=0.0).to(tl.float32) < 1.0
    return tl.where((i > j) & (keep & seen)[:, None], i ^ j, 0)


@triton.jit
def chunk_of(n, order, low, segment, chunks, cu_seqlens, BT: tl.constexpr):
    """Number of the first chunk of segment `order` of sequence n, among all chunks; `chunks` a sequence where dense.

    Packed, chunks of all sequences fit in T // BT + N numbers, as segments' slots do in `locate`.
    """
    within = order * (segment // BT)
    if cu_seqlens is None:
        return n * chunks + within
    return (low - order.to(tl.int64) * segment) // BT + n + within
