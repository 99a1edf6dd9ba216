"""The gated scan in Triton: one pass on chip, or three passes over segments (local, carry, apply)."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

from kernels.common.arguments import fit
from kernels.common.packed import room, without_tokens
from kernels.scan.checks import check_start, span_of_call
from kernels.scan.gated_scan.backward import gated_scan_bwd_kernel
from kernels.scan.gated_scan.forward import gated_scan_fwd_kernel, gated_scan_local_kernel
from kernels.scan.gated_scan.plan import Plan, Shape, of_problem, plan
from kernels.scan.gated_scan.plan import search as search_configs
from kernels.scan.gated_scan.spec import NONE, SQRT, flops, gated_scan
from kernels.scan.segments import carry
from suite import Problem
from suite.errors import unknown
from suite.problem import Value


def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """Regime, tile, warps and stages of each kernel of the problem's pass, on `suite.target()`."""
    return plan(of_problem(problem)).describe(problem.pass_)


def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Sequence[Mapping[str, int]]]:
    """Configs worth trying for each kernel of the problem's pass."""
    return search_configs(of_problem(problem), problem.pass_)


def flops_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """Executed FLOPs: in segments, the scan without its outputs is done twice."""
    again = plan(of_problem(problem)).cut.segmented
    scaling = problem.axis("input_scaling")
    passes = ("fwd", "bwd") if problem.pass_ == "fwdbwd" else (problem.pass_,)
    local = {"fwd": flops("fwd", scaling), "bwd": 2}
    return float(problem.tokens * problem.HS * problem.V * sum(flops(p, scaling) + again * local[p] for p in passes))


@gated_scan.implementation(
    "triton_chunk",
    origin="ours",
    devices={"cuda", "interpret"},
    flops_exec=flops_exec,
    configuration=configuration,
    search=search,
)
def chunk_gated_scan(
    x,
    log_decay,
    *,
    input_scaling: str = NONE,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
):
    """x, log_decay [B,T,HS,V] of one dtype -> (o [B,T,HS,V], final state [N,HS,V] or None), as spec.py defines them.

    The final state has the initial one's dtype, else fp32; cu_seqlens_cpu is cu_seqlens on the CPU. Differentiable in
    x, log_decay and the initial state. Raises UsageError on bad input.
    """
    if input_scaling not in (NONE, SQRT):
        raise unknown("input scaling", input_scaling, (NONE, SQRT))
    check_inputs(x, log_decay)
    span = span_of_call(x, cu_seqlens, cu_seqlens_cpu)
    check_start("initial_state", initial_state, (span.sequences, *x.shape[2:]), x)
    dtype = str(x.dtype).removeprefix("torch.")
    shape = Shape(span, x.shape[2] * x.shape[3], dtype, input_scaling == SQRT)
    call = _Call(shape, plan(shape), x.shape[1], cu_seqlens)
    if not span.tokens:
        end = call.room(x, initial_state, initial_state) if output_final_state else None
        return without_tokens((torch.empty_like(x), end), (x, log_decay), (initial_state,))
    o, final = _Scan.apply(x, log_decay, initial_state, call, output_final_state)
    return o, final


def check_inputs(x, log_decay) -> None:
    """UsageError unless x and log_decay [B,T,HS,V] have one shape and a dtype that is served."""
    fit({"x": (x, "B T HS V"), "log_decay": (log_decay, "B T HS V")})


@dataclass(frozen=True)
class _Call:
    """One call's shapes, as every launch needs them. T: tokens of a row; cu_seqlens is on the device, or is None."""

    shape: Shape
    plan: Plan
    T: int
    cu_seqlens: torch.Tensor | None

    def room(self, x, start, passed) -> torch.Tensor:
        """An empty state in the dtype of `start`. passed: the states of sequences without tokens."""
        span, dtype = self.shape.span, torch.float32 if start is None else start.dtype
        return room(x, (span.sequences, *x.shape[2:]), dtype, passed, span.some_empty)

    def launch(self, kernel: Any, name: str, **arguments: Any) -> None:
        """Launch a kernel over all segments with its tile. arguments: its tensors and its own options."""
        tile, cut, channels = self.plan.tiles[name], self.plan.cut, self.shape.channels
        blocks = -(-channels // tile.width)
        kernel[(self.shape.span.sequences * cut.segments * blocks,)](
            **arguments,
            cu_seqlens=self.cu_seqlens,
            T=self.T,
            segment_size=cut.segment_size,
            segments=cut.segments,
            D=channels,
            BT=tile.rows,
            BD=tile.width,
            BLOCKS=blocks,
            STAGES=tile.stages,
            SCALED=self.shape.scaled,
            num_warps=tile.warps,
        )

    def starts(self, x, log_decay, start, *, reverse: bool):
        """The state that each segment starts from, [slots, D] fp32, or None on chip."""
        if not self.plan.cut.segmented:
            return None
        states = torch.empty(self.plan.cut.slots, self.shape.channels, device=x.device, dtype=torch.float32)
        totals = torch.empty_like(states)
        name = "local_reverse" if reverse else "local"
        tensors = {"x": x, "log_decay": log_decay, "states": states, "totals": totals}
        # In reverse there is no input to scale.
        self.launch(gated_scan_local_kernel, name, **tensors, REVERSE=reverse)
        span, cut = self.shape.span, self.plan.cut
        carry(span, cut, states, totals, start, cu_seqlens=self.cu_seqlens, reverse=reverse)
        return states


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, log_decay, start, call: _Call, output_final_state: bool):
        x, log_decay = x.contiguous(), log_decay.contiguous()
        start = None if start is None else start.contiguous()
        o = torch.empty_like(x)
        end = call.room(x, start, start) if output_final_state else None
        tensors = {"x": x, "log_decay": log_decay, "o": o, "start": start}
        states = call.starts(x, log_decay, start, reverse=False)
        call.launch(gated_scan_fwd_kernel, "output", **tensors, states=states, end_state=end)
        ctx.save_for_backward(x if call.shape.scaled else None, log_decay, o, start)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        x, log_decay, o, start = ctx.saved_tensors
        call = ctx.call
        do, d_end = (None if each is None else each.contiguous() for each in gradients)
        do = torch.zeros_like(o) if do is None else do
        dx, d_log_decay = torch.empty_like(o), torch.empty_like(o)
        d_start = None if start is None else call.room(o, start, d_end)
        states = call.starts(do, log_decay, d_end, reverse=True)
        call.launch(
            gated_scan_bwd_kernel,
            "gradients",
            x=x,
            log_decay=log_decay,
            o=o,
            do=do,
            dx=dx,
            d_log_decay=d_log_decay,
            start=start,
            states=states,
            d_end=d_end,
            d_start=d_start,
        )
        return dx, d_log_decay, d_start, None, None
