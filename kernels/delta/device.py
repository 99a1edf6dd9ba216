"""What the kernels of this folder call on the device: where a program works, tiles of rows, gates, a chunk's inverse.

Kernels count in steps: a token has STEPS of them. k, v and beta have a row a step; q and o have a row a token, which
belongs to its last step, and the gate has one that belongs to its first. Step s of all B T STEPS lies in token
s // STEPS, so that a tile of steps finds its tokens without a table.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import MIN_LOG_DECAY, load_state, store_state, times_state

NORM_EPS = tl.constexpr(1e-6)


@triton.jit
def locate(
    T, segment_size, segments, cu_seqlens, SLICES: tl.constexpr, HEADS: tl.constexpr, STEPS: tl.constexpr, late=0
):
    """A program's (slice, head, sequence, segment, its slot, its first step, its end, eos, bos).

    bos, eos: first step and end of the sequence. T counts tokens, segment_size steps. Slices are neighbours in the
    grid, so that the tiles they share come from L2. Packed sequences differ in length, and their slots follow from
    their offsets: segments of all sequences fit in ceil(T STEPS / segment_size) + N slots.

    late: a runtime zero. It stops the compiler from hoisting this index arithmetic above a loop, where the results
    would occupy registers through all of it.
    """
    pid, T, segment_size, segments = tl.program_id(0) + late, T + late, segment_size + late, segments + late
    slice_index = pid % SLICES
    head = pid // SLICES % HEADS
    segment = pid // (SLICES * HEADS) % segments
    sequence = (pid // (SLICES * HEADS) // segments).to(tl.int64)
    if cu_seqlens is None:
        bos = sequence * T * STEPS
        eos = bos + T * STEPS
        state_slot = sequence * segments + segment
    else:
        bos = tl.load(cu_seqlens + sequence).to(tl.int64) * STEPS
        eos = tl.load(cu_seqlens + sequence + 1).to(tl.int64) * STEPS
        state_slot = bos // segment_size + sequence + segment
    begin = bos + segment.to(tl.int64) * segment_size
    return slice_index, head, sequence, segment, state_slot, begin, tl.minimum(begin + segment_size, eos), eos, bos


@triton.jit
def chunk_slot(sequence, bos, first_step, T, cu_seqlens, BT: tl.constexpr, STEPS: tl.constexpr):
    """Slot of the chunk of BT steps that starts at `first_step`, in a sequence that starts at `bos`."""
    slot = sequence * tl.cdiv(T * STEPS, BT) if cu_seqlens is None else bos // BT + sequence
    return slot + (first_step - bos) // BT


@triton.jit
def load_tile(base, rows, keep, stride: tl.constexpr, start, D: tl.constexpr, BD: tl.constexpr):
    """Columns start .. start + BD of the given rows; zero where a row is not kept or a column is not below D."""
    columns = start + tl.arange(0, BD)
    mask = keep[:, None]
    if D % BD:
        mask = mask & (columns < D)[None, :]
    return tl.load(base + rows[:, None] * stride + columns[None, :], mask=mask, other=0.0)


@triton.jit
def store_tile(base, x, rows, keep, stride: tl.constexpr, start, D: tl.constexpr, BD: tl.constexpr):
    """Store what load_tile loads, in the pointer's dtype."""
    columns = start + tl.arange(0, BD)
    mask = keep[:, None]
    if D % BD:
        mask = mask & (columns < D)[None, :]
    tl.store(base + rows[:, None] * stride + columns[None, :], x.to(base.dtype.element_ty), mask=mask)


@triton.jit
def tokens(first_step, rows, STEPS: tl.constexpr):
    """Of steps first_step + rows: (first token, tokens counted from it, whether a step is its token's last, first)."""
    inside = first_step % STEPS + rows
    return first_step // STEPS, inside // STEPS, inside % STEPS == STEPS - 1, inside % STEPS == 0


@triton.jit
def unit_rows(x, L2NORM: tl.constexpr):
    """(rows u, factors f, g) with x / sqrt(|x|^2 + eps) = f u and f g = 1 / sqrt(|x|^2 + eps), for all columns of x.

    The norm is a factor of a row, so products take x as it is and no tile is written again: u = x, g = 1. In float16
    what a tiny f or a large one makes of the other operand would leave its range: there u is normalised, f = 1.
    """
    f = tl.full([x.shape[0]], 1.0, tl.float32)
    g = f
    if L2NORM:
        wide = x.to(tl.float32)
        inverse = tl.rsqrt(tl.sum(wide * wide, 1) + NORM_EPS)
        if x.dtype == tl.float16:
            x = (wide * inverse[:, None]).to(x.dtype)
            g = inverse
        else:
            f = inverse
    return x, f, g


@triton.jit
def load_gates(beta, log_decay, first_step, rows, keep, h, HS: tl.constexpr, STEPS: tl.constexpr):
    """(beta, cumulative log decay) of the steps first_step + rows, fp32; a row that is not kept adds 0 to either."""
    # Summed out of a second, empty column: loaded as it is, the compiler loads it again, element by element, in the
    # layout of columns, and holds an address for each through the loop.
    column = tl.arange(0, 2)[None, :]
    b = tl.load(
        beta + first_step * HS + h + (rows * HS)[:, None] + column, mask=keep[:, None] & (column == 0), other=0.0
    )
    b = tl.sum(b.to(tl.float32), 1)
    G = tl.zeros_like(b)
    if log_decay is not None:
        token, inside, _closes, opens = tokens(first_step, rows, STEPS)
        g = tl.load(log_decay + token * HS + h + inside * HS, mask=keep & opens, other=0.0).to(tl.float32)
        # Not a maximum: it would hide a NaN.
        G = tl.cumsum(tl.where(g < MIN_LOG_DECAY, MIN_LOG_DECAY, g), 0)
    return b, G


@triton.jit
def total(G, BT: tl.constexpr):
    """The log decay of the whole chunk: the last sum."""
    return tl.sum(tl.where(tl.arange(0, BT) == BT - 1, G, 0.0), 0)


@triton.jit
def load_square(base, slot, BT: tl.constexpr):
    """The [BT, BT] tile of a chunk and head, of N or P."""
    rows = tl.arange(0, BT)
    return tl.load(base + slot * BT * BT + rows[:, None] * BT + rows[None, :])


@triton.jit
def load_factors(factors, slot, BT: tl.constexpr):
    """What a chunk's rows are multiplied by, fp32: e^G f_k, s e^G f_q and e^(Gc-G) f_k b; load_decay has e^Gc.

    Of k that reads the state, of q that reads it, and of k that writes r to it; f: see unit_rows.
    """
    # All four of a row at once, and picked out by sums: loaded one by one, the compiler would load each element in the
    # layout of a product's columns, many times over.
    at = factors + slot * 4 * BT
    column = tl.arange(0, 4)[None, :]
    each = tl.load(at + tl.arange(0, BT)[:, None] * 4 + column)
    of_k, of_q, of_w = _column(each, 0), _column(each, 1), _column(each, 2)
    return of_k, of_q, of_w


@triton.jit
def load_decay(factors, slot, there, BT: tl.constexpr):
    """e^Gc of a chunk, if it is there. Loaded a chunk ahead, as the pipeline of loads leaves a scalar where it is."""
    return tl.load(factors + slot * 4 * BT + 3, mask=there, other=1.0)


@triton.jit
def _column(x, j: tl.constexpr):
    return tl.sum(tl.where(tl.arange(0, x.shape[1])[None, :] == j, x, 0.0), 1)


@triton.jit
def operand(x, L2NORM: tl.constexpr):
    """Rows x as products take them where the factors of load_factors hold the norms: float16 ones are normalised."""
    if L2NORM and x.dtype == tl.float16:
        x = unit_rows(x, True)[0]
    return x


@triton.jit
def state_times(X, x, PRECISION: tl.constexpr):
    """X x^T for a transposed state X [W, D] and rows x [BT, D], fp32 [W, BT], with X rounded as times_state does it."""
    unit = 1.0
    if x.dtype == tl.float16:
        unit = tl.max(tl.max(tl.abs(X), 1), 0)
        unit = tl.where(unit > 0.0, unit, 1.0)
        X = X / unit
    return tl.dot(X.to(x.dtype), tl.trans(x), input_precision=PRECISION) * unit


@triton.jit
def add_times_state(y, x, X, factor, PRECISION: tl.constexpr, LATER: tl.constexpr):
    """y + diag(factor) x X for rows x, X rounded to x's dtype; LATER: without the factor, which y gets afterwards."""
    if x.dtype == tl.float16:
        # times_state scales such a state by its largest element: see there.
        product = times_state(x, X, PRECISION)
        y += product if LATER else product * factor[:, None]
    else:
        if not LATER:
            x = (x.to(tl.float32) * factor[:, None]).to(x.dtype)
        y = tl.dot(x, X.to(x.dtype), y, input_precision=PRECISION)
    return y


@triton.jit
def correct(x, b_N, PRECISION: tl.constexpr):
    """x (I + N) for fp32 rows x: the unit diagonal is not multiplied, so it is exact."""
    return tl.dot(x.to(b_N.dtype), b_N, x, input_precision=PRECISION)


@triton.jit
def load_start(base, index, start, K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr):
    """Columns start .. start + BV of state number `index`, fp32 [BK, BV]."""
    k, v = folded(start, 0, BK, BV)
    return tl.reshape(load_state(base, index, k, v, K=K, V=V, SIZE=K * V), [BK, BV])


@triton.jit
def store_end(base, index, x, start, late, K: tl.constexpr, V: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr):
    """The inverse of load_start, in the pointer's dtype; late: see `locate`."""
    k, v = folded(start, late, BK, BV)
    store_state(base, index, tl.reshape(x, [BK // 2, 2 * BV]), k, v, K=K, V=V, SIZE=K * V)


@triton.jit
def folded(start, late, BK: tl.constexpr, BV: tl.constexpr):
    """(k, v) of a slice of a state with two rows side by side, [BK / 2, 2 BV].

    In this shape it shares no address of memory or shared memory with the tiles of a loop before or after it: those
    would be computed once and held through the loop.
    """
    column = tl.arange(0, 2 * BV)[None, :]
    return 2 * tl.arange(0, BK // 2)[:, None] + column // BV + late, start + column % BV
