"""S4D in Triton, as a recurrence: one pass on chip, or three passes over segments (local, carry, apply)."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from torch.autograd.function import once_differentiable

from kernels.common.scan.packing import check_shape, span_of_call
from kernels.common.scan.plan import power_of_2
from kernels.s4d.backward import s4d_bwd_kernel
from kernels.s4d.forward import s4d_carry_kernel, s4d_fwd_kernel, s4d_local_kernel
from kernels.s4d.plan import MAX_MODES, Plan, Shape, of_problem, plan
from kernels.s4d.plan import search as search_launches
from kernels.s4d.spec import PAIR_FLOPS, cost, discretised, s4d
from suite import Problem
from suite.errors import UsageError
from suite.problem import Value

CARRY_BLOCK = 64
# Executed a pair and token: the forward again with its sensitivities (8) and sums (8), and the gradient's sweep (15).
BACKWARD_FLOPS = 7 + 8 + 8 + 15


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why a problem can not be served, or None."""
    if problem.K > MAX_MODES:
        return f"triton_chunk takes at most {MAX_MODES} modes (K)"
    return None


def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """Regime, tile and warps of each kernel of the problem's pass, on `suite.target()`."""
    return plan(of_problem(problem)).describe(problem.pass_)


def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Sequence[Mapping[str, int]]]:
    """Launches worth trying for each kernel of the problem's pass."""
    return search_launches(of_problem(problem), problem.pass_)


def flops_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """Executed FLOPs: in segments the states, or their gradients, are computed twice."""
    p = problem
    forward = cost(p.replace(pass_="fwd"), tunables).flops_alg
    n = float(p.tokens * p.HS * p.V * (p.K // 2))
    again = plan(of_problem(p)).cut.segmented
    flops = {"fwd": forward + 7 * n * again, "bwd": n * (BACKWARD_FLOPS + (PAIR_FLOPS["fwd"] + 1) * again)}
    return sum(flops.values()) if p.pass_ == "fwdbwd" else flops[p.pass_]


@s4d.implementation(
    "triton_chunk",
    origin="ours",
    devices={"cuda", "interpret"},
    supports=supports,
    flops_exec=flops_exec,
    configuration=configuration,
    search=search,
)
def chunk_s4d(u, log_dt, A_real, A_imag, C, D, *, initial_state=None, output_final_state: bool = False,
              cu_seqlens=None, cu_seqlens_cpu=None):  # fmt: skip
    """Shapes as in spec.py -> (o [B,T,HS,V], final state [sequences,HS,N,V] or None).

    The final state has the initial one's dtype, else fp32; cu_seqlens_cpu is cu_seqlens on the CPU. Differentiable in
    every input and the initial state. Raises UsageError on bad input.
    """
    span = span_of_call(u, cu_seqlens, cu_seqlens_cpu)
    check_parameters(u, log_dt, A_real, A_imag, C, D)
    HS, V, M = A_real.shape
    check_shape("initial_state", initial_state, (span.sequences, HS, 2 * M, V))
    # Transitions are as few as the parameters: discretised in PyTorch in float64, differentiated by autograd.
    size, phase, c_real, c_imag = discretised(log_dt, A_real, A_imag, C)
    a_real, a_imag = size.exp() * phase.cos(), size.exp() * phase.sin()
    constants = [x.float() for x in (a_real, a_imag, c_real, c_imag)]
    dtype = str(u.dtype).removeprefix("torch.")
    shape = Shape(span, HS * V, M, dtype)
    chosen = plan(shape)
    power = None
    if chosen.cut.segmented:
        length, turned = ((x.detach() * chosen.cut.segment) for x in (size, phase))
        power = ((length.exp() * turned.cos()).float(), (length.exp() * turned.sin()).float())
    call = _Call(shape, chosen, u.shape[1], HS, V, cu_seqlens, power)
    return _Scan.apply(u, *constants, D, initial_state, call, output_final_state)


def check_parameters(u, log_dt, A_real, A_imag, C, D) -> None:
    """UsageError naming the first parameter whose shape does not fit u's and A's."""
    HS, V = u.shape[2:]
    M = A_real.shape[-1]
    check_shape("A_real", A_real, (HS, V, M))
    check_shape("A_imag", A_imag, (HS, V, M))
    check_shape("C", C, (HS, V, M, 2))
    check_shape("log_dt", log_dt, (HS, V))
    check_shape("D", D, (HS, V))
    if 2 * M > MAX_MODES:
        raise UsageError(f"A has {M} pairs of modes; use at most {MAX_MODES // 2}")


class _Inputs(NamedTuple):
    """Contiguous inputs of the kernels: u, a and c [HS, V, M] fp32, D."""

    u: torch.Tensor
    a_real: torch.Tensor
    a_imag: torch.Tensor
    c_real: torch.Tensor
    c_imag: torch.Tensor
    D: torch.Tensor


@dataclass(frozen=True)
class _Call:
    """One call's shapes. T: tokens of a row; cu_seqlens lies on the device, or is None; power: a^segment, or None."""

    shape: Shape
    plan: Plan
    T: int
    HS: int
    V: int
    cu_seqlens: torch.Tensor | None
    power: tuple[torch.Tensor, torch.Tensor] | None

    def state(self, rows: int, like: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """Room for so many states."""
        return like.new_empty(rows, self.HS, 2 * self.shape.pairs, self.V, dtype=dtype)

    def launch(self, kernel: Any, name: str, *tensors: Any, **options: Any) -> None:
        """Run a kernel over all segments, with its tile."""
        tile, cut, s = self.plan.tiles[name], self.plan.cut, self.shape
        blocks = -(-s.channels // tile.width)
        kernel[(s.span.sequences * cut.segments * blocks,)](
            *tensors, self.cu_seqlens, self.T, cut.segment, cut.segments, HS=self.HS, M=s.pairs, V=self.V, BT=tile.rows,
            BM=power_of_2(s.pairs), BD=tile.width, BLOCKS=blocks, num_warps=tile.warps, **options,
        )  # fmt: skip

    def starts(self, x: _Inputs, start):
        """What each segment starts from [slots, HS, N, V] fp32, or None on chip."""
        if self.power is None:
            return None
        states = self.state(self.plan.cut.slots, x.u)
        own = (x.u, x.a_real, x.a_imag, None, None, None)
        self.launch(s4d_local_kernel, "local", *own, states, REVERSE=False)
        self._carry(states, *self.power, start, reverse=False)
        return states

    def enters(self, x: _Inputs, do, d_end):
        """What enters each segment but the last of its sequence from behind, or None on chip."""
        if self.power is None:
            return None
        states = self.state(self.plan.cut.slots, x.u)
        own = (do, x.a_real, x.a_imag, x.c_real, x.c_imag, d_end)
        self.launch(s4d_local_kernel, "local_reverse", *own, states, REVERSE=True)
        self._carry(states, self.power[0], -self.power[1], None, reverse=True)
        return states

    def _carry(self, states, p_real, p_imag, start, reverse: bool) -> None:
        size, cut = self.shape.channels * self.shape.pairs, self.plan.cut
        s4d_carry_kernel[(self.shape.span.sequences * triton.cdiv(size, CARRY_BLOCK),)](
            states, p_real, p_imag, start, self.cu_seqlens, self.T, cut.segment, cut.segments, SIZE=size,
            M=self.shape.pairs, V=self.V, BLOCK=CARRY_BLOCK, REVERSE=reverse, num_warps=2,
        )  # fmt: skip


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, a_real, a_imag, c_real, c_imag, D, start, call: _Call, output_final_state: bool):
        x = _Inputs(*(each.contiguous() for each in (u, a_real, a_imag, c_real, c_imag, D)))
        start = None if start is None else start.contiguous()
        o = torch.empty_like(x.u)
        end = None
        if output_final_state:
            end = call.state(call.shape.span.sequences, o, torch.float32 if start is None else start.dtype)
        states = call.starts(x, start)
        call.launch(s4d_fwd_kernel, "output", *x, o, start, states, end)
        ctx.save_for_backward(*x, start, states)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        *saved, start, states = ctx.saved_tensors
        x, call = _Inputs(*saved), ctx.call
        do, d_end = (None if each is None else each.contiguous() for each in gradients)
        do = torch.zeros_like(x.u) if do is None else do
        du = torch.empty_like(x.u)
        rows = call.shape.span.sequences * call.plan.cut.segments
        # Packed, some programs of a short sequence have no tokens and write nothing.
        make = torch.zeros if call.shape.span.packed else torch.empty
        parts = make(rows, 4, *x.a_real.shape, device=do.device, dtype=torch.float32)
        dD = make(rows, *x.D.shape, device=do.device, dtype=torch.float32)
        d_start = None if start is None else torch.empty_like(start)
        call.launch(
            s4d_bwd_kernel, "gradients",
            *x, do, du, parts, dD, start, states, d_end, call.enters(x, do, d_end), d_start,
        )  # fmt: skip
        return du, *parts.sum(0), dD.sum(0).to(x.D.dtype), d_start, None, None
