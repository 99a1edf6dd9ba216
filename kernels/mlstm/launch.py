"""Launches the sweeps on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton

from kernels.common.shapes import power_of_2
from kernels.mlstm.backward import mlstm_bwd_dq_kernel
from kernels.mlstm.backward_dk_dv import mlstm_bwd_dk_dv_kernel
from kernels.mlstm.forward import mlstm_fwd_output_kernel
from kernels.mlstm.gates import mlstm_bwd_gates_kernel
from kernels.mlstm.plan import plan_state
from kernels.mlstm.segments import mlstm_segment_state_kernel
from kernels.scalar_decay.plan import JOINED, Plan, Sweep
from kernels.scalar_decay.shape import Shape

GATE_TILE = 2048


class Inputs(NamedTuple):
    """Contiguous inputs: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], gates [B,T,HS]."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    input_gate: torch.Tensor
    forget_gate: torch.Tensor


class State(NamedTuple):
    """C [N,HS,K,V], n [N,HS,K], m [N,HS]: n and m are None with the sigmoid gate, all are None where there is no state.

    Of gradients, m is None.
    """

    C: torch.Tensor | None = None
    n: torch.Tensor | None = None
    m: torch.Tensor | None = None


class Segments(NamedTuple):
    """What segments contribute: `states` [slots, HS, KV (+ K)], `totals`, `tops` [slots, HS]; see segments.py."""

    states: torch.Tensor | None = None
    totals: torch.Tensor | None = None
    tops: torch.Tensor | None = None


class Kept(NamedTuple):
    """What the forward pass leaves for the backward one, all None with the sigmoid gate; see forward.py."""

    o: torch.Tensor | None = None
    decay: torch.Tensor | None = None
    weight: torch.Tensor | None = None
    log_den: torch.Tensor | None = None
    side: torch.Tensor | None = None


class Gradients(NamedTuple):
    """Gradients of Inputs, for each state head where heads are shared."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    input_gate: torch.Tensor
    forget_gate: torch.Tensor


@dataclass(frozen=True)
class Call:
    """One call's shapes and constants. cu_seqlens [N + 1] lies on the device of q, or is None.

    some_empty: whether a sequence has no tokens
    """

    shape: Shape
    plan: Plan
    T: int
    H: int
    HK: int
    HV: int
    cu_seqlens: torch.Tensor | None
    scale: float
    some_empty: bool

    @property
    def sizes(self) -> dict[str, int]:
        s = self.shape
        return {"H": self.H, "HK": self.HK, "HV": self.HV, "HS": s.heads, "K": s.K, "V": s.V}

    @property
    def options(self) -> dict[str, Any]:
        # Three TF32 products hold 1e-4 on tensor cores; one would not (2e-3), and IEEE runs outside of them.
        precision = "tf32x3" if self.shape.dtype == "float32" else "tf32"
        return {"EXP": self.shape.normalised, "PRECISION": precision}


def forward(call: Call, x: Inputs, start: State, end: State, training: bool) -> tuple[torch.Tensor, Kept, Segments]:
    """o [B, T, HS, V], what the backward pass needs, and what each segment contributes, where there are any.

    start: the initial state; end: receives the final one, where given; training: whether a backward pass follows.
    """
    s, sweep = call.shape, call.plan.output
    o = x.q.new_empty(*x.q.shape[:2], s.heads, s.V)
    kept = _kept(o) if training and s.normalised else Kept()
    segments = Segments()
    if sweep.segmented:
        segments = _segments(call, sweep, x.k, x.v, (x.input_gate, x.forget_gate, None, None), reverse=False)
    mlstm_fwd_output_kernel[_grid(call, sweep)](
        *x,
        o,
        *kept[1:],
        *start,
        *segments,
        *end,
        call.cu_seqlens,
        call.scale,
        **_span(call, sweep),
        **call.sizes,
        **_tile(sweep, BK=power_of_2(s.K), BV=_width(sweep, s.V), SLICES=sweep.slices),
        JOINED=sweep.segmented,
        **call.options,
    )
    return o, kept, segments


def _kept(o: torch.Tensor) -> Kept:
    logs = [torch.empty(o.shape[:3], device=o.device, dtype=torch.float32) for _ in range(3)]
    return Kept(o, *logs, torch.empty(o.shape[:3], device=o.device, dtype=torch.int8))


def backward(
    call: Call, x: Inputs, kept: Kept, segments: Segments, do, start: State, d_end: State, d_start: State
) -> Gradients:
    """The inputs' gradients.

    kept, segments: what `forward` returned; d_end: gradient of the final state, or Nones; d_start: receives that of the
    initial state, where given.
    """
    if not call.shape.normalised:
        kept = Kept(decay=x.forget_gate, weight=x.input_gate)
    dq, delta, q_dq, d_last = _backward_dq(call, x, kept, segments, do, start, d_end)
    dk, dv, *parts = _backward_dk_dv(call, x, kept, do, delta, q_dq, d_last, d_end, d_start)
    d_input, d_forget = _backward_gates(call, x, kept, *parts)
    return Gradients(dq, dk, dv, d_input, d_forget)


def _backward_dq(call: Call, x: Inputs, kept: Kept, segments: Segments, do, start: State, d_end: State):
    s, sweep = call.shape, call.plan.dq
    dq = x.q.new_empty(*x.q.shape[:2], s.heads, s.K)
    q_dq = _parts(dq, sweep.slices)
    delta = None if kept.log_den is None else torch.empty_like(kept.log_den)
    d_last = None if d_end.C is None else dq.new_empty(s.sequences, s.heads, sweep.slices, dtype=torch.float32)
    if sweep.segmented and segments.states is None:
        segments = _segments(call, sweep, x.k, x.v, (x.input_gate, x.forget_gate, None, None), reverse=False)
    mlstm_bwd_dq_kernel[_grid(call, sweep)](
        x.q,
        x.k,
        x.v,
        kept.weight,
        kept.decay,
        kept.log_den,
        kept.side,
        kept.o,
        do,
        delta,
        dq,
        q_dq,
        *start,
        *(segments if sweep.segmented else Segments()),
        d_end.C,
        d_end.n,
        d_last,
        call.cu_seqlens,
        call.scale,
        **_span(call, sweep),
        **call.sizes,
        **_tile(sweep, BK=_width(sweep, s.K), BV=power_of_2(s.V), SLICES=sweep.slices),
        JOINED=sweep.segmented,
        **call.options,
    )
    return dq, delta, q_dq, d_last


def _backward_dk_dv(call: Call, x: Inputs, kept: Kept, do, delta, q_dq, d_last, d_end: State, d_start: State):
    s, sweep = call.shape, call.plan.dk_dv
    dk = x.q.new_empty(*x.q.shape[:2], s.heads, s.K)
    dv = x.q.new_empty(*x.q.shape[:2], s.heads, s.V)
    widths = {"WK": _width(sweep, s.K), "WV": _width(sweep, s.V)}
    d_forget, d_input = (_parts(dk, triton.cdiv(s.K, widths["WK"])) for _ in range(2))
    segments = Segments()
    if sweep.segmented:
        segments = _segments(call, sweep, x.q, do, (kept.weight, kept.decay, kept.log_den, delta), reverse=True)
    mlstm_bwd_dk_dv_kernel[_grid(call, sweep)](
        x.q,
        x.k,
        x.v,
        kept.weight,
        kept.decay,
        kept.log_den,
        do,
        delta,
        q_dq,
        dk,
        dv,
        d_forget,
        d_input,
        d_end.C,
        d_end.n,
        segments.states,
        segments.totals,
        d_last,
        d_start.C,
        d_start.n,
        call.cu_seqlens,
        call.scale,
        **_span(call, sweep),
        **call.sizes,
        **widths,
        **_tile(sweep, BK=power_of_2(s.K), BV=power_of_2(s.V), SLICES=sweep.slices),
        DQ_SLICES=call.plan.dq.slices,
        START=sweep.start,
        **call.options,
    )
    return dk, dv, d_forget, d_input


def _backward_gates(call: Call, x: Inputs, kept: Kept, d_forget, d_input):
    s, sweep = call.shape, call.plan.dk_dv
    dx_input, dx_forget = torch.empty_like(x.input_gate), torch.empty_like(x.forget_gate)
    blocks = triton.cdiv(s.longest, s.chunk)
    width = min(triton.next_power_of_2(s.heads), max(1, GATE_TILE // s.chunk))
    mlstm_bwd_gates_kernel[(s.sequences * blocks * triton.cdiv(s.heads, width),)](
        d_forget,
        d_input,
        kept.decay,
        kept.weight,
        x.forget_gate,
        x.input_gate,
        dx_forget,
        dx_input,
        call.cu_seqlens,
        call.T,
        sweep.segment,
        blocks,
        HS=s.heads,
        SLICES=d_forget.shape[-1],
        BT=s.chunk,
        BH=width,
        EXP=s.normalised,
        num_warps=4,
    )
    return dx_input, dx_forget


def _parts(like: torch.Tensor, slices: int) -> torch.Tensor:
    """[B, T, HS, slices] fp32."""
    return like.new_empty(*like.shape[:3], slices, dtype=torch.float32)


def _segments(call: Call, sweep: Sweep, x, y, more: tuple[Any, ...], *, reverse: bool) -> Segments:
    """What each segment contributes; `more` is input_gate, forget_gate, log_den and delta, as the kernel takes them."""
    s, own = call.shape, plan_state(call.shape, sweep)
    size = s.K * s.V + (s.K if s.normalised else 0)
    states = torch.empty(sweep.slots, s.heads, size, device=x.device, dtype=torch.float32)
    totals = states.new_empty(sweep.slots, s.heads)
    tops = torch.empty_like(totals) if s.normalised and not reverse else None
    mlstm_segment_state_kernel[_grid(call, own)](
        x,
        y,
        *more,
        states,
        totals,
        tops,
        call.cu_seqlens,
        T=call.T,
        segment=sweep.segment,
        segments=sweep.segments,
        HX=x.shape[2],
        HY=y.shape[2],
        HS=s.heads,
        K=s.K,
        V=s.V,
        **_tile(own, BK=power_of_2(s.K), BV=_width(own, s.V), SLICES=own.slices),
        REVERSE=reverse,
        **call.options,
    )
    return Segments(states, totals, tops)


def _grid(call: Call, sweep: Sweep) -> tuple[int]:
    assert not sweep.segmented or sweep.start == JOINED
    return (call.shape.sequences * sweep.segments * call.shape.heads * sweep.slices,)


def _span(call: Call, sweep: Sweep) -> dict[str, Any]:
    return {"T": call.T, "segment": sweep.segment, "segments": sweep.segments}


def _width(sweep: Sweep, size: int) -> int:
    """Columns of a slice of a dimension."""
    return min(sweep.tile.width, power_of_2(size))


def _tile(sweep: Sweep, **blocks: int) -> dict[str, int]:
    return {**blocks, "BT": sweep.chunk, "num_warps": sweep.tile.warps, "num_stages": sweep.tile.stages}
