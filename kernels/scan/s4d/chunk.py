"""S4D in Triton, as matrix products over chunks: one pass on chip, or three over segments (local, carry, apply)."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton
from torch.autograd.function import once_differentiable

from kernels.common.arguments import fit
from kernels.common.packed import room, without_tokens
from kernels.common.shapes import next_power_of_2
from kernels.scan.checks import check_start, span_of_call
from kernels.scan.plan import MAX_MODES, few_modes
from kernels.scan.s4d.backward import s4d_parameters_kernel, s4d_sums_kernel
from kernels.scan.s4d.forward import s4d_prepare_kernel, s4d_scan_kernel
from kernels.scan.s4d.plan import CHUNK, Plan, Shape, of_problem, plan
from kernels.scan.s4d.plan import search as search_configs
from kernels.scan.s4d.segments import s4d_carry_kernel
from kernels.scan.s4d.spec import s4d
from suite import Problem
from suite.errors import UsageError
from suite.problem import Value

CARRY_BLOCK = 64
# Rows of the table of transitions.
ROWS = 8
# FLOPs per mode pair and chunk of the states before each chunk: a state twice over, complex.
STATE_FLOPS = 16


def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """Regime, tile and warps of each kernel of the problem's pass, on `suite.target()`."""
    return plan(of_problem(problem)).describe(problem.pass_)


def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Sequence[Mapping[str, int]]]:
    """Configs worth trying for each kernel of the problem's pass."""
    return search_configs(of_problem(problem), problem.pass_)


def flops_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """Executed FLOPs of matrix products, pairs padded, and of the chunks' states; in segments the states twice."""
    shape = of_problem(problem)
    n = float(problem.tokens * shape.channels)
    states = 4 * shape.size + STATE_FLOPS * shape.size / CHUNK
    flops = {"local": states, "output": states + 4 * shape.size + 2 * CHUNK}
    flops |= {"local_reverse": states, "inputs": flops["output"], "sums": 2 * states + 8 * shape.size + 2 * CHUNK}
    return n * sum(flops[name] for name in plan(shape).launched(problem.pass_))


@s4d.implementation(
    "triton_chunk",
    origin="ours",
    devices={"cuda", "interpret"},
    supports=few_modes,
    flops_exec=flops_exec,
    configuration=configuration,
    search=search,
)
def chunk_s4d(
    u,
    log_dt,
    A_real,
    A_imag,
    C,
    D,
    *,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
):
    """Shapes as in spec.py -> (o [B,T,HS,V], final state [sequences,HS,N,V] or None).

    The final state has the initial one's dtype, else fp32; cu_seqlens_cpu is cu_seqlens on the CPU. Differentiable in
    every input and the initial state. Raises UsageError on bad input.
    """
    parameters = Parameters(log_dt, A_real, A_imag, C, D)
    check_inputs(u, parameters)
    span = span_of_call(u, cu_seqlens, cu_seqlens_cpu)
    HS, V, M = A_real.shape
    check_start("initial_state", initial_state, (span.sequences, HS, 2 * M, V), u)
    shape = Shape(span, HS * V, M, str(u.dtype).removeprefix("torch."))
    call = _Call(shape, plan(shape), T=u.shape[1], HS=HS, V=V, cu_seqlens=cu_seqlens)
    if not span.tokens:
        end = call.room(u, initial_state, initial_state) if output_final_state else None
        return without_tokens((torch.empty_like(u), end), (u, *parameters), (initial_state,))
    return _Scan.apply(u, *parameters, initial_state, call, output_final_state)


class Parameters(NamedTuple):
    """The parameters of a call, with the kernels' names."""

    log_dt: torch.Tensor
    A_real: torch.Tensor
    A_imag: torch.Tensor
    C: torch.Tensor
    D: torch.Tensor

    def contiguous(self) -> Parameters:
        """The same parameters, each of them contiguous."""
        return Parameters(*(x.contiguous() for x in self))


def check_inputs(u, p: Parameters) -> None:
    """UsageError naming the first input whose shape or dtype does not fit u's and A's."""
    of_modes = {"A_real": (p.A_real, "HS V M"), "A_imag": (p.A_imag, "HS V M"), "C": (p.C, "HS V M 2")}
    of_channels = {"log_dt": (p.log_dt, "HS V"), "D": (p.D, "HS V")}
    sizes = fit({"u": (u, "B T HS V")}, {**of_modes, **of_channels})
    if sizes["2"] != 2:
        raise UsageError(
            f"C is {tuple(p.C.shape)}; its last dimension is a real and an imaginary part, so it must be 2"
        )
    if 2 * sizes["M"] > MAX_MODES:
        raise UsageError(f"A has {sizes['M']} pairs of modes; use at most {MAX_MODES // 2}")


@dataclass(frozen=True)
class _Call:
    """One call's shapes. T: tokens of a row; cu_seqlens is on the device, or is None."""

    shape: Shape
    plan: Plan
    T: int
    HS: int
    V: int
    cu_seqlens: torch.Tensor | None

    @property
    def state_shape(self) -> tuple[int, int, int]:
        return self.HS, 2 * self.shape.pairs, self.V

    def room(self, u, start, passed) -> torch.Tensor:
        """An empty state in the dtype of `start`. passed: the states of sequences without tokens."""
        span, dtype = self.shape.span, torch.float32 if start is None else start.dtype
        return room(u, (span.sequences, *self.state_shape), dtype, passed, span.some_empty)

    def prepare(self, p: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """The table of transitions [8, HS V, M] and the first taps [HS V, CHUNK]; see device.py."""
        s = self.shape
        table = p.D.new_empty(ROWS, s.channels, s.pairs, dtype=torch.float32)
        taps = p.D.new_empty(s.channels, CHUNK, dtype=torch.float32)
        s4d_prepare_kernel[(s.channels,)](
            **p._asdict(),
            table=table,
            taps=taps,
            segment_size=self.plan.cut.segment_size,
            CHANNELS=s.channels,
            M=s.pairs,
            L=CHUNK,
            BM=s.size,
            num_warps=1,
        )
        return table, taps

    def launch(self, kernel: Any, name: str, **arguments: Any) -> None:
        """Launch a kernel over all segments with its tile. arguments: its tensors and its own options."""
        tile, cut, s = self.plan.tiles[name], self.plan.cut, self.shape
        blocks = -(-s.channels // tile.width)
        kernel[(s.span.sequences * cut.segments * blocks,)](
            **arguments,
            cu_seqlens=self.cu_seqlens,
            T=self.T,
            segment_size=cut.segment_size,
            segments=cut.segments,
            HS=self.HS,
            M=s.pairs,
            V=self.V,
            L=CHUNK,
            R=tile.rows,
            BM=tile.modes,
            MODE_BLOCKS=s.size // tile.modes,
            BD=tile.width,
            BLOCKS=blocks,
            PRECISION="tf32x3" if s.dtype == "float32" else "tf32",
            num_warps=tile.warps,
            num_stages=1,
        )

    def scan(self, x, p: Parameters, table, taps, start, end, *, reverse: bool):
        """(y, what enters each segment but the first in this direction [slots, HS, N, V] fp32, or None on chip)."""
        local, name = ("local_reverse", "inputs") if reverse else ("local", "output")
        both = {"x": x, "log_dt": p.log_dt, "table": table, "taps": taps, "start": start, "REVERSE": reverse}
        enters = None
        if self.plan.cut.segmented:
            enters = x.new_empty(self.plan.cut.slots, *self.state_shape, dtype=torch.float32)
            self.launch(s4d_scan_kernel, local, **both, y=None, enters=None, leaves=enters)
            self._carry(enters, table, reverse)
        y = torch.empty_like(x)
        self.launch(s4d_scan_kernel, name, **both, y=y, enters=enters, leaves=end)
        return y, enters

    def _carry(self, states, table, reverse: bool) -> None:
        size, cut = self.shape.channels * self.shape.pairs, self.plan.cut
        s4d_carry_kernel[(self.shape.span.sequences * triton.cdiv(size, CARRY_BLOCK),)](
            states=states,
            table=table,
            cu_seqlens=self.cu_seqlens,
            segment_size=cut.segment_size,
            segments=cut.segments,
            SIZE=size,
            M=self.shape.pairs,
            V=self.V,
            BLOCK=CARRY_BLOCK,
            REVERSE=reverse,
            num_warps=2,
        )


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, log_dt, A_real, A_imag, C, D, start, call: _Call, output_final_state: bool):
        p = Parameters(log_dt, A_real, A_imag, C, D).contiguous()
        u = u.contiguous()
        start = None if start is None else start.contiguous()
        end = call.room(u, start, start) if output_final_state else None
        table, taps = call.prepare(p)
        o, enters = call.scan(u, p, table, taps, start=start, end=end, reverse=False)
        ctx.save_for_backward(u, *p, table, taps, start, enters)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        u, *parameters, table, taps, start, enters = ctx.saved_tensors
        p, call = Parameters(*parameters), ctx.call
        do, d_end = (None if each is None else each.contiguous() for each in gradients)
        do = torch.zeros_like(u) if do is None else do
        d_start = None if start is None else call.room(do, start, d_end)
        du, d_enters = call.scan(do, p, table, taps, start=d_end, end=d_start, reverse=True)
        rows = call.shape.span.sequences * call.plan.cut.segments
        # Packed, some programs of a short sequence have no tokens and write nothing.
        make = torch.zeros if call.shape.span.packed else torch.empty
        sums = make(rows, 4, *p.A_real.shape, device=do.device, dtype=torch.float32)
        parts_D = make(rows, *p.D.shape, device=do.device, dtype=torch.float32)
        states = {"start": start, "states": enters, "d_end": d_end, "d_states": d_enters}
        inputs = {"u": u, "do": do, "log_dt": p.log_dt, "table": table}
        call.launch(s4d_sums_kernel, "sums", **inputs, **states, sums=sums, dD=parts_D)
        found = Parameters(*(torch.empty_like(each) for each in p))
        s4d_parameters_kernel[(call.shape.channels,)](
            sums=sums,
            parts_D=parts_D,
            log_dt=p.log_dt,
            A_real=p.A_real,
            A_imag=p.A_imag,
            C=p.C,
            d_log_dt=found.log_dt,
            dA_real=found.A_real,
            dA_imag=found.A_imag,
            dC=found.C,
            dD=found.D,
            rows=rows,
            CHANNELS=call.shape.channels,
            M=call.shape.pairs,
            BM=next_power_of_2(call.shape.pairs),
            num_warps=1,
        )
        return du, *found, d_start, None, None
