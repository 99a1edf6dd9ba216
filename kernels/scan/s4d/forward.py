"""The forward kernels of S4D: transitions from parameters, and the scan over chunks, which also runs backwards."""

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
    SEGMENT_ROW,
    existing,
    joined,
    load_state,
    mode_row,
    mul,
    parts_of,
    power,
    powers,
    row_of,
    states_of,
    store_state,
    transition,
)


@triton.jit
def load_parameters(A_real, A_imag, C, offsets, mask):
    """A and C of modes at offsets `at`; beyond the mask a mode that decays and is not read."""
    a_real = tl.load(A_real + offsets, mask=mask, other=-1.0).to(tl.float32)
    a_imag = tl.load(A_imag + offsets, mask=mask, other=0.0).to(tl.float32)
    c_real = tl.load(C + 2 * offsets, mask=mask, other=0.0).to(tl.float32)
    return a_real, a_imag, c_real, tl.load(C + 2 * offsets + 1, mask=mask, other=0.0).to(tl.float32)


@triton.jit
def store_power(table, row: tl.constexpr, log2a, angle, n, mask, SIZE: tl.constexpr):
    """a^n into two rows of the table; angle in turns a token, fp64."""
    turned = angle * n
    real, imag = power(log2a * n, (turned - tl.floor(turned + 0.5)).to(tl.float32), 1.0)
    tl.store(table + row * SIZE, real, mask=mask)
    tl.store(table + (row + 1) * SIZE, imag, mask=mask)


@triton.jit(do_not_specialize=["segment_size"])
def s4d_prepare_kernel(
    log_dt,
    A_real,
    A_imag,
    C,
    D,
    table,
    taps,
    segment_size,
    CHANNELS: tl.constexpr,
    M: tl.constexpr,
    L: tl.constexpr,
    BM: tl.constexpr,
):
    """A channel's transitions and the first L taps of its convolution, k_j = Re sum_m c a^j, with D in the first one.

    Grid:   channels.
    Reads:  log_dt, D [CHANNELS], A [CHANNELS, M], C [CHANNELS, M, 2].
    Writes: table [8, CHANNELS, M] (see device.py) and taps [CHANNELS, L], fp32. Bytes per channel: 48 M + 4 L.
    """
    channel = tl.program_id(0)
    modes = tl.arange(0, BM)
    mask = modes < M
    offsets = channel * M + modes
    a_real, a_imag, c_real, c_imag = load_parameters(A_real, A_imag, C, offsets, mask)
    step = tl.load(log_dt + channel).to(tl.float32)
    _dt, log2a, turns, c_real, c_imag = transition(step, a_real, a_imag, c_real, c_imag)
    SIZE: tl.constexpr = CHANNELS * M
    tl.store(table + offsets, log2a, mask=mask)
    tl.store(table + SIZE + offsets, turns, mask=mask)
    tl.store(table + 2 * SIZE + offsets, c_real, mask=mask)
    tl.store(table + 3 * SIZE + offsets, c_imag, mask=mask)
    wide = turns.to(tl.float64)
    store_power(table + offsets, CHUNK_ROW, log2a, wide, L, mask, SIZE=SIZE)
    store_power(table + offsets, SEGMENT_ROW, log2a, wide, segment_size, mask, SIZE=SIZE)
    real, _imag = powers(log2a, turns, c_real, c_imag, L=L, OFFSET=0, BACKWARDS=False)
    lag = tl.arange(0, L)
    skip = tl.where(lag == 0, tl.load(D + channel).to(tl.float32), 0.0)
    tl.store(taps + channel * L + lag, tl.sum(real, 1) + skip)


@triton.jit
def weights(
    table,
    dt,
    channel,
    modes,
    CHANNELS: tl.constexpr,
    M: tl.constexpr,
    L: tl.constexpr,
    REVERSE: tl.constexpr,
    INTO: tl.constexpr,
):
    """A chunk's weights [L, BM]: INTO the state, dt a^(L-1-j), or out of it, c / dt a^(i+1).

    REVERSE: into the state's gradient, c a^(L-j), and out of it, a^i, positions counted from the last token. States are
    so of the size of inputs, or of outputs, whatever dt is.
    """
    log2a, turns = mode_row(table, DECAY_ROW, channel, modes, D=CHANNELS, M=M)
    c_real, c_imag = mode_row(table, C_ROW, channel, modes, D=CHANNELS, M=M)
    one = tl.full(modes.shape, 1.0, tl.float32)
    if INTO:
        if REVERSE:
            return powers(log2a, turns, c_real, c_imag, L=L, OFFSET=1, BACKWARDS=True)
        return powers(log2a, turns, one * dt, one * 0.0, L=L, OFFSET=0, BACKWARDS=True)
    if REVERSE:
        return powers(log2a, turns, one, one * 0.0, L=L, OFFSET=0, BACKWARDS=False)
    return powers(log2a, turns, c_real / dt, c_imag / dt, L=L, OFFSET=1, BACKWARDS=False)


@triton.jit
def leave(
    real, imag, x, table, dt, channel, modes, rest, CHANNELS: tl.constexpr, M: tl.constexpr, REVERSE: tl.constexpr
):
    """The state after the `rest` < L tokens x [L] that fill no chunk, from the one before them."""
    log2a, turns = mode_row(table, DECAY_ROW, channel, modes, D=CHANNELS, M=M)
    left = rest - 1 - tl.arange(0, x.shape[0])
    n = tl.maximum(left, 0).to(tl.float32)[:, None] + (1.0 if REVERSE else 0.0)
    w_real, w_imag = power(log2a[None, :], turns[None, :], n)
    b_x = tl.where(left >= 0, x.to(tl.float32), 0.0)[:, None]
    add_real = tl.sum(w_real * b_x, 0)
    add_imag = tl.sum(w_imag * b_x, 0)
    if REVERSE:
        c_real, c_imag = mode_row(table, C_ROW, channel, modes, D=CHANNELS, M=M)
        add_real, add_imag = mul(add_real, add_imag, c_real, c_imag)
    else:
        add_real *= dt
        add_imag *= dt
    p_real, p_imag = power(log2a, turns, rest.to(tl.float32))
    real, imag = mul(p_real, p_imag, real, imag)
    return real + add_real, imag + add_imag


@triton.jit(do_not_specialize=["T"])
def s4d_scan_kernel(
    x,
    y,
    log_dt,
    table,
    taps,
    start,
    enters,
    leaves,
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
    REVERSE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y = k * x + D x, chunk by chunk; REVERSE: the same from the last token to the first, which is du from do.

    In chunks of L tokens, x [R, L] for R of them:  S = x W_in,  h_{r+1} = a^L h_r + S_r,  y = x K + Re(h W_out), where
    K [L, L] is the Toeplitz matrix of the first L taps. Without y, only what a segment leaves behind (local pass).

    Grid:    sequences x segments x blocks of BD channels, one axis, blocks fastest. Of the local pass the segment that
             nothing follows returns at once.
    On chip: x and y [R, L, BD]; of one channel after the other K, and of each of MODE_BLOCKS blocks of its modes
             weights [L, BM] and states [R, BM].
    Reads:   x [B, T, HS V]; parameters (36 M + 4 L bytes per channel); the state that enters: start [sequences, HS,
             2 M, V] for the first segment in this direction, enters [slots, HS, 2 M, V] fp32 for the others.
    Writes:  y; leaves: of the local pass [slots, …] fp32, else [sequences, …] after the last segment, where wanted.
    Bytes per token and channel: 2 elements. Gradients of states are kept conjugate.
    """
    block, _head, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=BLOCKS, HS=1
    )
    if begin >= end:
        return
    if REVERSE:
        begins = end == eos
        finishes = segment == 0
    else:
        begins = segment == 0
        finishes = end == eos
    if y is None and finishes:
        return
    CHANNELS: tl.constexpr = HS * V
    SIZE: tl.constexpr = 2 * HS * M * V
    FLIP: tl.constexpr = -1.0 if REVERSE else 1.0
    channels = block * BD + tl.arange(0, BD)
    row = tl.arange(0, R)[:, None]
    column = tl.arange(0, L)
    count = end - begin
    full = count // L
    states = ()
    ends = ()
    for i in tl.static_range(BD * MODE_BLOCKS):
        channel = existing(block * BD + i // MODE_BLOCKS, CHANNELS, BD)
        modes = i % MODE_BLOCKS * BM + tl.arange(0, BM)
        mask = modes < M
        real = tl.zeros([BM], tl.float32)
        imag = tl.zeros([BM], tl.float32)
        ends = ends + (real, imag)
        if start is not None:
            more = load_state(start + n * SIZE, channel, modes, only_if(mask, begins), M=M, V=V)
            real += more[0]
            imag += more[1]
        if enters is not None:
            more = load_state(enters + state_slot * SIZE, channel, modes, only_if(mask, begins == 0), M=M, V=V)
            real += more[0]
            imag += more[1]
        scale = 1.0 if REVERSE else tl.exp2(tl.load(log_dt + channel) * LOG2E)
        states = states + (real * scale, FLIP * imag * scale)
    for tile in range(tl.cdiv(count, L * R).to(tl.int32)):
        place = (tile * R + row) * L + column[None, :]
        token = (end - 1 - place) if REVERSE else (begin + place)
        valid = (place < count)[:, :, None]
        if CHANNELS % BD:
            valid = valid & (channels < CHANNELS)[None, None, :]
        offsets = token[:, :, None] * CHANNELS + channels[None, None, :]
        xs = parts_of(tl.load(x + offsets, mask=valid, other=0.0), R, L, BD)
        ys = ()
        afters = ()
        lasts = ()
        for i in tl.static_range(BD * MODE_BLOCKS):
            channel = existing(block * BD + i // MODE_BLOCKS, CHANNELS, BD)
            modes = i % MODE_BLOCKS * BM + tl.arange(0, BM)
            b_x = xs[i // MODE_BLOCKS]
            dt = tl.exp2(tl.load(log_dt + channel) * LOG2E)
            a_real, a_imag = mode_row(table, CHUNK_ROW, channel, modes, D=CHANNELS, M=M)
            w_real, w_imag = weights(table, dt, channel, modes, CHANNELS=CHANNELS, M=M, L=L, REVERSE=REVERSE, INTO=True)
            s_real = tl.dot(b_x, w_real.to(b_x.dtype), input_precision=PRECISION)
            s_imag = tl.dot(b_x, w_imag.to(b_x.dtype), input_precision=PRECISION)
            h_real, h_imag, after_real, after_imag = states_of(
                s_real, s_imag, a_real, a_imag, hr=states[2 * i], hi=states[2 * i + 1]
            )
            afters = afters + (after_real, after_imag)
            if leaves is not None:
                here = tile * R + row == full
                beyond = full == (tile + 1) * R
                lasts = lasts + (
                    ends[2 * i] + row_of(h_real, here) + tl.where(beyond, after_real, 0.0),
                    ends[2 * i + 1] + row_of(h_imag, here) + tl.where(beyond, after_imag, 0.0),
                )
            if y is not None:
                if i % MODE_BLOCKS == 0:
                    lag = column[None, :] - column[:, None]
                    K = tl.load(taps + channel * L + tl.maximum(lag, 0), mask=lag >= 0, other=0.0)
                    b_y = tl.dot(b_x, K.to(b_x.dtype), input_precision=PRECISION)
                w_real, w_imag = weights(
                    table, dt, channel, modes, CHANNELS=CHANNELS, M=M, L=L, REVERSE=REVERSE, INTO=False
                )
                h_imag = -h_imag
                b_y = tl.dot(h_real.to(b_x.dtype), tl.trans(w_real.to(b_x.dtype)), b_y, input_precision=PRECISION)
                b_y = tl.dot(h_imag.to(b_x.dtype), tl.trans(w_imag.to(b_x.dtype)), b_y, input_precision=PRECISION)
                if i % MODE_BLOCKS == MODE_BLOCKS - 1:
                    ys = ys + (b_y.to(b_x.dtype),)
        states = afters
        if leaves is not None:
            ends = lasts
        if y is not None:
            tl.store(y + offsets, joined(ys, R, L, BD), mask=valid)
    if leaves is not None:
        rest = count - full * L
        token = (end - 1 - full * L - column) if REVERSE else (begin + full * L + column)
        for i in tl.static_range(BD * MODE_BLOCKS):
            channel = existing(block * BD + i // MODE_BLOCKS, CHANNELS, BD)
            exists = block * BD + i // MODE_BLOCKS < CHANNELS
            modes = i % MODE_BLOCKS * BM + tl.arange(0, BM)
            b_x = tl.load(x + token * CHANNELS + channel, mask=column < rest, other=0.0)
            dt = tl.exp2(tl.load(log_dt + channel) * LOG2E)
            real, imag = ends[2 * i], ends[2 * i + 1]
            real, imag = leave(
                real, imag, b_x, table, dt, channel, modes, rest, CHANNELS=CHANNELS, M=M, REVERSE=REVERSE
            )
            scale = 1.0 if REVERSE else 1.0 / dt
            mask = only_if(modes < M, exists)
            to = leaves + state_slot * SIZE
            if y is not None:
                to = leaves + n * SIZE
                mask = only_if(mask, finishes)
            store_state(to, real * scale, FLIP * imag * scale, channel, modes, mask, M=M, V=V)
