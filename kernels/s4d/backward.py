"""The backward kernel of S4D."""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.linear_state.device import locate
from kernels.common.scan.device import load_tile, store_tile
from kernels.s4d.forward import mode_pairs, state_at


@triton.jit(do_not_specialize=["T"])
def s4d_bwd_kernel(
    u, a_real, a_imag, c_real, c_imag, D, do, du, d_parts, dD, start, states, d_end, d_states, d_start, cu_seqlens, T,
    segment, segments,
    HS: tl.constexpr, M: tl.constexpr, V: tl.constexpr, BT: tl.constexpr, BM: tl.constexpr, BD: tl.constexpr,
    BLOCKS: tl.constexpr,
):  # fmt: skip
    """du by a sweep from the last token to the first, the parameters' gradients by one from the first to the last.

    g_t = conj(c) do_t + e_{t+1},  e_t = conj(a) g_t,  du_t = Re sum g_t + D do_t
    h_t = a h_{t-1} + u_t,  s_t = dh_t / da = a s_{t-1} + h_{t-1}
    dc = sum_t do_t conj(h_t),  da = conj(c sum_t do_t s_t + conj(E) s_end),  as real and imaginary parts
    E is what enters the segment from behind. With s, which obeys a recurrence of its own, no state has to be kept or
    computed backwards: both sweeps hold theirs in registers.

    Grid:    sequences x segments x blocks of channels, one axis, blocks fastest.
    On chip: a, c, and g or h, s and the sums [M, BD], complex fp32.
    Reads:   u and do twice [B, T, HS V]; states and d_states [slots, HS, 2 M, V] fp32 in segments: what the segment
             starts from, and E; start and d_end [sequences, HS, 2 M, V] where given.
    Writes:  du; d_parts [sequences x segments, 4, HS, V, M]: da, dc, real and imaginary; dD; d_start where given.
    Bytes a token and channel: 3 elements, of which 2 are read twice.
    """
    part, _, n, order, slot, low, high, end = locate(T, segment, segments, cu_seqlens, BLOCKS, 1)
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
    enter_real = tl.zeros([BM, BD], tl.float32)
    enter_imag = tl.zeros([BM, BD], tl.float32)
    if d_states is not None and high < end:
        enter_real += tl.load(d_states + slot * SIZE + at, mask=mask, other=0.0)
        enter_imag += tl.load(d_states + slot * SIZE + at + M * V, mask=mask, other=0.0)
    if d_end is not None and high == end:
        enter_real += tl.load(d_end + n * SIZE + at, mask=mask, other=0.0).to(tl.float32)
        enter_imag += tl.load(d_end + n * SIZE + at + M * V, mask=mask, other=0.0).to(tl.float32)
    er = enter_real
    ei = enter_imag
    steps = tl.cdiv(high - low, BT).to(tl.int32)
    for step in range(steps):
        first = low + (steps - 1 - step) * BT
        dos = load_tile(do, channel, keep, first, low, high, HS * V, BT)
        dus = ()
        for i in tl.static_range(BT - 1, -1, -1):
            b_do = dos[i].to(tl.float32)
            gr = cr * b_do[None, :] + er
            gi = ei - ci * b_do[None, :]
            dus = (tl.sum(gr, 0) + b_D * b_do,) + dus
            if d_end is not None:
                # Tokens beyond the end come first and must not turn d_end.
                er = tl.where(first + i < high, ar * gr + ai * gi, gr)
                ei = tl.where(first + i < high, ar * gi - ai * gr, gi)
            else:
                er = ar * gr + ai * gi
                ei = ar * gi - ai * gr
        store_tile(du, dus, channel, keep, first, high, HS * V, BT)
    if d_start is not None and order == 0:
        tl.store(d_start + n * SIZE + at, er.to(d_start.dtype.element_ty), mask=mask)
        tl.store(d_start + n * SIZE + at + M * V, ei.to(d_start.dtype.element_ty), mask=mask)

    hr = tl.zeros([BM, BD], tl.float32)
    hi = tl.zeros([BM, BD], tl.float32)
    if states is not None:
        hr += tl.load(states + slot * SIZE + at, mask=mask, other=0.0)
        hi += tl.load(states + slot * SIZE + at + M * V, mask=mask, other=0.0)
    elif start is not None:
        hr += tl.load(start + n * SIZE + at, mask=mask, other=0.0).to(tl.float32)
        hi += tl.load(start + n * SIZE + at + M * V, mask=mask, other=0.0).to(tl.float32)
    sr = tl.zeros([BM, BD], tl.float32)
    si = tl.zeros([BM, BD], tl.float32)
    end_sr = tl.zeros([BM, BD], tl.float32)
    end_si = tl.zeros([BM, BD], tl.float32)
    sum_sr = tl.zeros([BM, BD], tl.float32)
    sum_si = tl.zeros([BM, BD], tl.float32)
    sum_hr = tl.zeros([BM, BD], tl.float32)
    sum_hi = tl.zeros([BM, BD], tl.float32)
    b_dD = tl.zeros([BD], tl.float32)
    for step in range(steps):
        first = low + step * BT
        us = load_tile(u, channel, keep, first, low, high, HS * V, BT)
        dos = load_tile(do, channel, keep, first, low, high, HS * V, BT)
        for i in tl.static_range(BT):
            b_u = us[i].to(tl.float32)
            b_do = dos[i].to(tl.float32)
            before = sr
            sr = ar * sr - ai * si + hr
            si = ar * si + ai * before + hi
            before = hr
            hr = ar * hr - ai * hi + b_u[None, :]
            hi = ar * hi + ai * before
            if d_end is not None:
                end_sr = tl.where(first + i == high - 1, sr, end_sr)
                end_si = tl.where(first + i == high - 1, si, end_si)
            sum_sr += b_do[None, :] * sr
            sum_si += b_do[None, :] * si
            sum_hr += b_do[None, :] * hr
            sum_hi += b_do[None, :] * hi
            b_dD += b_do * b_u
    if d_end is None:
        end_sr = sr
        end_si = si
    d_ar = cr * sum_sr - ci * sum_si + enter_real * end_sr + enter_imag * end_si
    d_ai = enter_imag * end_sr - enter_real * end_si - cr * sum_si - ci * sum_sr
    index = n * segments + order
    PART: tl.constexpr = HS * V * M
    to = d_parts + index * (4 * PART) + channel[None, :] * M + pairs[:, None]
    tl.store(to, d_ar, mask=mask)
    tl.store(to + PART, d_ai, mask=mask)
    tl.store(to + 2 * PART, sum_hr, mask=mask)
    tl.store(to + 3 * PART, -sum_hi, mask=mask)
    tl.store(dD + index * (HS * V) + channel, b_dD, mask=keep)
