"""The backward kernels of S4D: sums over tokens for the transitions' gradients, and the parameters' from them.

The gradient of u is the forward scan run backwards (forward.py).
"""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, locate
from kernels.scan.s4d.device import (
    C_ROW,
    CHUNK_ROW,
    DECAY_ROW,
    FAR_ROW,
    LANES,
    ONE_ROW,
    chunk_of,
    chunks_of,
    first_chunk,
    input_weight,
    load_pair,
    mode_row,
    mul,
    power,
    powers,
    stacked,
    state_before,
    states_of,
    sums_of,
    transition,
    unstacked,
)
from kernels.scan.s4d.forward import ages, load_parameters, weights


@triton.jit
def correlate(products, first: tl.constexpr, L: tl.constexpr):
    """kappa_{first + j} = sum_i P[i, i - first - j] of P [L, L]: its diagonals, [L]."""
    i = tl.arange(0, L)[:, None]
    lag = tl.arange(0, L)[None, :] + first
    skewed = tl.gather(products, tl.maximum(i - lag, 0), 1)
    return tl.sum(tl.where(i >= lag, skewed, 0.0), 0)


@triton.jit(do_not_specialize=["T"])
def s4d_sums_kernel(
    u,
    do,
    log_dt,
    table,
    kept,
    d_kept,
    sums,
    dD,
    cu_seqlens,
    T,
    blocks,
    width,
    HS: tl.constexpr,
    M: tl.constexpr,
    V: tl.constexpr,
    L: tl.constexpr,
    R: tl.constexpr,
    BM: tl.constexpr,
    MODE_BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Conjugate gradients of c and of log a (c held fixed), summed over a block of tokens.

    g_c = sum_t do_t h_t,  g_log_a = sum_t e_t a h_{t-1},  e_t the gradient of h_t.  In chunks, with the state h before
    each and the gradient E of the one after it,
        P_i = sum_r do_{r,i} h_r,  Q_j = sum_r u_{r,j} E_r,  kappa_j = sum do_i u_{i-j} over tokens of one chunk:
        g_c = sum_i a^(i+1) P_i + sum_j a^j kappa_j
        g_log_a = c (sum_i (i+1) a^(i+1) P_i + sum_j j a^j kappa_j) + sum_j (L-1-j) a^(L-1-j) Q_j + L a^L sum_r E_r h_r
    What enters a last chunk from behind that is not full is an addition of its own.

    Grid:    sequences x blocks of tokens x channels x MODE_BLOCKS blocks of BM modes, one axis, modes fastest.
    On chip: u and do [R, L], h and E [2 BM, R], P and Q [2 BM, L], the products do^T u [L, L].
    Reads:   u, do [HS V, width] (turn.py); parameters (20 M bytes per channel); kept and d_kept: the h and E that enter
             each block, [blocks, 2, HS V, M] fp32.
    Writes:  sums [sequences x blocks, 4, HS V, M]: g_c, g_log_a, real and imaginary; dD [sequences x blocks, HS V].
    Bytes per token and channel: 2 elements, of each block of modes.
    """
    inner, _head, n, segment, state_slot, begin, end, _eos = locate(
        T, BLOCK, blocks, cu_seqlens, SLICES=HS * V * MODE_BLOCKS, HS=1
    )
    if begin >= end:
        return
    CHANNELS: tl.constexpr = HS * V
    SIZE: tl.constexpr = CHANNELS * M
    N: tl.constexpr = R // LANES
    channel = inner // MODE_BLOCKS
    modes = inner % MODE_BLOCKS * BM + tl.arange(0, BM)
    mask = modes < M
    column = tl.arange(0, L)
    chunk = chunk_of(tl.arange(0, R), R)
    count = (end - begin).to(tl.int32)
    chunks = tl.cdiv(count, L)
    rest = count - (chunks - 1) * L
    bos = begin - segment.to(tl.int64) * BLOCK
    first = first_chunk(T, n, bos, cu_seqlens, L) + segment.to(tl.int64) * (BLOCK // L)
    at_channel = channel.to(tl.int64) * width + first * L
    valid = (chunk < chunks)[:, None]
    offsets = at_channel + (chunk[:, None] * L + column[None, :])
    b_u = tl.load(u + offsets, mask=valid, other=0.0)
    b_do = tl.load(do + offsets, mask=valid, other=0.0)
    dt = tl.exp2(tl.load(log_dt + channel) * LOG2E)
    log2a, turns = mode_row(table, DECAY_ROW, channel, modes, D=CHANNELS, M=M)
    a_real, a_imag = mode_row(table, CHUNK_ROW, channel, modes, D=CHANNELS, M=M)
    start_real, start_imag = load_pair(kept + state_slot * (2 * SIZE), channel, modes, mask, SIZE=SIZE, M=M)
    end_real, end_imag = load_pair(d_kept + state_slot * (2 * SIZE), channel, modes, mask, SIZE=SIZE, M=M)

    w_real, w_imag = weights(table, dt, channel, modes, D=CHANNELS, M=M, L=L, REVERSE=False, INTO=True)
    s = tl.dot(stacked(w_real, w_imag, b_u.dtype, BM, L), tl.trans(b_u), input_precision=PRECISION)
    s_real, s_imag = unstacked(s, BM, R)
    h_real, h_imag, _real, _imag = states_of(
        chunks_of(s_real, BM, R),
        chunks_of(s_imag, BM, R),
        a_real,
        a_imag,
        hr=start_real,
        hi=start_imag,
        N=N,
        BACKWARDS=False,
    )

    w_real, w_imag = weights(table, dt, channel, modes, D=CHANNELS, M=M, L=L, REVERSE=True, INTO=True)
    s = tl.dot(stacked(w_real, w_imag, b_u.dtype, BM, L), tl.trans(b_do), input_precision=PRECISION)
    s_real, s_imag = unstacked(s, BM, R)
    x_real = tl.zeros([BM], tl.float32)
    x_imag = tl.zeros([BM], tl.float32)
    if count < R * L:
        past_real, past_imag = power(log2a, turns, rest.to(tl.float32))
        join_real, join_imag = mul(past_real, past_imag, end_real, end_imag)
        here = (chunk == chunks - 1)[None, :]
        s_real += tl.where(here, join_real[:, None], 0.0)
        s_imag += tl.where(here, join_imag[:, None], 0.0)
        # The last state's own gradient: rest a^rest h E + sum_j (rest-1-j) a^(rest-1-j) u_j E.
        last_real = state_before(h_real, chunks - 1, R)
        last_imag = state_before(h_imag, chunks - 1, R)
        x_real, x_imag = mul(join_real, join_imag, last_real, last_imag)
        x_real *= rest / dt
        x_imag *= rest / dt
        age_real, age_imag = ages(log2a, turns, rest, L)
        tail = tl.load(u + at_channel + (chunks - 1) * L + column).to(tl.float32) * (rest - 1 - column)
        more_real, more_imag = mul(
            tl.sum(age_real * tail[None, :], 1), tl.sum(age_imag * tail[None, :], 1), end_real, end_imag
        )
        x_real += more_real
        x_imag += more_imag
        end_real *= 0.0
        end_imag *= 0.0
    e_real, e_imag, _real, _imag = states_of(
        chunks_of(s_real, BM, R),
        chunks_of(s_imag, BM, R),
        a_real,
        a_imag,
        hr=end_real,
        hi=end_imag,
        N=N,
        BACKWARDS=True,
    )
    both_real = tl.zeros_like(e_real[0])
    both_imag = tl.zeros_like(e_real[0])
    for i in tl.static_range(N):
        both_real += e_real[i] * h_real[i] - e_imag[i] * h_imag[i]
        both_imag += e_real[i] * h_imag[i] + e_imag[i] * h_real[i]
    a_real, a_imag = mul(L / dt * a_real, L / dt * a_imag, tl.sum(both_real, 1), tl.sum(both_imag, 1))
    x_real += a_real
    x_imag += a_imag

    e = stacked(e_real, e_imag, b_u.dtype, BM, R)
    q = tl.dot(e, b_u, input_precision=PRECISION)
    q_real, q_imag = unstacked(q, BM, L)
    one_real, one_imag = mode_row(table, ONE_ROW, channel, modes, D=CHANNELS, M=M)
    far_real, far_imag = mode_row(table, FAR_ROW, channel, modes, D=CHANNELS, M=M)
    unit = tl.full([BM], 1.0, tl.float32)
    zero = tl.zeros([BM], tl.float32)
    w_real, w_imag = powers(one_real, one_imag, far_real, far_imag, unit, zero, L=L, OFFSET=0, BACKWARDS=True)
    _real, _imag, q_real, q_imag = sums_of(
        chunks_of(q_real, BM, L), chunks_of(q_imag, BM, L), w_real, w_imag, 0, L // LANES, BACKWARDS=True
    )
    x_real += q_real
    x_imag += q_imag

    products = tl.dot(tl.trans(b_do), b_u, input_precision=PRECISION)
    kappa = correlate(products, 1, L)[None, :]
    square = tl.arange(0, L)[:, None] == column[None, :]
    now = tl.sum(tl.sum(tl.where(square, products, 0.0), 1)[:, None], 0)
    h = stacked(h_real, h_imag, b_u.dtype, BM, R)
    p = tl.dot(h, b_do, input_precision=PRECISION)
    p_real, p_imag = unstacked(p, BM, L)
    w_real, w_imag = powers(one_real, one_imag, far_real, far_imag, unit, zero, L=L, OFFSET=1, BACKWARDS=False)
    g_real, g_imag, p_real, p_imag = sums_of(
        chunks_of(p_real / dt + kappa, BM, L),
        chunks_of(p_imag / dt, BM, L),
        w_real,
        w_imag,
        1,
        L // LANES,
        BACKWARDS=False,
    )
    c_real, c_imag = mode_row(table, C_ROW, channel, modes, D=CHANNELS, M=M)
    p_real, p_imag = mul(c_real, c_imag, p_real, p_imag)
    index = n * blocks + segment
    to = sums + (index * 4 * CHANNELS + channel) * M + modes
    tl.store(to, g_real + now, mask=mask)
    tl.store(to + SIZE, g_imag, mask=mask)
    tl.store(to + 2 * SIZE, x_real + p_real, mask=mask)
    tl.store(to + 3 * SIZE, x_imag + p_imag, mask=mask)
    if MODE_BLOCKS == 1:
        tl.store(dD + index * CHANNELS + channel + tl.zeros([1], tl.int32), now)
    else:
        own = inner % MODE_BLOCKS + tl.zeros([1], tl.int32) == 0
        tl.store(dD + index * CHANNELS + channel + tl.zeros([1], tl.int32), now, mask=own)


@triton.jit
def weight_slope(z_real, z_imag, a_real, a_imag):
    """w(z) = d ((e^z - 1) / z) / dz = (z a - a + 1) / z^2 with a = e^z; by its series where that would cancel."""
    size = z_real * z_real + z_imag * z_imag
    near = size < 0.25
    # The coefficients are 1 / (k! (k + 2)), k = 7 .. 0.
    real = z_real * 0.0 + 1.0 / 45360.0
    imag = z_real * 0.0
    real, imag = mul(real, imag, z_real, z_imag)
    real, imag = mul(real + 1.0 / 5760.0, imag, z_real, z_imag)
    real, imag = mul(real + 1.0 / 840.0, imag, z_real, z_imag)
    real, imag = mul(real + 1.0 / 144.0, imag, z_real, z_imag)
    real, imag = mul(real + 1.0 / 30.0, imag, z_real, z_imag)
    real, imag = mul(real + 1.0 / 8.0, imag, z_real, z_imag)
    real, imag = mul(real + 1.0 / 3.0, imag, z_real, z_imag)
    real += 0.5
    far_real, far_imag = mul(z_real - 1.0, z_imag, a_real, a_imag)
    square_real, square_imag = mul(z_real, z_imag, z_real, z_imag)
    far_real, far_imag = mul(far_real + 1.0, far_imag, square_real, -square_imag)
    norm = tl.where(near, 1.0, size * size)
    return tl.where(near, real, far_real / norm), tl.where(near, imag, far_imag / norm)


@triton.jit(do_not_specialize=["rows"])
def s4d_parameters_kernel(
    sums,
    parts_D,
    log_dt,
    A_real,
    A_imag,
    C,
    d_log_dt,
    dA_real,
    dA_imag,
    dC,
    dD,
    rows,
    CHANNELS: tl.constexpr,
    M: tl.constexpr,
    BM: tl.constexpr,
):
    """A channel's parameter gradients from the sums of all segments, by a = exp(dt A) and c = 2 C (a - 1) / A.

    With z = dt A, as conjugate gradients:  dC = g_c 2 (a - 1) / A,  dA = dt (g_log_a + g_c 2 C dt w(z)),
    dlog_dt = Re sum (g_log_a z + g_c 2 C dt a), w as in weight_slope.

    Grid:   channels.
    Reads:  sums [rows, 4, CHANNELS, M], parts_D [rows, CHANNELS], the parameters. Writes: their gradients.
    Bytes per channel: rows (16 M + 4) + 32 M + 8.
    """
    channel = tl.program_id(0)
    modes = tl.arange(0, BM)
    mask = modes < M
    offsets = channel * M + modes
    g_real = tl.zeros([BM], tl.float32)
    g_imag = tl.zeros([BM], tl.float32)
    x_real = tl.zeros([BM], tl.float32)
    x_imag = tl.zeros([BM], tl.float32)
    total = tl.zeros([], tl.float32)
    here = sums + offsets
    here_D = parts_D + channel
    for _ in range(rows):
        g_real += tl.load(here, mask=mask, other=0.0)
        g_imag += tl.load(here + CHANNELS * M, mask=mask, other=0.0)
        x_real += tl.load(here + 2 * CHANNELS * M, mask=mask, other=0.0)
        x_imag += tl.load(here + 3 * CHANNELS * M, mask=mask, other=0.0)
        total += tl.load(here_D)
        here += 4 * CHANNELS * M
        here_D += CHANNELS
    a_real, a_imag, C_real, C_imag = load_parameters(A_real, A_imag, C, offsets, mask)
    step = tl.load(log_dt + channel).to(tl.float32)
    dt, log2a, turns, _c_real, _c_imag = transition(step, a_real, a_imag, C_real, C_imag)
    b_real, b_imag = input_weight(dt.to(tl.float64) * a_real.to(tl.float64), turns, a_real, a_imag)
    to_C_real, to_C_imag = mul(2.0 * b_real, 2.0 * b_imag, g_real, g_imag)
    through_real, through_imag = mul(2.0 * dt * C_real, 2.0 * dt * C_imag, g_real, g_imag)
    turned_real, turned_imag = power(log2a, turns, 1.0)
    slope_real, slope_imag = weight_slope(dt * a_real, dt * a_imag, turned_real, turned_imag)
    slope_real, slope_imag = mul(slope_real, slope_imag, through_real, through_imag)
    tl.store(dA_real + offsets, dt * (x_real + slope_real), mask=mask)
    tl.store(dA_imag + offsets, -dt * (x_imag + slope_imag), mask=mask)
    tl.store(dC + 2 * offsets, to_C_real, mask=mask)
    tl.store(dC + 2 * offsets + 1, -to_C_imag, mask=mask)
    own_real, _own_imag = mul(dt * a_real, dt * a_imag, x_real, x_imag)
    more_real, _more_imag = mul(turned_real, turned_imag, through_real, through_imag)
    tl.store(d_log_dt + channel, tl.sum(tl.where(mask, own_real + more_real, 0.0), 0))
    tl.store(dD + channel, total)
