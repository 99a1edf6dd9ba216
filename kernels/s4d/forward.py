"""The forward kernels of S4D: what a segment adds to a state, how it is carried on, and the outputs."""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.linear_state.device import locate
from kernels.common.masks import only_if
from kernels.common.scan.device import load_tile, store_tile


@triton.jit
def mode_pairs(base, channel, mask, pairs, M: tl.constexpr):
    """A parameter [HS, V, M] of a block, [BM, BD] fp32, zeros beyond it."""
    return tl.load(base + channel[None, :] * M + pairs[:, None], mask=mask, other=0.0)


@triton.jit
def state_at(channel, mask, pairs, M: tl.constexpr, V: tl.constexpr):
    """Offsets of the real parts of a state [HS, 2 M, V]: [BM, BD]; imaginary ones lie M V further."""
    return tl.where(mask, (channel // V * (2 * M * V) + channel % V)[None, :] + pairs[:, None] * V, 0)


@triton.jit(do_not_specialize=["T"])
def s4d_local_kernel(
    x, a_real, a_imag, c_real, c_imag, d_end, states, cu_seqlens, T, segment, segments,
    HS: tl.constexpr, M: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr,
    BLOCKS: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """What a segment adds to a state of zeros: h <- a h + u; REVERSE: e <- conj(a) (conj(c) do + e), x being do.

    In reverse a sequence's last segment starts from d_end, where given: it may be shorter than the others, so that what
    it keeps of a state is no power that they share.

    Grid:    sequences x segments x blocks of channels, one axis, blocks fastest. The last segment (REVERSE: the first)
             returns at once: it adds to nobody's start.
    On chip: the state and a (REVERSE: and c) [M, BD], complex fp32.
    Reads:   x [B, T, HS V]. Writes: states [slots, HS, 2 M, V] fp32.
    Bytes a token and channel: 1 element; a segment and channel: 8 M.
    """
    part, _, n, order, slot, low, high, end = locate(T, segment, segments, cu_seqlens, BLOCKS, 1)
    if low >= high:
        return
    if (order == 0) if REVERSE else (high == end):
        return
    channel = part * BD + tl.arange(0, BD)
    keep = channel < HS * V
    pairs = tl.arange(0, BM)
    mask = keep[None, :] & (pairs < M)[:, None]
    ar = mode_pairs(a_real, channel, mask, pairs, M)
    ai = mode_pairs(a_imag, channel, mask, pairs, M)
    if REVERSE:
        cr = mode_pairs(c_real, channel, mask, pairs, M)
        ci = mode_pairs(c_imag, channel, mask, pairs, M)
    real = tl.zeros([BM, BD], tl.float32)
    imag = tl.zeros([BM, BD], tl.float32)
    if d_end is not None and high == end:
        here = d_end + n * (2 * HS * M * V) + state_at(channel, mask, pairs, M, V)
        real += tl.load(here, mask=mask, other=0.0).to(tl.float32)
        imag += tl.load(here + M * V, mask=mask, other=0.0).to(tl.float32)
    steps = tl.cdiv(high - low, BT).to(tl.int32)
    for step in range(steps):
        first = low + (steps - 1 - step if REVERSE else step) * BT
        xs = load_tile(x, channel, keep, first, low, high, HS * V, BT)
        for i in tl.static_range(BT):
            if REVERSE:
                b_x = xs[BT - 1 - i].to(tl.float32)[None, :]
                gr = cr * b_x + real
                gi = imag - ci * b_x
                if d_end is not None:
                    # Tokens beyond the end come first and must not turn d_end.
                    valid = first + BT - 1 - i < high
                    real = tl.where(valid, ar * gr + ai * gi, gr)
                    imag = tl.where(valid, ar * gi - ai * gr, gi)
                else:
                    real = ar * gr + ai * gi
                    imag = ar * gi - ai * gr
            else:
                before = real
                real = ar * real - ai * imag + xs[i].to(tl.float32)[None, :]
                imag = ar * imag + ai * before
    at = states + slot * (2 * HS * M * V) + state_at(channel, mask, pairs, M, V)
    tl.store(at, real, mask=mask)
    tl.store(at + M * V, imag, mask=mask)


@triton.jit(do_not_specialize=["T"])
def s4d_carry_kernel(
    states, p_real, p_imag, start, cu_seqlens, T, segment, segments,
    SIZE: tl.constexpr, M: tl.constexpr, V: tl.constexpr, BLOCK: tl.constexpr, REVERSE: tl.constexpr,
):  # fmt: skip
    """In place: h_i = what segment i adds -> the state before it, S_{i+1} = p S_i + h_i with p = a^segment.

    REVERSE: the gradient that enters from behind, E_{i-1} = conj(p) E_i + h_i; p_imag comes negated.

    Grid:    sequences x blocks of the SIZE = HS M V pairs, one axis, blocks fastest.
    On chip: a block of the running state.
    Reads:   states [slots, HS, 2 M, V] fp32, p [HS, V, M], start [sequences, HS, 2 M, V] where given.
    Writes:  states. Bytes a segment and channel: 16 M.
    """
    BLOCKS: tl.constexpr = (SIZE + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    n = (pid // BLOCKS).to(tl.int64)
    if cu_seqlens is None:
        slot = n * segments
        count = segments
    else:
        begin = tl.load(cu_seqlens + n).to(tl.int64)
        slot = begin // segment + n
        count = tl.cdiv(tl.load(cu_seqlens + n + 1).to(tl.int64) - begin, segment).to(tl.int32)
    element = pid % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    keep = element < SIZE
    head = element // (M * V)
    own = (head * V + element % V) * M + element // V % M
    at = head * (2 * M * V) + element % (M * V)
    pr = tl.load(p_real + own, mask=keep, other=0.0)
    pi = tl.load(p_imag + own, mask=keep, other=0.0)
    real = tl.zeros([BLOCK], tl.float32)
    imag = tl.zeros([BLOCK], tl.float32)
    if start is not None:
        real += tl.load(start + n * (2 * SIZE) + at, mask=keep, other=0.0).to(tl.float32)
        imag += tl.load(start + n * (2 * SIZE) + at + M * V, mask=keep, other=0.0).to(tl.float32)
    for i in range(count):
        here = states + (slot + (count - 1 - i if REVERSE else i)) * (2 * SIZE) + at
        # The last segment in this direction adds to nobody's start: the local pass skipped it.
        valid = only_if(keep, i < count - 1)
        added_real = tl.load(here, mask=valid, other=0.0)
        added_imag = tl.load(here + M * V, mask=valid, other=0.0)
        tl.store(here, real, mask=keep)
        tl.store(here + M * V, imag, mask=keep)
        before = real
        real = pr * real - pi * imag + added_real
        imag = pr * imag + pi * before + added_imag


@triton.jit(do_not_specialize=["T"])
def s4d_fwd_kernel(
    u, a_real, a_imag, c_real, c_imag, D, o, start, states, end_state, cu_seqlens, T, segment, segments,
    HS: tl.constexpr, M: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr,
    BLOCKS: tl.constexpr,
):  # fmt: skip
    """h <- a h + u,  o = Re sum c h + D u.

    Grid:    sequences x segments x blocks of channels, one axis, blocks fastest.
    On chip: h, a and c [M, BD], complex fp32: no power of a is stored.
    Reads:   u [B, T, HS V], parameters; the start: states [slots, HS, 2 M, V] fp32 in segments, else start where given.
    Writes:  o; end_state [sequences, HS, 2 M, V] where wanted. Bytes a token and channel: 2 elements.
    """
    part, _, n, _, slot, low, high, end = locate(T, segment, segments, cu_seqlens, BLOCKS, 1)
    if low >= high:
        return
    channel = part * BD + tl.arange(0, BD)
    keep = channel < HS * V
    pairs = tl.arange(0, BM)
    mask = keep[None, :] & (pairs < M)[:, None]
    ar = mode_pairs(a_real, channel, mask, pairs, M)
    ai = mode_pairs(a_imag, channel, mask, pairs, M)
    cr = mode_pairs(c_real, channel, mask, pairs, M)
    ci = mode_pairs(c_imag, channel, mask, pairs, M)
    b_D = tl.load(D + channel, mask=keep, other=0.0).to(tl.float32)
    at = state_at(channel, mask, pairs, M, V)
    SIZE: tl.constexpr = 2 * HS * M * V
    real = tl.zeros([BM, BD], tl.float32)
    imag = tl.zeros([BM, BD], tl.float32)
    if states is not None:
        real += tl.load(states + slot * SIZE + at, mask=mask, other=0.0)
        imag += tl.load(states + slot * SIZE + at + M * V, mask=mask, other=0.0)
    elif start is not None:
        real += tl.load(start + n * SIZE + at, mask=mask, other=0.0).to(tl.float32)
        imag += tl.load(start + n * SIZE + at + M * V, mask=mask, other=0.0).to(tl.float32)
    end_real = real
    end_imag = imag
    for step in range(tl.cdiv(high - low, BT).to(tl.int32)):
        first = low + step * BT
        us = load_tile(u, channel, keep, first, low, high, HS * V, BT)
        os = ()
        for i in tl.static_range(BT):
            b_u = us[i].to(tl.float32)
            before = real
            real = ar * real - ai * imag + b_u[None, :]
            imag = ar * imag + ai * before
            if end_state is not None:
                # Tokens beyond the end turn the state further than the one that is wanted.
                end_real = tl.where(first + i == high - 1, real, end_real)
                end_imag = tl.where(first + i == high - 1, imag, end_imag)
            os = os + (tl.sum(cr * real - ci * imag, 0) + b_D * b_u,)
        store_tile(o, os, channel, keep, first, high, HS * V, BT)
    if end_state is not None and high == end:
        tl.store(end_state + n * SIZE + at, end_real.to(end_state.dtype.element_ty), mask=mask)
        tl.store(end_state + n * SIZE + at + M * V, end_imag.to(end_state.dtype.element_ty), mask=mask)
