"""The forward kernels of S4D: transitions from parameters, and the scan over chunks, which also runs backwards."""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false, reportOperatorIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, locate, only_if
from kernels.scan.device import inside
from kernels.scan.s4d.device import (
    C_ROW,
    CHUNK_ROW,
    DECAY_ROW,
    FAR_ROW,
    LANES,
    ONE_ROW,
    SEGMENT_ROW,
    chunk_of,
    chunks_of,
    first_chunk,
    load_pair,
    load_state,
    mode_row,
    mul,
    power,
    powers,
    stacked,
    state_before,
    states_of,
    store_pair,
    store_state,
    transition,
    unstacked,
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
    table,
    segment_size,
    SIZE: tl.constexpr,
    M: tl.constexpr,
    L: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The transitions of all modes.

    Grid:   blocks of the SIZE = CHANNELS M modes.
    Reads:  log_dt [CHANNELS], A [CHANNELS, M], C [CHANNELS, M, 2].
    Writes: table [12, CHANNELS, M] (see device.py), fp32. Bytes per mode: 64.
    """
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = inside(offsets, SIZE)
    a_real, a_imag, c_real, c_imag = load_parameters(A_real, A_imag, C, offsets, mask)
    step = tl.load(log_dt + offsets // M, mask=mask, other=0.0).to(tl.float32)
    _dt, log2a, turns, c_real, c_imag = transition(step, a_real, a_imag, c_real, c_imag)
    tl.store(table + offsets, log2a, mask=mask)
    tl.store(table + SIZE + offsets, turns, mask=mask)
    tl.store(table + C_ROW * SIZE + offsets, c_real, mask=mask)
    tl.store(table + (C_ROW + 1) * SIZE + offsets, c_imag, mask=mask)
    wide = turns.to(tl.float64)
    store_power(table + offsets, CHUNK_ROW, log2a, wide, L, mask, SIZE=SIZE)
    store_power(table + offsets, SEGMENT_ROW, log2a, wide, segment_size, mask, SIZE=SIZE)
    store_power(table + offsets, ONE_ROW, log2a, wide, 1, mask, SIZE=SIZE)
    store_power(table + offsets, FAR_ROW, log2a, wide, 2 * LANES, mask, SIZE=SIZE)


@triton.jit
def s4d_taps_kernel(table, D, taps, CHANNELS: tl.constexpr, M: tl.constexpr, L: tl.constexpr, BM: tl.constexpr):
    """The first L taps of a channel's convolution, k_j = Re sum_m c a^j, with D in the first one.

    Grid:   channels.
    Reads:  table [12, CHANNELS, M], D [CHANNELS].
    Writes: taps [CHANNELS, 2 L], L zeros before them, fp32. Bytes per channel: 24 M + 8 L.
    """
    channel = tl.program_id(0)
    modes = tl.arange(0, BM)
    a_real, a_imag = mode_row(table, ONE_ROW, channel, modes, D=CHANNELS, M=M)
    far_real, far_imag = mode_row(table, FAR_ROW, channel, modes, D=CHANNELS, M=M)
    c_real, c_imag = mode_row(table, C_ROW, channel, modes, D=CHANNELS, M=M)
    real, _imag = powers(a_real, a_imag, far_real, far_imag, c_real, c_imag, L=L, OFFSET=0, BACKWARDS=False)
    skip = tl.load(D + channel).to(tl.float32)
    lane = tl.arange(0, LANES)
    for i in tl.static_range(L // LANES):
        own = taps + channel * (2 * L) + i // 2 * (2 * LANES) + 2 * lane + i % 2
        x = tl.sum(real[i], 0)
        if i == 0:
            x += tl.where(lane == 0, skip, 0.0)
        tl.store(own, tl.zeros([LANES], tl.float32))
        tl.store(own + L, x)


@triton.jit
def weights(
    table,
    dt,
    channel,
    modes,
    D: tl.constexpr,
    M: tl.constexpr,
    L: tl.constexpr,
    REVERSE: tl.constexpr,
    INTO: tl.constexpr,
):
    """A chunk's weights of modes, tuples as chunks_of has them: INTO the state, dt a^(L-1-j), j the token, or out of
    it, c / dt a^(j+1).

    REVERSE: into the state's gradient, c a^(j+1), and out of it, a^(L-1-j). States are so of the size of inputs, or of
    outputs, whatever dt is.
    """
    a_real, a_imag = mode_row(table, ONE_ROW, channel, modes, D=D, M=M)
    far_real, far_imag = mode_row(table, FAR_ROW, channel, modes, D=D, M=M)
    if INTO == REVERSE:
        real, imag = mode_row(table, C_ROW, channel, modes, D=D, M=M)
    else:
        real = tl.full(a_real.shape, 1.0, tl.float32)
        imag = tl.zeros(a_real.shape, tl.float32)
    if not REVERSE:
        scale = dt if INTO else 1.0 / dt
        real *= scale
        imag *= scale
    if INTO == REVERSE:
        return powers(a_real, a_imag, far_real, far_imag, real, imag, L=L, OFFSET=1, BACKWARDS=False)
    return powers(a_real, a_imag, far_real, far_imag, real, imag, L=L, OFFSET=0, BACKWARDS=True)


@triton.jit
def laid_out(w, dtype: tl.constexpr, M: tl.constexpr, L: tl.constexpr):
    """w [2 M, L] in another dtype, as it is. Added to a product of zeros it lies in threads as it was made.

    Otherwise Triton would take the joins of its columns apart by a dozen changes of layout through shared memory.
    """
    left = tl.zeros([2 * M, 16], dtype)
    return tl.dot(left, tl.zeros([16, L], dtype), w).to(dtype)


@triton.jit
def negative(x, N: tl.constexpr):
    """Each of a tuple's N tensors with the other sign."""
    found = ()
    for i in tl.static_range(N):
        found = found + (-x[i],)
    return found


@triton.jit
def ages(log2a, turns, rest, L: tl.constexpr):
    """a^(rest - 1 - j) of the `rest` tokens of a chunk that is not full, [M, L]; zeros from there on."""
    left = rest - 1 - tl.arange(0, L)
    real, imag = power(log2a[:, None], turns[:, None], tl.maximum(left, 0).to(tl.float32)[None, :])
    keep = (left >= 0)[None, :]
    return tl.where(keep, real, 0.0), tl.where(keep, imag, 0.0)


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
    kept,
    cu_seqlens,
    T,
    segment_size,
    segments,
    width,
    HS: tl.constexpr,
    M: tl.constexpr,
    V: tl.constexpr,
    L: tl.constexpr,
    R: tl.constexpr,
    BM: tl.constexpr,
    MODE_BLOCKS: tl.constexpr,
    BLOCK: tl.constexpr,
    STAGES: tl.constexpr,
    REVERSE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """y = k * x + D x, chunk by chunk; REVERSE: the same from the last token to the first, which is du from do.

    In chunks of L tokens, x [R, L] for R of them:  S^T = W_in x^T,  h_{r+1} = a^L h_r + S_r,  y = x K + Re(h W_out),
    where K [L, L] is the Toeplitz matrix of the first L taps. Without y, only what a segment leaves behind (local
    pass). REVERSE: a state is the gradient of the one after a chunk. It enters the last chunk, which may not be full,
    as an addition to what this one adds and to its y.

    Grid:    sequences x segments x channels, one axis, channels fastest. Of the local pass the segment that nothing
             follows returns at once.
    On chip: K and of each of MODE_BLOCKS blocks of BM modes the weights [2 BM, L], made once; x and y [R, L], states
             [2 BM, R] of a tile.
    Reads:   x [HS V, width] (turn.py); parameters (36 M + 8 L bytes); the state that enters: start [sequences, HS, 2 M,
             V] for the first segment in this direction, enters [slots, 2, HS V, M] fp32 for the others.
    Writes:  y; leaves: of the local pass as enters, else [sequences, HS, 2 M, V] after the last segment, where wanted;
             kept: what enters each block of BLOCK tokens, as enters, where wanted.
    Bytes per token: 2 elements. Gradients of states are kept conjugate in `start` and `leaves`.
    """
    channel, _head, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=HS * V, HS=1
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
    SIZE: tl.constexpr = CHANNELS * M
    FLIP: tl.constexpr = -1.0 if REVERSE else 1.0
    N: tl.constexpr = R // LANES
    # Chunks of a block: a tile has a part of a block, or is wider than the only one.
    BLOCK_CHUNKS: tl.constexpr = BLOCK // L
    column = tl.arange(0, L)
    chunk_in_tile = chunk_of(tl.arange(0, R), R)
    count = (end - begin).to(tl.int32)
    chunks = tl.cdiv(count, L)
    rest = count - (chunks - 1) * L
    total = tl.cdiv(count, BLOCK) * BLOCK_CHUNKS
    bos = begin - segment.to(tl.int64) * segment_size
    first = first_chunk(T, n, bos, cu_seqlens, L) + segment.to(tl.int64) * (segment_size // L)
    at_channel = channel.to(tl.int64) * width + first * L
    if kept is not None:
        kept_slot = first_chunk(T, n, bos, cu_seqlens, BLOCK) + segment.to(tl.int64) * (segment_size // BLOCK)
    dt = tl.exp2(tl.load(log_dt + channel) * LOG2E)
    states = ()
    ends = ()
    into = ()
    out = ()
    lasts = ()
    for i in tl.static_range(MODE_BLOCKS):
        modes = i * BM + tl.arange(0, BM)
        mask = modes < M
        real = tl.zeros([BM], tl.float32)
        imag = tl.zeros([BM], tl.float32)
        ends = ends + (real, imag)
        if start is not None:
            more = load_state(start + n * (2 * SIZE), channel, modes, only_if(mask, begins), M=M, V=V)
            real += more[0]
            imag += FLIP * more[1]
        if not REVERSE:
            real *= dt
            imag *= dt
        if enters is not None:
            more = load_pair(
                enters + state_slot * (2 * SIZE), channel, modes, only_if(mask, begins == 0), SIZE=SIZE, M=M
            )
            real += more[0]
            imag += more[1]
        if REVERSE and kept is not None:
            store_pair(
                kept + (kept_slot + total // BLOCK_CHUNKS - 1) * (2 * SIZE),
                real,
                imag,
                channel,
                modes,
                mask,
                SIZE=SIZE,
                M=M,
            )
        if REVERSE:
            lasts = lasts + (real, imag)
            real = tl.zeros([BM], tl.float32)
            imag = tl.zeros([BM], tl.float32)
        states = states + (real, imag)
        w_real, w_imag = weights(table, dt, channel, modes, D=CHANNELS, M=M, L=L, REVERSE=REVERSE, INTO=True)
        into = into + (stacked(w_real, w_imag, x.dtype.element_ty, BM, L),)
        if y is not None:
            w_real, w_imag = weights(table, dt, channel, modes, D=CHANNELS, M=M, L=L, REVERSE=REVERSE, INTO=False)
            w = stacked(w_real, negative(w_imag, L // LANES), tl.float32, BM, L)
            out = out + (laid_out(w, x.dtype.element_ty, BM, L),)
    if y is not None:
        lag = column[:, None] - column[None, :] if REVERSE else column[None, :] - column[:, None]
        K = tl.load(taps + channel * (2 * L) + L + lag).to(x.dtype.element_ty)
    HAS_LAST: tl.constexpr = REVERSE and (start is not None or enters is not None)
    if HAS_LAST:
        joins = ()
        near = tl.zeros([L], tl.float32)
        for i in tl.static_range(MODE_BLOCKS):
            modes = i * BM + tl.arange(0, BM)
            log2a, turns = mode_row(table, DECAY_ROW, channel, modes, D=CHANNELS, M=M)
            p_real, p_imag = power(log2a, turns, rest.to(tl.float32))
            joins = joins + mul(p_real, p_imag, lasts[2 * i], lasts[2 * i + 1])
            w_real, w_imag = ages(log2a, turns, rest, L)
            near += tl.sum(w_real * lasts[2 * i][:, None] - w_imag * lasts[2 * i + 1][:, None], 0)
    # Where the pass ends inside of a tile, its state is picked out: forward the one before the last chunk, which may be
    # cut short, else the one behind the only block of a segment that is shorter than a tile.
    INSIDE: tl.constexpr = leaves is not None and ((y is not None and not REVERSE) or BLOCK_CHUNKS % R != 0)
    target = chunks - 1 if y is not None and not REVERSE else total
    for tile in tl.range(0, tl.cdiv(total, R), num_stages=STAGES):
        order = tile * R + chunk_in_tile
        chunk = total - 1 - order if REVERSE else order
        valid = ((chunk >= 0) & (chunk < chunks))[:, None]
        offsets = at_channel + (chunk[:, None] * L + column[None, :])
        b_x = tl.load(x + offsets, mask=valid, other=0.0)
        if y is not None:
            b_y = tl.dot(b_x, K, input_precision=PRECISION)
            if HAS_LAST:
                b_y += tl.where((chunk == chunks - 1)[:, None], near[None, :], 0.0)
        afters = ()
        found = ()
        for i in tl.static_range(MODE_BLOCKS):
            modes = i * BM + tl.arange(0, BM)
            if kept is not None and (tile * R) % BLOCK_CHUNKS == 0 and (tile > 0 or not REVERSE):
                block = tile * R // BLOCK_CHUNKS
                if REVERSE:
                    block = total // BLOCK_CHUNKS - 1 - block
                to = kept + (kept_slot + block) * (2 * SIZE)
                store_pair(to, states[2 * i], states[2 * i + 1], channel, modes, modes < M, SIZE=SIZE, M=M)
            a_real, a_imag = mode_row(table, CHUNK_ROW, channel, modes, D=CHANNELS, M=M)
            s = tl.dot(into[i], tl.trans(b_x), input_precision=PRECISION)
            s_real, s_imag = unstacked(s, BM, R)
            if HAS_LAST:
                here = (chunk == chunks - 1)[None, :]
                s_real += tl.where(here, joins[2 * i][:, None], 0.0)
                s_imag += tl.where(here, joins[2 * i + 1][:, None], 0.0)
            h_real, h_imag, after_real, after_imag = states_of(
                chunks_of(s_real, BM, R),
                chunks_of(s_imag, BM, R),
                a_real,
                a_imag,
                hr=states[2 * i],
                hi=states[2 * i + 1],
                N=N,
                BACKWARDS=False,
            )
            afters = afters + (after_real, after_imag)
            if INSIDE:
                found = found + (
                    ends[2 * i] + state_before(h_real, target - tile * R, R),
                    ends[2 * i + 1] + state_before(h_imag, target - tile * R, R),
                )
            if y is not None:
                h = stacked(h_real, h_imag, b_x.dtype, BM, R)
                b_y = tl.dot(tl.trans(h), out[i], b_y, input_precision=PRECISION)
        states = afters
        if INSIDE:
            ends = found
        if y is not None:
            tl.store(y + offsets, b_y.to(b_x.dtype), mask=valid)
    if leaves is not None:
        for i in tl.static_range(MODE_BLOCKS):
            modes = i * BM + tl.arange(0, BM)
            mask = modes < M
            real, imag = states[2 * i], states[2 * i + 1]
            if INSIDE:
                real, imag = ends[2 * i], ends[2 * i + 1]
            if y is None:
                store_pair(leaves + state_slot * (2 * SIZE), real, imag, channel, modes, mask, SIZE=SIZE, M=M)
            else:
                if not REVERSE:
                    log2a, turns = mode_row(table, DECAY_ROW, channel, modes, D=CHANNELS, M=M)
                    w_real, w_imag = ages(log2a, turns, rest, L)
                    tail = tl.load(x + at_channel + (chunks - 1) * L + column).to(tl.float32)[None, :]
                    p_real, p_imag = power(log2a, turns, rest.to(tl.float32))
                    real, imag = mul(p_real, p_imag, real / dt, imag / dt)
                    real += tl.sum(w_real * tail, 1)
                    imag += tl.sum(w_imag * tail, 1)
                store_state(
                    leaves + n * (2 * SIZE), real, FLIP * imag, channel, modes, only_if(mask, finishes), M=M, V=V
                )
