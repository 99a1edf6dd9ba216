"""The decode step of the selective scan in Triton: one token, the state updated in place, one launch."""

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
from kernels.scan.selective_scan.chunk import Inputs, check_inputs
from kernels.scan.selective_scan.device import block_channels, load_rate, sigmoids, steps_of
from kernels.scan.selective_scan.spec import selective_scan
from suite import Problem
from suite.errors import UsageError
from suite.problem import Value

# Elements of a state's tile: 8 KiB in fp32, so that small layers still have programs for many SMs.
TILE, WARPS = 2048, 4


@triton.jit
def selective_scan_step_kernel(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    bias,
    o,
    state,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BN: tl.constexpr,
    BD: tl.constexpr,
    BLOCKS: tl.constexpr,
):
    """h <- exp(dt A) h + dt B u,  o = (C . h + D u) silu(z), for one token of each sequence.

    Grid:    sequences x groups x blocks of channels, one axis, blocks fastest.
    On chip: h [N, BD] fp32.
    Reads and writes: state [sequences, HS, N, V] once each, in its dtype; a token's inputs, A, D and the bias are read,
             o is written.
    """
    pid = tl.program_id(0)
    group = pid // BLOCKS % H
    n = (pid // (BLOCKS * H)).to(tl.int64)
    channel, keep = block_channels(pid % BLOCKS, group, HS // H * V, BD)
    modes = tl.arange(0, BN)
    mask = keep[None, :] & (modes < K)[:, None]
    offsets = n * (HS * K * V) + (channel // V * (K * V) + channel % V)[None, :] + modes[:, None] * V
    row = n * (HS * V) + channel
    h = tl.load(state + offsets, mask=mask, other=0.0).to(tl.float32)
    rate = load_rate(A, channel, mask, modes, K)
    b_u = tl.load(u + row, mask=keep, other=0.0).to(tl.float32)
    b_z = tl.load(z + row, mask=keep, other=0.0).to(tl.float32)
    b_bias = tl.load(bias + channel, mask=keep, other=0.0).to(tl.float32)
    b_D = tl.load(D + channel, mask=keep, other=0.0).to(tl.float32)
    dt = steps_of((tl.load(delta + row, mask=keep, other=0.0),), b_bias, 0, 1, 1)[0]
    b_B = tl.load(B + (n * H + group) * K + modes, mask=modes < K, other=0.0).to(tl.float32)
    b_C = tl.load(C + (n * H + group) * K + modes, mask=modes < K, other=0.0).to(tl.float32)
    h = tl.exp2(dt[None, :] * rate) * h + (dt * b_u)[None, :] * b_B[:, None]
    tl.store(state + offsets, h.to(state.dtype.element_ty), mask=mask)
    y = tl.sum(h * b_C[:, None], 0) + b_D * b_u
    tl.store(o + row, (y * b_z * sigmoids((b_z,), 0.0, 1)[0]).to(o.dtype.element_ty), mask=keep)


def _tile(K: int, channels: int) -> tuple[int, int]:
    """Modes and channels of a program's tile."""
    modes = max(16, next_power_of_2(K))
    return modes, min(TILE // modes, max(16, next_power_of_2(channels)))


def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """The step's tile."""
    modes, width = _tile(problem.K, problem.HS // problem.H * problem.V)
    return {"step": {"modes": modes, "width": width, "warps": WARPS}}


@selective_scan.implementation(
    "triton_step",
    origin="ours",
    devices={"cuda", "interpret"},
    passes={"decode"},
    supports=few_modes,
    configuration=configuration,
)
def step_selective_scan(u, delta, A, B, C, D, z, delta_bias, *, state):
    """One token of each input -> o [B,1,HS,V]; state [B,HS,N,V], contiguous, is updated in place in one launch."""
    x = Inputs(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, bias=delta_bias)
    check_inputs(x)
    if u.shape[1] != 1:
        raise UsageError(f"u holds {u.shape[1]} tokens; a decode step takes 1")
    HS, V, N = A.shape
    check_in_place("state", state, (u.shape[0], HS, N, V), u)
    groups = B.shape[2]
    x = x.contiguous()
    o = torch.empty_like(x.u)
    channels = HS // groups * V
    modes, width = _tile(N, channels)
    blocks = -(-channels // width)
    selective_scan_step_kernel[(u.shape[0] * groups * blocks,)](
        **x._asdict(), o=o, state=state, H=groups, HS=HS, K=N, V=V, BN=modes, BD=width, BLOCKS=blocks, num_warps=WARPS
    )
    return o
