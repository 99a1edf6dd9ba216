"""The decode step of S4D in Triton: one token, the state updated in place, one launch."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import triton
import triton.language as tl

from kernels.common.shapes import next_power_of_2
from kernels.scan.checks import check_in_place
from kernels.scan.plan import few_modes
from kernels.scan.s4d.chunk import Parameters, check_inputs
from kernels.scan.s4d.device import mul, power, transition
from kernels.scan.s4d.forward import load_parameters
from kernels.scan.s4d.spec import s4d
from suite import Problem
from suite.errors import UsageError
from suite.problem import Value

# Complex elements of a tile.
TILE, WARPS = 1024, 4


@triton.jit
def s4d_step_kernel(
    u,
    log_dt,
    A_real,
    A_imag,
    C,
    D,
    o,
    state,
    HS: tl.constexpr,
    M: tl.constexpr,
    V: tl.constexpr,
    BM: tl.constexpr,
    BD: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """h <- a h + u,  o = Re sum c h + D u, for one token of each sequence.

    Grid:    sequences x blocks of channels, one axis, blocks fastest.
    On chip: h, and a and c from the parameters [M, BD], complex fp32.
    Reads and writes: state [sequences, HS, 2 M, V] once each, in its dtype. Reads u and parameters, writes o.
    """
    pid = tl.program_id(0)
    n = (pid // BLOCKS).to(tl.int64)
    channel = pid % BLOCKS * BD + tl.arange(0, BD)
    keep = channel < HS * V
    pairs = tl.arange(0, BM)
    mask = keep[None, :] & (pairs < M)[:, None]
    A_r, A_i, C_r, C_i = load_parameters(A_real, A_imag, C, channel[None, :] * M + pairs[:, None], mask)
    step = tl.load(log_dt + channel, mask=keep, other=0.0).to(tl.float32)
    _dt, log2a, turns, c_real, c_imag = transition(step[None, :], A_r, A_i, C_r, C_i)
    a_real, a_imag = power(log2a, turns, 1.0)
    b_D = tl.load(D + channel, mask=keep, other=0.0).to(tl.float32)
    b_u = tl.load(u + n * (HS * V) + channel, mask=keep, other=0.0).to(tl.float32)
    pointers = state + n * (2 * HS * M * V) + (channel // V * (2 * M * V) + channel % V)[None, :] + pairs[:, None] * V
    real = tl.load(pointers, mask=mask, other=0.0).to(tl.float32)
    imag = tl.load(pointers + M * V, mask=mask, other=0.0).to(tl.float32)
    # Several warps read the same of a tile that is smaller than they are: none may write before the last has read.
    tl.debug_barrier()
    real, imag = mul(a_real, a_imag, real, imag)
    real += b_u[None, :]
    tl.store(pointers, real.to(state.dtype.element_ty), mask=mask)
    tl.store(pointers + M * V, imag.to(state.dtype.element_ty), mask=mask)
    y = tl.sum(c_real * real - c_imag * imag, 0) + b_D * b_u
    tl.store(o + n * (HS * V) + channel, y.to(o.dtype.element_ty), mask=keep)


def _tile(pairs: int, channels: int) -> tuple[int, int]:
    """Pairs of modes and channels of a program's tile."""
    size = next_power_of_2(pairs)
    return size, max(1, min(TILE // size, next_power_of_2(channels)))


def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """The step's tile."""
    pairs, width = _tile(problem.K // 2, problem.HS * problem.V)
    return {"step": {"pairs": pairs, "width": width, "warps": WARPS}}


@s4d.implementation(
    "triton_step",
    origin="ours",
    devices={"cuda", "interpret"},
    passes={"decode"},
    supports=few_modes,
    configuration=configuration,
)
def step_s4d(u, log_dt, A_real, A_imag, C, D, *, state):
    """u [B,1,HS,V] -> o [B,1,HS,V]; state [B,HS,N,V], contiguous, is updated in place in one launch."""
    parameters = Parameters(log_dt, A_real, A_imag, C, D)
    check_inputs(u, parameters)
    if u.shape[1] != 1:
        raise UsageError(f"u holds {u.shape[1]} tokens; a decode step takes 1")
    HS, V, M = A_real.shape
    check_in_place("state", state, (u.shape[0], HS, 2 * M, V), u)
    parameters, u = parameters.contiguous(), u.contiguous()
    o = torch.empty_like(u)
    pairs, width = _tile(M, HS * V)
    blocks = -(-HS * V // width)
    s4d_step_kernel[(u.shape[0] * blocks,)](
        u=u,
        **parameters._asdict(),
        o=o,
        state=state,
        HS=HS,
        M=M,
        V=V,
        BM=pairs,
        BD=width,
        BLOCKS=blocks,
        num_warps=WARPS,
    )
    return o
