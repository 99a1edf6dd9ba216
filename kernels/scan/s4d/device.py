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
# Rows of a table of transitions, [8, channels, modes]: log2 |a|, turns, c, a^chunk, a^segment.
DECAY_ROW, C_ROW = tl.constexpr(0), tl.constexpr(2)
CHUNK_ROW, SEGMENT_ROW = tl.constexpr(4), tl.constexpr(6)
# Powers of a chunk are products of so many by so many; chunks are scanned in groups of so many.
FINE, GROUP = tl.constexpr(8), tl.constexpr(8)


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
def powers(log2a, turns, real, imag, L: tl.constexpr, OFFSET: tl.constexpr, BACKWARDS: tl.constexpr):
    """(real + i imag) a^(OFFSET + row), [L, M]; BACKWARDS: of the last row first. L / FINE + FINE powers make all L."""
    M: tl.constexpr = log2a.shape[0]
    i = tl.arange(0, FINE)
    j = tl.arange(0, L // FINE)
    if BACKWARDS:
        i = -i + (FINE - 1)
        j = -j + (L // FINE - 1)
    fine_real, fine_imag = power(log2a[None, :], turns[None, :], (i + OFFSET).to(tl.float32)[:, None])
    far_real, far_imag = power(log2a[None, :], turns[None, :], (j * FINE).to(tl.float32)[:, None])
    far_real, far_imag = mul(far_real, far_imag, real[None, :], imag[None, :])
    found_real, found_imag = mul(
        far_real[:, None, :], far_imag[:, None, :], fine_real[None, :, :], fine_imag[None, :, :]
    )
    return tl.reshape(found_real, [L, M]), tl.reshape(found_imag, [L, M])


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
def joined(parts, A: tl.constexpr, B: tl.constexpr, N: tl.constexpr):
    """The inverse of parts_of."""
    if N == 1:
        return tl.reshape(parts[0], [A, B, 1])
    else:  # noqa: RET505 - as above
        even = ()
        odd = ()
        for i in tl.static_range(N // 2):
            even = even + (parts[2 * i],)
            odd = odd + (parts[2 * i + 1],)
        both = tl.join(joined(even, A, B, N // 2), joined(odd, A, B, N // 2))
        return tl.reshape(both, [A, B, N])


@triton.jit
def _follow(ar, ai, xr, xi, br, bi, yr, yi):
    """x, then y: h -> a h + x, then h -> b h + y."""
    turned_real, turned_imag = mul(ar, ai, br, bi)
    kept_real, kept_imag = mul(br, bi, xr, xi)
    return turned_real, turned_imag, kept_real + yr, kept_imag + yi


@triton.jit
def states_of(sr, si, ar, ai, hr, hi):
    """States before each of R chunks, [R, M], and after the last, [M]: h <- a h + s, from h.

    sr, si [R, M]: what a chunk adds; ar, ai [M]: a^chunk; hr, hi [M]. Groups of chunks lie in one thread, so that a
    state costs two complex multiply-adds; only the groups' states pass between threads.
    """
    R: tl.constexpr = sr.shape[0]
    M: tl.constexpr = sr.shape[1]
    G: tl.constexpr = R // GROUP
    added_real = parts_of(tl.permute(tl.reshape(sr, [G, GROUP, M]), [0, 2, 1]), G, M, GROUP)
    added_imag = parts_of(tl.permute(tl.reshape(si, [G, GROUP, M]), [0, 2, 1]), G, M, GROUP)
    a_real = ar[None, :]
    a_imag = ai[None, :]
    tr = added_real[0]
    ti = added_imag[0]
    pr = ar
    pi = ai
    for i in tl.static_range(1, GROUP):
        kept_real, kept_imag = mul(a_real, a_imag, tr, ti)
        tr = kept_real + added_real[i]
        ti = kept_imag + added_imag[i]
        pr, pi = mul(pr, pi, ar, ai)
    order = tl.arange(0, G)[:, None]
    kept_real, kept_imag = mul(pr, pi, hr, hi)
    tr += tl.where(order == 0, kept_real[None, :], 0.0)
    ti += tl.where(order == 0, kept_imag[None, :], 0.0)
    group_real = tl.broadcast_to(pr[None, :], [G, M])
    group_imag = tl.broadcast_to(pi[None, :], [G, M])
    _real, _imag, tr, ti = tl.associative_scan((group_real, group_imag, tr, ti), 0, _follow)
    before = tl.broadcast_to(tl.maximum(order - 1, 0), [G, M])
    er = tl.where(order == 0, hr[None, :], tl.gather(tr, before, 0))
    ei = tl.where(order == 0, hi[None, :], tl.gather(ti, before, 0))
    found_real = (er,)
    found_imag = (ei,)
    for i in tl.static_range(1, GROUP):
        kept_real, kept_imag = mul(a_real, a_imag, er, ei)
        er = kept_real + added_real[i - 1]
        ei = kept_imag + added_imag[i - 1]
        found_real = found_real + (er,)
        found_imag = found_imag + (ei,)
    er = tl.reshape(tl.permute(joined(found_real, G, M, GROUP), [0, 2, 1]), [R, M])
    ei = tl.reshape(tl.permute(joined(found_imag, G, M, GROUP), [0, 2, 1]), [R, M])
    return er, ei, row_of(tr, order == G - 1), row_of(ti, order == G - 1)


@triton.jit
def row_of(x, here):
    """The one row of x that is here, or zeros."""
    return tl.sum(tl.where(here, x, 0.0), 0)


@triton.jit
def existing(channel, D: tl.constexpr, BD: tl.constexpr):
    """A channel of a block of BD, the last one for those beyond it: what is loaded for these is not stored."""
    if D % BD:
        return tl.minimum(channel, D - 1)
    return channel


@triton.jit
def mode_row(table, row, channel, modes, D: tl.constexpr, M: tl.constexpr):
    """Two neighbouring rows of a table [8, D, M] for one channel, [BM] each; zeros for modes from M on."""
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
