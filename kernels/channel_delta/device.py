"""What the kernels of this folder call on the device: gates, and the scores of a chunk through the decays in between.

Inside a chunk token i reads token j, j < i, through the decay of the tokens in between, channel by channel:

    P_ij = sum_c x_ic y_jc 2^(G_ic - G_jc),   G: running sum of the log decays

No factor of that exponent is bounded over a chunk, so pairs are taken by level: at half size h = 1, 2, 4, …, rows in
the upper half of a block of 2h see columns in its lower half through R, the sum at the end of the lower half. Then
G_i - R <= 0 and R - G_j <= 0, whatever the gates, and each level is one product, of which a mask keeps that level's
pairs: each pair belongs to the level of the highest bit in which i and j differ.

Where the halves of a block keep more than 2^-100, one product takes all pairs in it: 2^(G - R) and 2^(R - G) pass 1 on
the other side of R, but stay in the range of fp32 and bf16, which hold them with all their digits. `first_level` is the
highest level at which all blocks do; the levels above it follow as before. fp16 has no such range: it takes all levels.

The loop over levels is not unrolled: unrolled, the compiler keeps the masks of all levels in registers.
"""

# Triton types a device function, tl.range too, as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false, reportAssignmentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, MIN_LOG2_DECAY, load_rows, slots_of

# The largest power of 2 that a block's rows and columns are scaled by: it leaves 2^27 to their own size.
WIDEST = tl.constexpr(100.0)
# No block of fewer than 2 << 3 tokens is tried: scaling its pairs saves too little.
NARROWEST = tl.constexpr(3)
# Levels of the longest chunk, 64 tokens.
LEVELS = tl.constexpr(6)
NORM_EPS = tl.constexpr(1e-6)


@triton.constexpr_function
def plain(size):
    """A tile's size as a plain number: the interpreter cannot take a remainder by a constexpr object."""
    return size


@triton.jit
def load_gates(g, stride: tl.constexpr, keep, start, K: tl.constexpr, BK: tl.constexpr):
    """Log decays [BT, BK] in powers of 2, fp32; 0 where nothing is stored."""
    x = load_rows(g, stride, keep, start, BT=keep.shape[0], D=K, BD=BK).to(tl.float32) * LOG2E
    # Not maximum: it would turn a NaN into a number.
    return tl.where(x < MIN_LOG2_DECAY, MIN_LOG2_DECAY, x)


@triton.jit
def load_sums(g, stride: tl.constexpr, keep, start, K: tl.constexpr, BK: tl.constexpr):
    """(log decays, their running sums) [BT, BK] in powers of 2."""
    b_g = load_gates(g, stride, keep, start, K=K, BK=BK)
    return b_g, tl.cumsum(b_g, 0)


@triton.jit
def load_beta(beta, keep, HS: tl.constexpr, BT: tl.constexpr):
    """beta [BT] of one head, fp32."""
    return tl.load(beta + tl.arange(0, BT) * HS, mask=keep, other=0.0).to(tl.float32)


@triton.jit
def inverse_norm(squares):
    """1 / |x| of rows whose elements' squares sum to this, as the operator's l2norm defines it."""
    return tl.rsqrt(squares + NORM_EPS)


@triton.jit
def decay(x, most=0.0):
    """2^x, at most 2^most: rounding may lift a difference of sums above 0, and masked elements are not bounded."""
    return tl.exp2(tl.where(x > most, most, x))


@triton.jit
def since_boundary(G, level):
    """G - R [BT, BK], R the sum at the end of the lower half of each block of 2 << level tokens."""
    i = tl.arange(0, G.shape[0])[:, None]
    last = ((i >> (level + 1)) << (level + 1)) + (1 << level) - 1
    return G - tl.gather(G, tl.broadcast_to(last, G.shape), 0)


@triton.jit
def depth(BT: tl.constexpr):
    """Levels of a chunk: log2 of its tokens."""
    return 4 if BT == 16 else 5 if BT == 32 else 6


@triton.jit
def first_level(G, dtype: tl.constexpr):
    """The highest level whose blocks can be taken whole, from NARROWEST on; 0 where none can."""
    first = 0
    if dtype != tl.float16:
        for level in tl.static_range(NARROWEST, LEVELS):
            if 2 << level <= G.shape[0]:
                spread = tl.max(tl.max(tl.abs(since_boundary(G, level)), 1), 0)
                first = tl.where(spread < WIDEST, level, first)
    return first


@triton.jit
def pairs_at(level, first, G):
    """(the pairs of a level [BT, BT], G - R [BT, BK], the largest power of 2 that a row or column is scaled by).

    Pairs lie in one block of 2 << level tokens, the row in its upper half and the column in its lower one; j < i alone
    where the block is taken whole. They are made of row and column numbers in each turn: held over the loop, as
    i xor j, they would take more registers than there are.
    """
    i = tl.arange(0, G.shape[0])[:, None]
    j = tl.arange(0, G.shape[0])[None, :]
    whole = (level == first) & (level > 0)
    half = tl.where(whole, 0, level)
    pairs = (i >> (level + 1) == j >> (level + 1)) & (i >> half > j >> half)
    return pairs, since_boundary(G, level), tl.where(whole, WIDEST, 0.0)


@triton.jit
def chunk_of(n, segment, begin, segment_size, chunks, cu_seqlens, BT: tl.constexpr):
    """Number of the first chunk of segment `segment` of sequence n, among all chunks; `chunks` a sequence where dense.

    Packed, chunks of all sequences fit in T // BT + N numbers, as segments' slots do in `locate`.
    """
    within = segment * (segment_size // BT)
    if cu_seqlens is None:
        return n * chunks + within
    return (begin - segment.to(tl.int64) * segment_size) // BT + n + within


@triton.jit
def place_of(left, segment_size, segments, cu_seqlens, SLICES: tl.constexpr, HS: tl.constexpr):
    """After a sweep: (its slice, its sequence's state, its segment's, whether that is the sequence's last), numbers.

    left: tokens that the sweep's loop left over, 0 or less. The compiler does not know their number, so it computes all
    this after the loop, which has no registers to hold it.
    """
    pid = tl.program_id(0) + tl.maximum(left, 0)
    h = pid // SLICES % HS
    segment = pid // (SLICES * HS) % segments
    n = (pid // (SLICES * HS) // segments).to(tl.int64)
    state_slot, count = slots_of(n, segment_size, segments, cu_seqlens)
    return pid % SLICES, n * HS + h, (state_slot + segment) * HS + h, segment + 1 == count


@triton.jit
def chunk_scores(
    q,
    a,
    y,
    g,
    beta,
    scale,
    keep,
    H: tl.constexpr,
    HY: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    BS: tl.constexpr,
    L2NORM: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """tril(a y^T, -1) and s tril(q y^T) [BT, BT] fp32 through the decays in between; the second is 0 where q is None.

    y has HY heads per token. KDA: a is None, y is k, and rows a of the product are k and its columns beta k. With
    L2NORM 1 / |q| and 1 / |y| [BT] follow, by which both are multiplied, else zeros.
    """
    READ: tl.constexpr = q is not None
    DPLR: tl.constexpr = a is not None
    BT: tl.constexpr = keep.shape[0]
    rows = tl.arange(0, BT)
    dtype = y.dtype.element_ty
    diagonal = tl.zeros([BT], dtype=tl.float32)
    # Squares first, then what rows are divided by.
    of_q = tl.zeros([BT], dtype=tl.float32)
    of_k = tl.zeros([BT], dtype=tl.float32)
    A = tl.zeros([BT, BT], dtype=tl.float32)
    Q = tl.zeros([BT, BT], dtype=tl.float32)
    for start in tl.range(0, K, BS, disable_licm=True, num_stages=1):
        b_g, b_G = load_sums(g, HS * K, keep, start, K=K, BK=BS)  # [BT, BS]
        b_y = load_rows(y, HY * K, keep, start, BT=BT, D=K, BD=BS)
        b_a = load_rows(a, HS * K, keep, start, BT=BT, D=K, BD=BS) if DPLR else b_y
        if L2NORM:
            of_k += tl.sum(b_y.to(tl.float32) * b_y, 1)
        if READ:
            b_q = load_rows(q, H * K, keep, start, BT=BT, D=K, BD=BS)
            diagonal += tl.sum(b_q.to(tl.float32) * b_y, 1)
            if L2NORM:
                of_q += tl.sum(b_q.to(tl.float32) * b_q, 1)
        first = first_level(b_G, dtype)
        for level in tl.range(first, depth(BT), disable_licm=True, num_stages=1):
            pairs, since, most = pairs_at(level, first, b_G)
            columns = tl.trans((b_y * decay(-since, most)).to(dtype))
            before = decay(since, most)
            if READ:
                Q += tl.where(pairs, tl.dot((b_q * before).to(dtype), columns, input_precision=PRECISION), 0.0)
            if DPLR:
                before = decay(since - b_g, most)
            A += tl.where(pairs, tl.dot((b_a * before).to(dtype), columns, input_precision=PRECISION), 0.0)
    if READ:
        Q = (Q + tl.where(rows[:, None] == rows[None, :], diagonal[:, None], 0.0)) * scale
    if not DPLR:
        column = load_beta(beta, keep, HS, BT)
        if L2NORM:
            of_k = inverse_norm(of_k)
            column *= of_k
            A *= of_k[:, None]
            if READ:
                of_q = inverse_norm(of_q)
                Q *= of_q[:, None]
        A *= column[None, :]
        if READ:
            Q *= column[None, :]
    return A, Q, of_q, of_k
