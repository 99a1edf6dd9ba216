"""The decode step of the gated scan in Triton: one token, the state updated in place, one launch."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from kernels.common.device import LOG2E
from kernels.scan.checks import check_in_place
from kernels.scan.gated_scan.chunk import check_inputs
from kernels.scan.gated_scan.forward import input_scales
from kernels.scan.gated_scan.spec import NONE, SQRT, gated_scan
from suite import Problem
from suite.errors import UsageError, unknown
from suite.problem import Value

BLOCK, WARPS = 512, 4


@triton.jit
def gated_scan_step_kernel(x, log_decay, o, state, size, BLOCK: tl.constexpr, SCALED: tl.constexpr):
    """h <- a h + s x, o = h, for `size` = B D channels.

    Grid:    blocks of channels.
    Reads and writes: state once each, in its dtype; x and log_decay are read, o is written.
    """
    offsets = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = offsets < size
    g = tl.load(log_decay + offsets, mask=mask, other=0.0).to(tl.float32)
    b_x = tl.load(x + offsets, mask=mask, other=0.0).to(tl.float32)
    h = tl.load(state + offsets, mask=mask, other=0.0).to(tl.float32)
    if SCALED:
        b_x *= input_scales((g,), 1)[0]
    h = tl.exp2(g * LOG2E) * h + b_x
    tl.store(state + offsets, h.to(state.dtype.element_ty), mask=mask)
    tl.store(o + offsets, h.to(o.dtype.element_ty), mask=mask)


def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """The step's tile."""
    return {"step": {"width": BLOCK, "warps": WARPS}}


@gated_scan.implementation(
    "triton_step", origin="ours", devices={"cuda", "interpret"}, passes={"decode"}, configuration=configuration
)
def step_gated_scan(x, log_decay, *, state, input_scaling: str = NONE):
    """x, log_decay [B,1,HS,V] -> o [B,1,HS,V]; state [B,HS,V], contiguous, is updated in place in one launch."""
    if input_scaling not in (NONE, SQRT):
        raise unknown("input scaling", input_scaling, (NONE, SQRT))
    check_inputs(x, log_decay)
    if x.shape[1] != 1:
        raise UsageError(f"x holds {x.shape[1]} tokens; a decode step takes 1")
    check_in_place("state", state, (x.shape[0], *x.shape[2:]), x)
    x, log_decay = x.contiguous(), log_decay.contiguous()
    o = torch.empty_like(x)
    gated_scan_step_kernel[(triton.cdiv(o.numel(), BLOCK),)](
        x, log_decay, o, state, size=o.numel(), BLOCK=BLOCK, SCALED=input_scaling == SQRT, num_warps=WARPS
    )
    return o
