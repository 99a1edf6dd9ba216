"""The gates' gradients, from what the sweeps leave: one small launch over [B, T, HS]."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, MIN_LOG2_DECAY
from kernels.mlstm.device import known
from kernels.scalar_decay.gates import gate_block


@triton.jit
def _closed(x):
    """sigmoid(-x), the slope of log sigmoid(x), in fp32."""
    return 1.0 / (1.0 + tl.exp2(x.to(tl.float32) * LOG2E))


@triton.jit(do_not_specialize=["T"])
def mlstm_bwd_gates_kernel(
    d_forget,
    d_input,
    decay,
    weight,
    forget_gate,
    input_gate,
    dx_forget,
    dx_input,
    cu_seqlens,
    T,
    segment_size,
    blocks,
    HS: tl.constexpr,
    SLICES: tl.constexpr,
    BT: tl.constexpr,
    BH: tl.constexpr,
    EXP: tl.constexpr,
):
    """Gradients of both gates from the parts that the slices of dk left.

    A part of d_forget is summed within its segment: what later segments of the sequence sum to stands in their first
    tokens. The gradient of log f times sigmoid(-forget_gate) is that of the gate; log i is the gate itself, or, with
    the sigmoid gate, has such a slope too.

    Grid:    sequences x blocks of BT tokens x blocks of BH heads, one axis, heads fastest.
    Reads:   d_forget, d_input [B, T, HS, SLICES] fp32, those of later segments' first tokens again; forget_gate; with
             the exponential gate decay, with the sigmoid one input_gate, [B, T, HS].
    Writes:  dx_forget, dx_input [B, T, HS].
    Bytes per token and state head: 8 SLICES + 16.
    """
    _n, _block, _h, _inside, offsets, keep, carry = gate_block(
        d_forget, T, segment_size, blocks, cu_seqlens, HS=HS, SLICES=SLICES, BT=BT, BH=BH
    )
    b_forget = tl.zeros([BT, BH], dtype=tl.float32) + carry[None, :]
    b_input = tl.zeros([BT, BH], dtype=tl.float32)
    for slice_k in tl.static_range(SLICES):
        b_forget += tl.load(d_forget + offsets * SLICES + slice_k, mask=keep, other=0.0)
        b_input += tl.load(d_input + offsets * SLICES + slice_k, mask=keep, other=0.0)
    b_gate = tl.load(forget_gate + offsets, mask=keep, other=0.0)
    g, _w = known(weight, decay, offsets, keep, EXP)
    # The lowest decay stands for 0, so its gradient is 0; what the differences leave of it is rounding.
    b_forget = tl.where(g <= MIN_LOG2_DECAY, 0.0, b_forget * _closed(b_gate))
    if not EXP:
        b_input *= _closed(tl.load(input_gate + offsets, mask=keep, other=0.0))
    tl.store(dx_forget + offsets, b_forget.to(dx_forget.dtype.element_ty), mask=keep)
    tl.store(dx_input + offsets, b_input.to(dx_input.dtype.element_ty), mask=keep)
