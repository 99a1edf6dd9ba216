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
Mostly the block is the whole chunk: `add_scores` has a way of its own for it, without a loop and its masks.

`prepare` sums gates by products with 0, 1 and -1: a running sum takes shuffles and barriers, tensor cores are idle.

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
def gates_through(g, weights):
    """weights g [BT, BK] fp32 for log decays g [BT, BK] and numbers 0, 1 and -1 [BT, BT], by tensor cores.

    In two parts float16 holds a gate to 2^-24 of a power of 2, or to 2^-22 of itself.
    """
    high = g.to(tl.float16)
    low = (g - high.to(tl.float32)).to(tl.float16)
    return tl.dot(weights, low, tl.dot(weights, high))


@triton.jit
def since_boundary(g, G, level):
    """G - R [BT, BK], R the sum at the end of the lower half of each block of 2 << level tokens.

    Of log decays g where the running sums G are None, by tensor cores; else of G, by a gather.
    """
    i = tl.arange(0, g.shape[0])[:, None]
    last = ((i >> (level + 1)) << (level + 1)) + (1 << level) - 1
    if G is None:
        j = tl.arange(0, g.shape[0])[None, :]
        since = gates_through(g, (j <= i).to(tl.float16) - (j <= last).to(tl.float16))
    else:
        since = G - tl.gather(G, tl.broadcast_to(last, G.shape), 0)
    return since


@triton.jit
def depth(BT: tl.constexpr):
    """Levels of a chunk: log2 of its tokens."""
    return 4 if BT == 16 else 5 if BT == 32 else 6


@triton.jit
def largest(x):
    """The largest size of an element of x [BT, BK]. By rows first, it would make Triton 3.6 abort for sm_100."""
    return tl.max(tl.reshape(tl.abs(x), [x.shape[0] * x.shape[1]]), 0)


@triton.jit
def first_level(g, G, dtype: tl.constexpr):
    """The highest level whose blocks can be taken whole, from NARROWEST on; 0 where none can. G may be None."""
    first = 0
    if dtype != tl.float16:
        for level in tl.static_range(NARROWEST, LEVELS):
            if 2 << level <= g.shape[0]:
                spread = largest(since_boundary(g, G, level))
                first = tl.where(spread < WIDEST, level, first)
    return first


@triton.jit
def pairs_at(level, first, g, G):
    """(the pairs of a level [BT, BT], G - R [BT, BK], the largest power of 2 that a row or column is scaled by).

    Pairs lie in one block of 2 << level tokens, the row in its upper half and the column in its lower one; j < i alone
    where the block is taken whole. They are made of row and column numbers in each turn: held over the loop, as
    i xor j, they would take more registers than there are.
    """
    i = tl.arange(0, g.shape[0])[:, None]
    j = tl.arange(0, g.shape[0])[None, :]
    whole = (level == first) & (level > 0)
    half = tl.where(whole, 0, level)
    pairs = (i >> (level + 1) == j >> (level + 1)) & (i >> half > j >> half)
    return pairs, since_boundary(g, G, level), tl.where(whole, WIDEST, 0.0)


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
def sums_in_chunk(g):
    """Of log decays [BT, BK] in powers of 2: sums up to each token, after it, and from the middle of the chunk on."""
    BT: tl.constexpr = plain(g.shape[0])
    i = tl.arange(0, BT)[:, None]
    j = tl.arange(0, BT)[None, :]
    upto = (j <= i).to(tl.float16)
    return (
        gates_through(g, upto),
        gates_through(g, (j > i).to(tl.float16)),
        gates_through(g, upto - (j < BT // 2).to(tl.float16)),
    )


@triton.jit
def add_scores(A, Q, q, a, y, g, middle, PRECISION: tl.constexpr):
    """A + tril(a y^T, -1) and Q + tril(q y^T, -1) [BT, BT] fp32 through the decays in between, of one slice of K.

    q, a, y [BT, BK]; a is None for KDA, whose rows of A are y. middle: G less its value in the middle of the chunk.
    Above and on the diagonals there may be anything.
    """
    BT: tl.constexpr = g.shape[0]
    dtype: tl.constexpr = y.dtype
    if (dtype != tl.float16) & (largest(middle) < WIDEST):
        # The chunk is one block: its mask can wait for the last slice.
        columns = tl.trans((y * decay(-middle, WIDEST)).to(dtype))
        before = decay(middle, WIDEST)
        Q = tl.dot((q * before).to(dtype), columns, Q, input_precision=PRECISION)
        if a is not None:
            A = tl.dot((a * decay(middle - g, WIDEST)).to(dtype), columns, A, input_precision=PRECISION)
        else:
            A = tl.dot((y * before).to(dtype), columns, A, input_precision=PRECISION)
    else:
        first = first_level(g, None, dtype)
        for level in tl.range(first, depth(BT), disable_licm=True, num_stages=1):
            pairs, since, most = pairs_at(level, first, g, None)
            columns = tl.trans((y * decay(-since, most)).to(dtype))
            before = decay(since, most)
            Q += tl.where(pairs, tl.dot((q * before).to(dtype), columns, input_precision=PRECISION), 0.0)
            x = (a * decay(since - g, most)).to(dtype) if a is not None else (y * before).to(dtype)
            A += tl.where(pairs, tl.dot(x, columns, input_precision=PRECISION), 0.0)
    return A, Q


@triton.jit
def below_diagonal(P):
    """P [BT, BT] where the row is a later token than the column, else 0."""
    i = tl.arange(0, P.shape[0])
    return tl.where(i[:, None] > i[None, :], P, 0.0)


@triton.jit
def with_diagonal(P, diagonal):
    """P [BT, BT] below its diagonal, `diagonal` [BT] on it, 0 above it."""
    i = tl.arange(0, P.shape[0])
    return tl.where(i[:, None] == i[None, :], diagonal[:, None], below_diagonal(P))
