"""The selective scan in Triton: one pass on chip, or three passes over segments (local, carry, apply)."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from kernels.common.arguments import fit
from kernels.common.packed import room, without_tokens
from kernels.scan.checks import check_start, span_of_call
from kernels.scan.plan import MAX_MODES, few_modes
from kernels.scan.segments import carry
from kernels.scan.selective_scan.backward import selective_scan_bwd_kernel, selective_scan_bwd_local_kernel
from kernels.scan.selective_scan.forward import selective_scan_fwd_kernel, selective_scan_local_kernel
from kernels.scan.selective_scan.plan import Plan, Shape, blocks_of, of_problem, plan
from kernels.scan.selective_scan.plan import search as search_configs
from kernels.scan.selective_scan.spec import MODE_FLOPS, cost, selective_scan
from suite import Problem
from suite.errors import UsageError
from suite.problem import Value


def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """Regime, tile and warps of each kernel of the problem's pass, on `suite.target()`."""
    return plan(of_problem(problem)).describe(problem.pass_)


def search(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Sequence[Mapping[str, int]]]:
    """Configs worth trying for each kernel of the problem's pass."""
    return search_configs(of_problem(problem), problem.pass_)


def flops_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """Executed FLOPs: in segments, the states (4 a mode) or their gradients (4 a mode) are computed twice."""
    p = problem
    passes = ("fwd", "bwd") if p.pass_ == "fwdbwd" else (p.pass_,)
    alg = sum(cost(p.replace(pass_=each), tunables).flops_alg for each in passes)
    again = (MODE_FLOPS["fwd"] - 2) * len(passes) * plan(of_problem(p)).cut.segmented
    return alg + float(p.tokens * p.HS * p.V * p.K * again)


@selective_scan.implementation(
    "triton_chunk",
    origin="ours",
    devices={"cuda", "interpret"},
    supports=few_modes,
    flops_exec=flops_exec,
    configuration=configuration,
    search=search,
)
def chunk_selective_scan(
    u,
    delta,
    A,
    B,
    C,
    D,
    z,
    delta_bias,
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
    inputs = Inputs(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, bias=delta_bias)
    check_inputs(inputs)
    span = span_of_call(u, cu_seqlens, cu_seqlens_cpu)
    HS, V, N = A.shape
    check_start("initial_state", initial_state, (span.sequences, HS, N, V), u)
    dtype = str(u.dtype).removeprefix("torch.")
    shape = Shape(span, B.shape[2], HS // B.shape[2] * V, N, dtype)
    given = (*inputs, initial_state)
    training = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in given)
    call = _Call(shape, plan(shape), T=u.shape[1], HS=HS, V=V, cu_seqlens=cu_seqlens, training=training)
    if not span.tokens:
        end = call.room(u, initial_state, initial_state) if output_final_state else None
        return without_tokens((torch.empty_like(u), end), inputs, (initial_state,))
    return _Scan.apply(*given, call, output_final_state)


class Inputs(NamedTuple):
    """Inputs of a call, with the kernels' names, in the signature's order."""

    u: torch.Tensor
    delta: torch.Tensor
    A: torch.Tensor
    B: torch.Tensor
    C: torch.Tensor
    D: torch.Tensor
    z: torch.Tensor
    bias: torch.Tensor

    def contiguous(self) -> Inputs:
        """The same inputs, each of them contiguous."""
        return Inputs(*(x.contiguous() for x in self))


def check_inputs(x: Inputs) -> None:
    """UsageError naming the first input whose shape or dtype does not fit u's and A's."""
    channels = {name: (getattr(x, name), "B T HS V") for name in ("u", "delta", "z")}
    modes = {name: (getattr(x, name), "B T H N") for name in ("B", "C")}
    parameters = {"A": (x.A, "HS V N"), "D": (x.D, "HS V"), "delta_bias": (x.bias, "HS V")}
    sizes = fit({**channels, **modes}, parameters)
    HS, N, groups = (sizes[name] for name in ("HS", "N", "H"))
    if HS % groups:
        raise UsageError(f"{groups} groups of B and C do not divide {HS} heads; choose a number that does")
    if N > MAX_MODES:
        raise UsageError(f"A has {N} modes; use at most {MAX_MODES}")


@dataclass(frozen=True)
class _Call:
    """One call's shapes, as every launch needs them.

    T: tokens of a row; cu_seqlens is on the device, or is None; training: whether a backward pass may follow.
    """

    shape: Shape
    plan: Plan
    T: int
    HS: int
    V: int
    cu_seqlens: torch.Tensor | None
    training: bool

    @property
    def state_shape(self) -> tuple[int, int, int]:
        return self.HS, self.shape.modes, self.V

    def room(self, u, start, passed) -> torch.Tensor:
        """An empty state in the dtype of `start`. passed: the states of sequences without tokens."""
        span, dtype = self.shape.span, torch.float32 if start is None else start.dtype
        return room(u, (span.sequences, *self.state_shape), dtype, passed, span.some_empty)

    def launch(self, kernel: Any, name: str, **arguments: Any) -> None:
        """Launch a kernel over all segments with its tile. arguments: its tensors and its own options."""
        tile, cut, s = self.plan.tiles[name], self.plan.cut, self.shape
        blocks = blocks_of(s, tile)
        kernel[(s.span.sequences * cut.segments * s.groups * blocks,)](
            **arguments,
            cu_seqlens=self.cu_seqlens,
            T=self.T,
            segment_size=cut.segment_size,
            segments=cut.segments,
            H=s.groups,
            HS=self.HS,
            K=s.modes,
            V=self.V,
            BT=tile.rows,
            BN=s.size,
            BD=tile.width,
            BLOCKS=blocks,
            num_warps=tile.warps,
        )

    def starts(self, x: Inputs, start, do=None):
        """What each segment starts from, [slots, HS, N, V] fp32, or None on chip; in reverse where `do` is given."""
        if not self.plan.cut.segmented:
            return None
        span, cut, make = self.shape.span, self.plan.cut, {"device": x.u.device, "dtype": torch.float32}
        states, totals = (
            torch.empty(cut.slots, *self.state_shape, **make),
            torch.empty(cut.slots, self.HS, self.V, **make),
        )
        both = {"delta": x.delta, "A": x.A, "bias": x.bias, "states": states, "totals": totals}
        if do is None:
            self.launch(selective_scan_local_kernel, "local", u=x.u, B=x.B, **both)
        else:
            self.launch(selective_scan_bwd_local_kernel, "local_reverse", C=x.C, z=x.z, do=do, **both)
        reverse = do is not None
        carry(span, cut, states, totals, start, cu_seqlens=self.cu_seqlens, rates=x.A, reverse=reverse)
        return states

    def checkpoints(self, like: torch.Tensor) -> torch.Tensor:
        """States before every interval of tokens: bf16 where the inputs are, else fp32, whose range they may need."""
        slots = self.shape.span.tokens // self.plan.interval + self.shape.span.sequences
        return like.new_empty(slots, *self.state_shape, dtype=_partial_dtype(like))


def _partial_dtype(like: torch.Tensor) -> torch.dtype:
    return torch.bfloat16 if like.dtype == torch.bfloat16 else torch.float32


class _Scan(torch.autograd.Function):
    @staticmethod
    def forward(ctx, u, delta, A, B, C, D, z, bias, start, call: _Call, output_final_state: bool):
        x = Inputs(u=u, delta=delta, A=A, B=B, C=C, D=D, z=z, bias=bias).contiguous()
        start = None if start is None else start.contiguous()
        o = torch.empty_like(x.u)
        end = call.room(o, start, start) if output_final_state else None
        kept = call.checkpoints(o) if call.training else None
        call.launch(
            selective_scan_fwd_kernel,
            "output",
            **x._asdict(),
            o=o,
            start=start,
            states=call.starts(x, start),
            end_state=end,
            checkpoints=kept,
            INTERVAL=call.plan.interval,
        )
        ctx.save_for_backward(*x, start, kept)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        *saved, start, kept = ctx.saved_tensors
        x, call = Inputs(*saved), ctx.call
        do, d_end = (None if each is None else each.contiguous() for each in gradients)
        do = torch.zeros_like(x.u) if do is None else do
        du, ddelta, dz = (torch.empty_like(x.u) for _ in range(3))
        blocks = blocks_of(call.shape, call.plan.tiles["gradients"])
        dB, dC = (x.u.new_empty(*x.u.shape[:2], blocks, *x.B.shape[2:], dtype=_partial_dtype(x.u)) for _ in range(2))
        parts = _parameter_parts(call, x)
        d_start = None if start is None else call.room(do, start, d_end)
        call.launch(
            selective_scan_bwd_kernel,
            "gradients",
            **x._asdict(),
            do=do,
            checkpoints=kept,
            du=du,
            ddelta=ddelta,
            dz=dz,
            dB=dB,
            dC=dC,
            **parts,
            states=call.starts(x, d_end, do),
            d_end=d_end,
            d_start=d_start,
        )
        dA, dD, dbias = (parts[f"d{name}"].sum(0).to(getattr(x, name).dtype) for name in ("A", "D", "bias"))
        dB, dC = (part.sum(2, dtype=torch.float32).to(x.u.dtype) for part in (dB, dC))
        return du, ddelta, dA, dB, dC, dD, dz, dbias, d_start, None, None


def _parameter_parts(call: _Call, x: Inputs) -> dict[str, torch.Tensor]:
    """Parts of dA, dD and dbias, one for each sequence's segments."""
    rows = call.shape.span.sequences * call.plan.cut.segments
    # Packed, some programs of a short sequence have no tokens and write nothing.
    make = torch.zeros if call.shape.span.packed else torch.empty
    each = {"dA": x.A, "dD": x.D, "dbias": x.bias}
    return {name: make(rows, *p.shape, device=p.device, dtype=torch.float32) for name, p in each.items()}
