"""The backward kernels of S4D: sums over tokens for the transitions' gradients, and the parameters' from them.

The gradient of u is the forward scan run backwards (forward.py).
"""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, locate, only_if
from kernels.scan.s4d.device import (
    C_ROW,
    CHUNK_ROW,
    DECAY_ROW,
    existing,
    input_weight,
    load_state,
    mode_row,
    mul,
    parts_of,
    power,
    powers,
    row_of,
    states_of,
    transition,
)
from kernels.scan.s4d.forward import load_parameters, weights


@triton.jit
def correlate(products, L: tl.constexpr):
    """kappa_j = sum_i P[i, i - j] of P [L, L]: its diagonals, [L]."""
    i = tl.arange(0, L)[:, None]
    lag = tl.arange(0, L)[None, :]
    skewed = tl.gather(products, tl.maximum(i - lag, 0), 1)
    return tl.sum(tl.where(i >= lag, skewed, 0.0), 0)


@triton.jit
def leave_with_slope(
    h_real, h_imag, s_real, s_imag, x, table, dt, channel, modes, rest, CHANNELS: tl.constexpr, M: tl.constexpr
):
    """s after the `rest` < L tokens x [L] that fill no chunk, from h and s before them: `leave`, derived by log a."""
    log2a, turns = mode_row(table, DECAY_ROW, channel, modes, D=CHANNELS, M=M)
    left = rest - 1 - tl.arange(0, x.shape[0])
    n = tl.maximum(left, 0).to(tl.float32)[:, None]
    w_real, w_imag = power(log2a[None, :], turns[None, :], n)
    b_x = n * tl.where(left >= 0, x.to(tl.float32), 0.0)[:, None] * dt
    count = rest.to(tl.float32)
    p_real, p_imag = power(log2a, turns, count)
    real, imag = mul(p_real, p_imag, s_real + count * h_real, s_imag + count * h_imag)
    return real + tl.sum(w_real * b_x, 0), imag + tl.sum(w_imag * b_x, 0)


@triton.jit(do_not_specialize=["T"])
def s4d_sums_kernel(
    u,
    do,
    log_dt,
    table,
    start,
    states,
    d_end,
    d_states,
    sums,
    dD,
    cu_seqlens,
    T,
    segment_size,
    segments,
    HS: tl.constexpr,
    M: tl.constexpr,
    V: tl.constexpr,
    L: tl.constexpr,
    R: tl.constexpr,
    BM: tl.constexpr,
    MODE_BLOCKS: tl.constexpr,
    BD: tl.constexpr,
    BLOCKS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """Conjugate gradients of c and of log a (c held fixed), summed over a segment's tokens.

    g_c = sum_t do_t h_t,  g_log_a = sum_t do_t c s_t + E s_end,  s_t = dh_t / d log a
    E is what enters the segment from behind. In chunks, with the state h and its sensitivity s before each, and
        w = do W,  w' = do (i+1) W,  W = a^(i+1):   g_c = sum_r h w + sum_j a^j kappa_j
        g_log_a / c = sum_r (h w' + s w) + sum_j j a^j kappa_j + E s_end / c
    where kappa_j = sum do_i u_{i-j} over tokens of one chunk: the diagonals of do^T u [L, L].

    Grid:    sequences x segments x blocks of BD channels, one axis, blocks fastest.
    On chip: u and do [R, L, BD]; of one channel after the other, and each of MODE_BLOCKS blocks of its modes, h, s, w,
             w' [R, BM]; of all channels do^T u [L, L].
    Reads:   u, do [B, T, HS V]; parameters (28 M bytes per channel); start and states: the state that enters; d_end and
             d_states: what enters from behind, where given.
    Writes:  sums [sequences x segments, 4, HS V, M]: g_c, g_log_a, real and imaginary; dD [sequences x segments, HS V].
    Bytes per token and channel: 2 elements.
    """
    block, _head, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=BLOCKS, HS=1
    )
    if begin >= end:
        return
    CHANNELS: tl.constexpr = HS * V
    SIZE: tl.constexpr = 2 * HS * M * V
    channels = block * BD + tl.arange(0, BD)
    row = tl.arange(0, R)[:, None]
    column = tl.arange(0, L)
    count = end - begin
    full = count // L
    states_now = ()
    totals = ()
    products = ()
    ends = ()
    zeros = tl.zeros([BM], tl.float32)
    for i in tl.static_range(BD * MODE_BLOCKS):
        channel = existing(block * BD + i // MODE_BLOCKS, CHANNELS, BD)
        modes = i % MODE_BLOCKS * BM + tl.arange(0, BM)
        mask = modes < M
        real = tl.zeros([BM], tl.float32)
        imag = tl.zeros([BM], tl.float32)
        if states is not None:
            more = load_state(states + state_slot * SIZE, channel, modes, only_if(mask, segment > 0), M=M, V=V)
            real += more[0]
            imag += more[1]
        if start is not None:
            more = load_state(start + n * SIZE, channel, modes, only_if(mask, segment == 0), M=M, V=V)
            real += more[0]
            imag += more[1]
        dt = tl.exp2(tl.load(log_dt + channel) * LOG2E)
        states_now = states_now + (real * dt, imag * dt, zeros, zeros)
        totals = totals + (zeros, zeros, zeros, zeros)
        if i % MODE_BLOCKS == 0:
            products = products + (tl.zeros([L, L], tl.float32),)
        ends = ends + (zeros, zeros, zeros, zeros)
    for tile in range(tl.cdiv(count, L * R).to(tl.int32)):
        place = (tile * R + row) * L + column[None, :]
        valid = (place < count)[:, :, None]
        if CHANNELS % BD:
            valid = valid & (channels < CHANNELS)[None, None, :]
        offsets = (begin + place)[:, :, None] * CHANNELS + channels[None, None, :]
        us = parts_of(tl.load(u + offsets, mask=valid, other=0.0), R, L, BD)
        dos = parts_of(tl.load(do + offsets, mask=valid, other=0.0), R, L, BD)
        afters = ()
        added = ()
        summed = ()
        lasts = ()
        for i in tl.static_range(BD * MODE_BLOCKS):
            channel = existing(block * BD + i // MODE_BLOCKS, CHANNELS, BD)
            modes = i % MODE_BLOCKS * BM + tl.arange(0, BM)
            b_u = us[i // MODE_BLOCKS]
            b_do = dos[i // MODE_BLOCKS]
            dt = tl.exp2(tl.load(log_dt + channel) * LOG2E)
            a_real, a_imag = mode_row(table, CHUNK_ROW, channel, modes, D=CHANNELS, M=M)
            w_real, w_imag = weights(table, dt, channel, modes, CHANNELS=CHANNELS, M=M, L=L, REVERSE=False, INTO=True)
            lag = (L - 1 - column).to(tl.float32)[:, None]
            x_real = tl.dot(b_u, w_real.to(b_u.dtype), input_precision=PRECISION)
            x_imag = tl.dot(b_u, w_imag.to(b_u.dtype), input_precision=PRECISION)
            h_real, h_imag, after_real, after_imag = states_of(
                x_real, x_imag, a_real, a_imag, hr=states_now[4 * i], hi=states_now[4 * i + 1]
            )
            kept_real, kept_imag = mul(L * a_real[None, :], L * a_imag[None, :], h_real, h_imag)
            x_real = tl.dot(b_u, (lag * w_real).to(b_u.dtype), input_precision=PRECISION) + kept_real
            x_imag = tl.dot(b_u, (lag * w_imag).to(b_u.dtype), input_precision=PRECISION) + kept_imag
            s_real, s_imag, slope_real, slope_imag = states_of(
                x_real, x_imag, a_real, a_imag, hr=states_now[4 * i + 2], hi=states_now[4 * i + 3]
            )
            afters = afters + (after_real, after_imag, slope_real, slope_imag)
            if d_end is not None or d_states is not None:
                here = tile * R + row == full
                beyond = full == (tile + 1) * R
                lasts = lasts + (
                    ends[4 * i] + row_of(h_real, here) + tl.where(beyond, after_real, 0.0),
                    ends[4 * i + 1] + row_of(h_imag, here) + tl.where(beyond, after_imag, 0.0),
                    ends[4 * i + 2] + row_of(s_real, here) + tl.where(beyond, slope_real, 0.0),
                    ends[4 * i + 3] + row_of(s_imag, here) + tl.where(beyond, slope_imag, 0.0),
                )
            log2a, turns = mode_row(table, DECAY_ROW, channel, modes, D=CHANNELS, M=M)
            w_real, w_imag = powers(log2a, turns, zeros + 1.0, zeros, L=L, OFFSET=1, BACKWARDS=False)
            ahead = (column + 1).to(tl.float32)[:, None]
            x_real = tl.dot(b_do, w_real.to(b_do.dtype), input_precision=PRECISION)
            x_imag = tl.dot(b_do, w_imag.to(b_do.dtype), input_precision=PRECISION)
            c_real, c_imag = mul(h_real, h_imag, x_real, x_imag)
            a_real, a_imag = mul(s_real, s_imag, x_real, x_imag)
            x_real = tl.dot(b_do, (ahead * w_real).to(b_do.dtype), input_precision=PRECISION)
            x_imag = tl.dot(b_do, (ahead * w_imag).to(b_do.dtype), input_precision=PRECISION)
            more_real, more_imag = mul(h_real, h_imag, x_real, x_imag)
            added = added + (
                totals[4 * i] + tl.sum(c_real, 0),
                totals[4 * i + 1] + tl.sum(c_imag, 0),
                totals[4 * i + 2] + tl.sum(a_real + more_real, 0),
                totals[4 * i + 3] + tl.sum(a_imag + more_imag, 0),
            )
            if i % MODE_BLOCKS == 0:
                summed = summed + (tl.dot(tl.trans(b_do), b_u, products[i // MODE_BLOCKS], input_precision=PRECISION),)
        states_now = afters
        totals = added
        products = summed
        if d_end is not None or d_states is not None:
            ends = lasts
    rest = count - full * L
    index = n * segments + segment
    for i in tl.static_range(BD * MODE_BLOCKS):
        channel = existing(block * BD + i // MODE_BLOCKS, CHANNELS, BD)
        exists = block * BD + i // MODE_BLOCKS < CHANNELS
        modes = i % MODE_BLOCKS * BM + tl.arange(0, BM)
        mask = only_if(modes < M, exists)
        dt = tl.exp2(tl.load(log_dt + channel) * LOG2E)
        log2a, turns = mode_row(table, DECAY_ROW, channel, modes, D=CHANNELS, M=M)
        c_real, c_imag = mode_row(table, C_ROW, channel, modes, D=CHANNELS, M=M)
        kappa = correlate(products[i // MODE_BLOCKS], L)
        w_real, w_imag = powers(log2a, turns, zeros + 1.0, zeros, L=L, OFFSET=0, BACKWARDS=False)
        near = kappa[:, None]
        far = near * column.to(tl.float32)[:, None]
        g_real = totals[4 * i] / dt + tl.sum(w_real * near, 0)
        g_imag = totals[4 * i + 1] / dt + tl.sum(w_imag * near, 0)
        a_real = totals[4 * i + 2] / dt + tl.sum(w_real * far, 0)
        a_imag = totals[4 * i + 3] / dt + tl.sum(w_imag * far, 0)
        a_real, a_imag = mul(a_real, a_imag, c_real, c_imag)
        if d_end is not None or d_states is not None:
            e_real = tl.zeros([BM], tl.float32)
            e_imag = tl.zeros([BM], tl.float32)
            if d_end is not None:
                more = load_state(d_end + n * SIZE, channel, modes, only_if(mask, end == eos), M=M, V=V)
                e_real += more[0]
                e_imag += more[1]
            if d_states is not None:
                more = load_state(d_states + state_slot * SIZE, channel, modes, only_if(mask, end < eos), M=M, V=V)
                e_real += more[0]
                e_imag += more[1]
            token = begin + full * L + column
            b_u = tl.load(u + token * CHANNELS + channel, mask=column < rest, other=0.0)
            h_real, h_imag, s_real, s_imag = ends[4 * i], ends[4 * i + 1], ends[4 * i + 2], ends[4 * i + 3]
            s_real, s_imag = leave_with_slope(
                h_real, h_imag, s_real, s_imag, b_u, table, dt, channel, modes, rest, CHANNELS=CHANNELS, M=M
            )
            more_real, more_imag = mul(s_real / dt, s_imag / dt, e_real, -e_imag)
            a_real += more_real
            a_imag += more_imag
        to = sums + (index * 4 * CHANNELS + channel) * M + modes
        tl.store(to, g_real, mask=mask)
        tl.store(to + CHANNELS * M, g_imag, mask=mask)
        tl.store(to + 2 * CHANNELS * M, a_real, mask=mask)
        tl.store(to + 3 * CHANNELS * M, a_imag, mask=mask)
        if i % MODE_BLOCKS == 0:
            tl.store(dD + index * CHANNELS + channel, row_of(kappa, column == 0), mask=exists)


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
