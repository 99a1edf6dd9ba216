"""The gradients of decay gates, from what the sweeps leave: one small launch over [B, T, HS]."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, MIN_LOG2_DECAY


@triton.jit
def gate_block(
    parts,
    T,
    segment_size,
    blocks,
    cu_seqlens,
    HS: tl.constexpr,
    SLICES: tl.constexpr,
    BT: tl.constexpr,
    BH: tl.constexpr,
):
    """A program's (sequence, block, heads [BH], which exist, offsets in [B, T, HS] [BT, BH], which exist, carry [BH]).

    parts [B, T, HS, SLICES] fp32 are sums from a token to its segment's end, one a slice: the carry is what the later
    segments of the sequence sum to, which stands in their first tokens.
    """
    HEADS: tl.constexpr = (HS + BH - 1) // BH
    pid = tl.program_id(0)
    h = pid % HEADS * BH + tl.arange(0, BH)
    block = pid // HEADS % blocks
    n = (pid // HEADS // blocks).to(tl.int64)
    if cu_seqlens is None:
        bos = n * T
        eos = bos + T
    else:
        bos = tl.load(cu_seqlens + n).to(tl.int64)
        eos = tl.load(cu_seqlens + n + 1).to(tl.int64)
    inside = h < HS
    token = bos + block * BT + tl.arange(0, BT)
    keep = (token < eos)[:, None] & inside[None, :]
    offsets = token[:, None] * HS + h[None, :]
    carry = tl.zeros([BH], dtype=tl.float32)
    # A block lies in one segment: segments are multiples of it.
    segment_start = bos + (block * BT // segment_size + 1) * segment_size
    while segment_start < eos:
        for slice_k in tl.static_range(SLICES):
            carry += tl.load(parts + (segment_start * HS + h) * SLICES + slice_k, mask=inside, other=0.0)
        segment_start += segment_size
    return n, block, h, inside, offsets, keep, carry


@triton.jit(do_not_specialize=["T"])
def linear_bwd_gate_kernel(
    d_gate,
    d_weight,
    gate,
    rate,
    dx,
    d_rate,
    cu_seqlens,
    T,
    segment_size,
    blocks,
    HS: tl.constexpr,
    SLICES: tl.constexpr,
    BT: tl.constexpr,
    BH: tl.constexpr,
    DECAY: tl.constexpr,
):
    """A gate's gradient from the parts that the slices of dk left: dlog_decay_t = sum of the parts of tokens i >= t.

    A part is summed within its segment: what the later segments of the sequence sum to stands in their first tokens.
    With a step size dt, ddt = A dlog_decay + dweight, and dA = sum of dt dlog_decay.

    Grid:    sequences x blocks of BT tokens x blocks of BH heads, one axis, heads fastest.
    Reads:   gate [B, T, HS]; d_gate [B, T, HS, SLICES] fp32, those of later segments' first tokens again; d_weight, of
             the same shape, and rate [HS] where DECAY is "step".
    Writes:  dx [B, T, HS], the gate's gradient; d_rate [sequences x blocks, HS] fp32, a block's part of dA.
    Bytes per token and state head: 4 SLICES + 2 elements of a gate; "step": 8 SLICES + 2 elements.
    """
    n, block, h, inside, offsets, keep, carry = gate_block(
        d_gate, T, segment_size, blocks, cu_seqlens, HS=HS, SLICES=SLICES, BT=BT, BH=BH
    )
    b_decay = tl.zeros([BT, BH], dtype=tl.float32) + carry[None, :]
    b_weight = tl.zeros([BT, BH], dtype=tl.float32)
    for slice_k in tl.static_range(SLICES):
        b_decay += tl.load(d_gate + offsets * SLICES + slice_k, mask=keep, other=0.0)
        if DECAY == "step":
            b_weight += tl.load(d_weight + offsets * SLICES + slice_k, mask=keep, other=0.0)
    b_gate = tl.load(gate + offsets, mask=keep, other=0.0).to(tl.float32)
    b_rate = tl.full([BH], 1.0, tl.float32)
    if DECAY == "step":
        b_rate = tl.load(rate + h, mask=inside, other=0.0).to(tl.float32)
    # The lowest decay stands for 0, so its gradient is 0; what the differences leave of it is rounding.
    b_decay = tl.where(b_gate * b_rate[None, :] * LOG2E <= MIN_LOG2_DECAY, 0.0, b_decay)
    if DECAY == "step":
        tl.store(d_rate + (n * blocks + block) * HS + h, tl.sum(b_gate * b_decay, 0), mask=inside)
        b_decay = b_decay * b_rate[None, :] + b_weight
    tl.store(dx + offsets, b_decay.to(dx.dtype.element_ty), mask=keep)
