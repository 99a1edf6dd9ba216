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
from kernels.scan.s4d.forward import s4d_prepare_kernel, s4d_scan_kernel, s4d_taps_kernel
from kernels.scan.s4d.plan import S4dPlan, Shape, of_problem, plan
from kernels.scan.s4d.plan import search as search_configs
from kernels.scan.s4d.segments import s4d_carry_kernel
from kernels.scan.s4d.spec import s4d
from kernels.scan.s4d.turn import s4d_turn_kernel
from suite import Problem
from suite.errors import UsageError
from suite.problem import Value

CARRY_BLOCK = 64
# Modes of a program that computes transitions.
PREPARE_BLOCK = 128
# Tokens and channels of a tile whose layout is changed, and its warps.
TURN_TOKENS, TURN_CHANNELS, TURN_WARPS = 64, 64, 4
# Rows of the table of transitions.
ROWS = 12
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
    chunk = shape.chunk
    states = 4 * shape.size + STATE_FLOPS * shape.size / chunk
    flops = {"local": states, "output": states + 4 * shape.size + 2 * chunk}
    flops |= {"local_reverse": states, "inputs": flops["output"], "sums": 2 * states + 8 * shape.size + 2 * chunk}
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
    given = (u, *parameters, initial_state)
    training = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in given)
    call = _Call(shape, plan(shape), T=u.shape[1], HS=HS, V=V, cu_seqlens=cu_seqlens, training=training)
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
    """One call's shapes.

    T: tokens of a row; cu_seqlens is on the device, or is None; training: whether a backward pass may follow.
    """

    shape: Shape
    plan: S4dPlan
    T: int
    HS: int
    V: int
    cu_seqlens: torch.Tensor | None
    training: bool

    @property
    def state_shape(self) -> tuple[int, int, int]:
        return self.HS, 2 * self.shape.pairs, self.V

    @property
    def block(self) -> int:
        """Tokens between two states that are kept for the backward pass."""
        return self.plan.block(self.shape.chunk)

    def slots(self, unit: int) -> int:
        """How many units of tokens all sequences take, each with a first unit of its own."""
        span = self.shape.span
        if span.packed:
            return span.tokens // unit + span.sequences
        return span.sequences * -(-self.T // unit)

    def room(self, u, start, passed) -> torch.Tensor:
        """An empty state in the dtype of `start`. passed: the states of sequences without tokens."""
        span, dtype = self.shape.span, torch.float32 if start is None else start.dtype
        return room(u, (span.sequences, *self.state_shape), dtype, passed, span.some_empty)

    def states(self, like: torch.Tensor, slots: int) -> torch.Tensor:
        """Empty states as the kernels keep them for themselves: [slots, 2, HS V, M] fp32."""
        return like.new_empty(slots, 2, self.shape.channels, self.shape.pairs, dtype=torch.float32)

    def prepare(self, p: Parameters) -> tuple[torch.Tensor, torch.Tensor]:
        """The table of transitions [12, HS V, M] and the first taps [HS V, 2 x chunk]; see device.py."""
        s = self.shape
        table = p.D.new_empty(ROWS, s.channels, s.pairs, dtype=torch.float32)
        taps = p.D.new_empty(s.channels, 2 * s.chunk, dtype=torch.float32)
        size = s.channels * s.pairs
        s4d_prepare_kernel[(triton.cdiv(size, PREPARE_BLOCK),)](
            log_dt=p.log_dt,
            A_real=p.A_real,
            A_imag=p.A_imag,
            C=p.C,
            table=table,
            segment_size=self.plan.cut.segment_size,
            SIZE=size,
            M=s.pairs,
            L=s.chunk,
            BLOCK=PREPARE_BLOCK,
            num_warps=4,
        )
        s4d_taps_kernel[(s.channels,)](
            table=table, D=p.D, taps=taps, CHANNELS=s.channels, M=s.pairs, L=s.chunk, BM=s.size, num_warps=2
        )
        return table, taps

    def turn(self, x: torch.Tensor, turned: torch.Tensor, *, back: bool) -> torch.Tensor:
        """x [B, T, HS, V] -> turned [HS V, width], or back; the one that was written."""
        s = self.shape
        tiles, blocks = triton.cdiv(s.span.longest, TURN_TOKENS), triton.cdiv(s.channels, TURN_CHANNELS)
        s4d_turn_kernel[(s.span.sequences * tiles * blocks,)](
            x=x,
            turned=turned,
            cu_seqlens=self.cu_seqlens,
            T=self.T,
            tiles=tiles,
            width=turned.shape[1],
            D=s.channels,
            L=s.chunk,
            BT=TURN_TOKENS,
            BD=TURN_CHANNELS,
            BLOCKS=blocks,
            BACK=back,
            num_warps=TURN_WARPS,
        )
        return x if back else turned

    def by_channel(self, x: torch.Tensor) -> torch.Tensor:
        """Room for x [B, T, HS, V] with the tokens of a channel side by side, [HS V, width]."""
        return x.new_empty(self.shape.channels, self.slots(self.shape.chunk) * self.shape.chunk)

    def launch(self, kernel: Any, name: str, programs: int, **arguments: Any) -> None:
        """Launch a kernel with its tile, so many programs a channel. arguments: its tensors and its own options."""
        tile, s = self.plan.tiles[name], self.shape
        kernel[(s.span.sequences * programs * s.channels,)](
            **arguments,
            cu_seqlens=self.cu_seqlens,
            T=self.T,
            HS=self.HS,
            M=s.pairs,
            V=self.V,
            L=s.chunk,
            R=tile.rows,
            BM=tile.modes,
            MODE_BLOCKS=s.size // tile.modes,
            BLOCK=self.block,
            PRECISION="tf32x3" if s.dtype == "float32" else "tf32",
            num_warps=tile.warps,
            num_stages=1,
        )

    def scan(self, x, p: Parameters, table, taps, start, end, *, reverse: bool, keep: bool):
        """(y, what enters each block of tokens [slots, 2, HS V, M] fp32 where wanted), x and y [HS V, width]."""
        local, name = ("local_reverse", "inputs") if reverse else ("local", "output")
        cut = self.plan.cut
        segments = {"segment_size": cut.segment_size, "segments": cut.segments, "programs": cut.segments}
        both = {"x": x, "log_dt": p.log_dt, "table": table, "taps": taps, "start": start, "REVERSE": reverse}
        both |= {"width": x.shape[1], **segments}
        stages = {each: {"STAGES": self.plan.tiles[each].stages} for each in (local, name)}
        enters = None
        if cut.segmented:
            enters = self.states(x, cut.slots)
            self.launch(s4d_scan_kernel, local, **both, **stages[local], y=None, enters=None, leaves=enters, kept=None)
            self._carry(enters, table, reverse)
        y = torch.empty_like(x)
        kept = self.states(x, self.slots(self.block)) if keep else None
        self.launch(s4d_scan_kernel, name, **both, **stages[name], y=y, enters=enters, leaves=end, kept=kept)
        return y, kept

    def _carry(self, states, table, reverse: bool) -> None:
        size, cut = self.shape.channels * self.shape.pairs, self.plan.cut
        s4d_carry_kernel[(self.shape.span.sequences * triton.cdiv(size, CARRY_BLOCK),)](
            states=states,
            table=table,
            cu_seqlens=self.cu_seqlens,
            segment_size=cut.segment_size,
            segments=cut.segments,
            SIZE=size,
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
        turned = call.turn(u, call.by_channel(u), back=False)
        y, kept = call.scan(turned, p, table, taps, start=start, end=end, reverse=False, keep=call.training)
        o = call.turn(torch.empty_like(u), y, back=True)
        ctx.save_for_backward(turned, *p, table, taps, start, kept)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        u, *parameters, table, taps, start, kept = ctx.saved_tensors
        p, call = Parameters(*parameters), ctx.call
        do, d_end = (None if each is None else each.contiguous() for each in gradients)
        B = call.shape.span.tokens // call.T
        do = u.new_zeros(B, call.T, call.HS, call.V) if do is None else do
        d_start = None if start is None else call.room(do, start, d_end)
        turned = call.turn(do, call.by_channel(do), back=False)
        y, d_kept = call.scan(turned, p, table, taps, start=d_end, end=d_start, reverse=True, keep=True)
        du = call.turn(torch.empty_like(do), y, back=True)
        blocks = triton.cdiv(call.shape.span.longest, call.block)
        rows = call.shape.span.sequences * blocks
        # Packed, some programs of a short sequence have no tokens and write nothing.
        make = torch.zeros if call.shape.span.packed else torch.empty
        sums = make(rows, 4, *p.A_real.shape, device=do.device, dtype=torch.float32)
        parts_D = make(rows, *p.D.shape, device=do.device, dtype=torch.float32)
        mode_blocks = call.shape.size // call.plan.tiles["sums"].modes
        call.launch(
            s4d_sums_kernel,
            "sums",
            blocks * mode_blocks,
            u=u,
            do=turned,
            log_dt=p.log_dt,
            table=table,
            kept=kept,
            d_kept=d_kept,
            sums=sums,
            dD=parts_D,
            blocks=blocks,
            width=turned.shape[1],
        )
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
