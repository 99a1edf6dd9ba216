"""What S4D's kernels call on the device: transitions and their powers, channels of a tile, states of its chunks.

Complex numbers are pairs of fp32 tensors. A transition a = exp(dt A) is kept as log2 |a| and its phase in turns, so
that any power of it is exact: whole turns are dropped before a sine is taken.
"""

# Triton's tuples are not typed, nor is what a device function returns.
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E
from kernels.scan.device import inside

PI = tl.constexpr(3.141592653589793)
# Rows of a table of transitions, [12, channels, modes]: log2 |a|, turns, c, a^chunk, a^segment, a, a^(2 LANES).
DECAY_ROW, C_ROW = tl.constexpr(0), tl.constexpr(2)
CHUNK_ROW, SEGMENT_ROW = tl.constexpr(4), tl.constexpr(6)
ONE_ROW, FAR_ROW = tl.constexpr(8), tl.constexpr(10)
# So many lanes of a warp share a row of a product's sum, two neighbouring columns each.
LANES = tl.constexpr(4)


@triton.jit
def mul(ar, ai, br, bi):
    """A complex product."""
    return ar * br - ai * bi, ar * bi + ai * br


@triton.jit
def cis(turns):
    """Cosine and sine of 2 pi turns, to fp32's precision, by polynomials on an eighth of a turn either way."""
    quarter = tl.floor(4.0 * turns + 0.5)
    x = (4.0 * turns - quarter) * (PI / 2.0)
    y = x * x
    s = x * (1.0 + y * (-1.0 / 6.0 + y * (1.0 / 120.0 + y * (-1.0 / 5040.0 + y / 362880.0))))
    c = 1.0 + y * (-0.5 + y * (1.0 / 24.0 + y * (-1.0 / 720.0 + y / 40320.0)))
    q = quarter.to(tl.int32) & 3
    odd = (q & 1) == 1
    cosine = tl.where(odd, s, c)
    sine = tl.where(odd, c, s)
    return tl.where((q == 1) | (q == 2), -cosine, cosine), tl.where(q >= 2, -sine, sine)


@triton.jit
def power(log2a, turns, n):
    """a^n for n >= 0: no exponent is above 0."""
    angle = n * turns
    size = tl.exp2(n * log2a)
    cosine, sine = cis(angle - tl.floor(angle + 0.5))
    return size * cosine, size * sine


@triton.jit
def transition(log_dt, A_real, A_imag, C_real, C_imag):
    """(dt, log2 |a|, turns, c) of modes, from their parameters: a = exp(dt A), c = 2 C (a - 1) / A.

    What is multiplied by a number of tokens later is computed in fp64.
    """
    dt = tl.exp(log_dt.to(tl.float64))
    size = dt * A_real.to(tl.float64)
    angle = dt * A_imag.to(tl.float64) / (2.0 * PI)
    turns = (angle - tl.floor(angle + 0.5)).to(tl.float32)
    b_real, b_imag = input_weight(size, turns, A_real, A_imag)
    c_real, c_imag = mul(2.0 * C_real, 2.0 * C_imag, b_real, b_imag)
    return dt.to(tl.float32), (size * LOG2E).to(tl.float32), turns, c_real, c_imag


@triton.jit
def input_weight(size, turns, A_real, A_imag):
    """(a - 1) / A; size = log |a| in fp64. a - 1 = expm1(size) cos - 2 sin(half)^2 + i |a| sin does not cancel."""
    shrunk = (tl.exp(size) - 1.0).to(tl.float32)
    cosine, sine = cis(turns)
    _, half = cis(turns * 0.5)
    real = shrunk * cosine - 2.0 * half * half
    imag = (shrunk + 1.0) * sine
    norm = A_real * A_real + A_imag * A_imag
    return (real * A_real + imag * A_imag) / norm, (imag * A_real - real * A_imag) / norm


@triton.jit
def parts_of(x, A: tl.constexpr, B: tl.constexpr, N: tl.constexpr):
    """x [A, B, N] as a tuple of N tensors [A, B], without communication between threads where one thread has all N."""
    if N == 1:
        return (tl.reshape(x, [A, B]),)
    else:  # noqa: RET505 - what follows a return is compiled too
        a, b = tl.split(tl.reshape(x, [A, B, N // 2, 2]))
        even = parts_of(a, A, B, N // 2)
        odd = parts_of(b, A, B, N // 2)
        found = ()
        for i in tl.static_range(N // 2):
            found = found + (even[i], odd[i])
        return found


@triton.jit
def joined(parts, N: tl.constexpr):
    """A tuple of N tensors [A, B] as one [A, B, 2, ..., 2], the last index that of neighbours."""
    if N == 1:
        return parts[0]
    else:  # noqa: RET505 - as above
        even = ()
        odd = ()
        for i in tl.static_range(N // 2):
            even = even + (parts[2 * i],)
            odd = odd + (parts[2 * i + 1],)
        return tl.join(joined(even, N // 2), joined(odd, N // 2))


@triton.jit
def stacked(real, imag, dtype: tl.constexpr, M: tl.constexpr, R: tl.constexpr):
    """Complex columns, tuples as chunks_of has them, as real rows [2 M, R]: real parts of eight modes, then imaginary.

    In a product's sum, a thread has both parts of what it has.
    """
    both = tl.join(joined(real, R // LANES), joined(imag, R // LANES)).to(dtype)
    both = tl.permute(tl.reshape(both, [M // 8, 8, LANES, R // (2 * LANES), 2, 2]), (0, 5, 1, 3, 2, 4))
    return tl.reshape(both, [2 * M, R])


@triton.jit
def unstacked(x, M: tl.constexpr, N: tl.constexpr):
    """Rows as stacked has them as real and imaginary parts, [M, N] each."""
    both = tl.permute(tl.reshape(x, [M // 8, 2, 8, N]), (0, 2, 3, 1))
    return tl.split(tl.reshape(both, [M, N, 2]))


@triton.jit
def chunk_of(column, R: tl.constexpr):
    """Which of R chunks a tile has in a column: so each thread of a product's sum has R / LANES of them in a row."""
    return column // 2 % LANES * (R // LANES) + column // (2 * LANES) * 2 + column % 2


@triton.jit
def chunks_of(x, M: tl.constexpr, R: tl.constexpr):
    """x [M, R], columns as chunk_of has them, as a tuple of R / LANES tensors [M, LANES], in the order of chunks."""
    x = tl.permute(tl.reshape(x, [M, R // (2 * LANES), LANES, 2]), (0, 2, 1, 3))
    return parts_of(tl.reshape(x, [M, LANES, R // LANES]), M, LANES, R // LANES)


@triton.jit
def powers(
    a_real, a_imag, far_real, far_imag, real, imag, L: tl.constexpr, OFFSET: tl.constexpr, BACKWARDS: tl.constexpr
):
    """(real + i imag) a^(OFFSET + column) for L columns, as chunks_of has them; BACKWARDS: of the last one first.

    far: a^(2 LANES); OFFSET 0 or 1. All of them by multiplications, the longest row of which has L / 8 + 4.
    """
    a_real = a_real[:, None]
    a_imag = a_imag[:, None]
    lane = tl.arange(0, LANES)[None, :]
    if BACKWARDS:
        lane = (LANES - 1) - lane
    x_real = real[:, None]
    x_imag = imag[:, None]
    if OFFSET == 1:
        x_real, x_imag = mul(x_real, x_imag, a_real, a_imag)
    square_real, square_imag = mul(a_real, a_imag, a_real, a_imag)
    x_real, x_imag = mul(
        tl.where(lane % 2 == 1, square_real, 1.0), tl.where(lane % 2 == 1, square_imag, 0.0), x_real, x_imag
    )
    square_real, square_imag = mul(square_real, square_imag, square_real, square_imag)
    x_real, x_imag = mul(
        tl.where(lane // 2 == 1, square_real, 1.0), tl.where(lane // 2 == 1, square_imag, 0.0), x_real, x_imag
    )
    y_real, y_imag = mul(x_real, x_imag, a_real, a_imag)
    if BACKWARDS:
        found_real = (y_real, x_real)
        found_imag = (y_imag, x_imag)
    else:
        found_real = (x_real, y_real)
        found_imag = (x_imag, y_imag)
    for _ in tl.static_range(1, L // (2 * LANES)):
        x_real, x_imag = mul(x_real, x_imag, far_real[:, None], far_imag[:, None])
        y_real, y_imag = mul(y_real, y_imag, far_real[:, None], far_imag[:, None])
        if BACKWARDS:
            found_real = (y_real, x_real) + found_real
            found_imag = (y_imag, x_imag) + found_imag
        else:
            found_real = found_real + (x_real, y_real)
            found_imag = found_imag + (x_imag, y_imag)
    return found_real, found_imag


@triton.jit
def sums_of(x_real, x_imag, w_real, w_imag, first: tl.constexpr, N: tl.constexpr, BACKWARDS: tl.constexpr):
    """sum w x and sum n w x, [M] each, complex: x, w as chunks_of has 4 N columns, n = first + column.

    BACKWARDS: n = first + 4 N - 1 - column.
    """
    plain_real = tl.zeros_like(x_real[0])
    plain_imag = tl.zeros_like(x_real[0])
    times_real = tl.zeros_like(x_real[0])
    times_imag = tl.zeros_like(x_real[0])
    lane = 2 * tl.arange(0, LANES)[None, :]
    for i in tl.static_range(N):
        # Column i // 2 * 8 + 2 lane + i % 2.
        n = i // 2 * (2 * LANES) + i % 2 + lane
        if BACKWARDS:
            n = (LANES * N - 1) - n
        n = (n + first).to(tl.float32)
        p_real, p_imag = mul(x_real[i], x_imag[i], w_real[i], w_imag[i])
        plain_real += p_real
        plain_imag += p_imag
        times_real += n * p_real
        times_imag += n * p_imag
    return tl.sum(plain_real, 1), tl.sum(plain_imag, 1), tl.sum(times_real, 1), tl.sum(times_imag, 1)


@triton.jit
def states_of(sr, si, ar, ai, hr, hi, N: tl.constexpr, BACKWARDS: tl.constexpr):
    """States before each of LANES N chunks, as chunks_of has them, and after the last: h <- a h + s, from h.

    sr, si: tuples of N tensors [M, LANES], what a chunk adds; ar, ai [M]: a^chunk; hr, hi [M]. A lane's N chunks lie in
    one thread, so a state costs two complex multiply-adds; only what a lane adds passes between threads.
    BACKWARDS: the last chunk is the first one, and states are those after each chunk.
    """
    a_real = ar[:, None]
    a_imag = ai[:, None]
    tr = sr[N - 1 if BACKWARDS else 0]
    ti = si[N - 1 if BACKWARDS else 0]
    pr = ar
    pi = ai
    for i in tl.static_range(1, N):
        kept_real, kept_imag = mul(a_real, a_imag, tr, ti)
        tr = kept_real + sr[N - 1 - i if BACKWARDS else i]
        ti = kept_imag + si[N - 1 - i if BACKWARDS else i]
        pr, pi = mul(pr, pi, ar, ai)
    lane = tl.arange(0, LANES)[None, :]
    er = tl.zeros_like(tr)
    ei = tl.zeros_like(ti)
    for i in tl.static_range(LANES):
        here = lane == (LANES - 1 - i if BACKWARDS else i)
        er += tl.where(here, hr[:, None], 0.0)
        ei += tl.where(here, hi[:, None], 0.0)
        kept_real, kept_imag = mul(pr, pi, hr, hi)
        hr = kept_real + tl.sum(tl.where(here, tr, 0.0), 1)
        hi = kept_imag + tl.sum(tl.where(here, ti, 0.0), 1)
    found_real = (er,)
    found_imag = (ei,)
    for i in tl.static_range(1, N):
        kept_real, kept_imag = mul(a_real, a_imag, er, ei)
        er = kept_real + sr[N - i if BACKWARDS else i - 1]
        ei = kept_imag + si[N - i if BACKWARDS else i - 1]
        if BACKWARDS:
            found_real = (er,) + found_real
            found_imag = (ei,) + found_imag
        else:
            found_real = found_real + (er,)
            found_imag = found_imag + (ei,)
    return found_real, found_imag, hr, hi


@triton.jit
def state_before(parts, chunk, R: tl.constexpr):
    """Of states as chunks_of has them, the one of a chunk, [M]; zeros where the tile has no such chunk."""
    N: tl.constexpr = R // LANES
    first = tl.arange(0, LANES)[None, :] * N
    found = tl.zeros_like(parts[0])
    for i in tl.static_range(N):
        found += tl.where(first + i == chunk, parts[i], 0.0)
    return tl.sum(found, 1)


@triton.jit
def first_chunk(T, n, bos, cu_seqlens, L: tl.constexpr):
    """The number of sequence n's first chunk: sequences start with a chunk of their own. 64 bits wide."""
    if cu_seqlens is None:
        return n * tl.cdiv(T, L)
    return bos // L + n


@triton.jit
def mode_row(table, row, channel, modes, D: tl.constexpr, M: tl.constexpr):
    """Two neighbouring rows of a table [12, D, M] for one channel, [BM] each; zeros for modes from M on."""
    pointers = table + (row * D + channel) * M + modes
    mask = inside(modes, M)
    return tl.load(pointers, mask=mask, other=0.0), tl.load(pointers + D * M, mask=mask, other=0.0)


@triton.jit
def state_at(channel, modes, M: tl.constexpr, V: tl.constexpr):
    """Offsets of the real parts of one channel's state in [HS, 2 M, V], [BM]; imaginary ones lie M V further."""
    return channel // V * (2 * M * V) + channel % V + modes * V


@triton.jit
def load_state(base, channel, modes, mask, M: tl.constexpr, V: tl.constexpr):
    """Real and imaginary parts of one channel's state in fp32."""
    pointers = base + state_at(channel, modes, M, V)
    real = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    return real, tl.load(pointers + M * V, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_state(base, real, imag, channel, modes, mask, M: tl.constexpr, V: tl.constexpr):
    """The inverse of load_state, in the pointer's dtype."""
    pointers = base + state_at(channel, modes, M, V)
    tl.store(pointers, real.to(base.dtype.element_ty), mask=mask)
    tl.store(pointers + M * V, imag.to(base.dtype.element_ty), mask=mask)


@triton.jit
def load_pair(base, channel, modes, mask, SIZE: tl.constexpr, M: tl.constexpr):
    """Real and imaginary parts of one channel's state in [2, SIZE] fp32, SIZE = channels x M."""
    pointers = base + channel * M + modes
    return tl.load(pointers, mask=mask, other=0.0), tl.load(pointers + SIZE, mask=mask, other=0.0)


@triton.jit
def store_pair(base, real, imag, channel, modes, mask, SIZE: tl.constexpr, M: tl.constexpr):
    """The inverse of load_pair."""
    pointers = base + channel * M + modes
    tl.store(pointers, real, mask=mask)
    tl.store(pointers + SIZE, imag, mask=mask)
