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
    """One call's shapes and constants. cu_seqlens [N + 1] is on the device of q, or is None.

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
        segments = _segments(call, sweep, x.k, x.v, Kept(weight=x.input_gate, decay=x.forget_gate), reverse=False)
    mlstm_fwd_output_kernel[_grid(call, sweep)](
        **x._asdict(),
        o=o,
        decay=kept.decay,
        weight=kept.weight,
        log_den=kept.log_den,
        side=kept.side,
        C_start=start.C,
        n_start=start.n,
        m_start=start.m,
        **segments._asdict(),
        C_end=end.C,
        n_end=end.n,
        m_end=end.m,
        scale=call.scale,
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
    dq, delta, q_dq, d_last = _backward_dq(call, x, kept, segments, do, start=start, d_end=d_end)
    dk, dv, d_forget, d_input = _backward_dk_dv(
        call, x, kept, do, delta, q_dq=q_dq, d_last=d_last, d_end=d_end, d_start=d_start
    )
    d_input, d_forget = _backward_gates(call, x, kept, d_forget, d_input)
    return Gradients(dq, dk, dv, d_input, d_forget)


def _backward_dq(call: Call, x: Inputs, kept: Kept, segments: Segments, do, start: State, d_end: State):
    s, sweep = call.shape, call.plan.dq
    dq = x.q.new_empty(*x.q.shape[:2], s.heads, s.K)
    q_dq = _parts(dq, sweep.slices)
    delta = None if kept.log_den is None else torch.empty_like(kept.log_den)
    d_last = None if d_end.C is None else dq.new_empty(s.sequences, s.heads, sweep.slices, dtype=torch.float32)
    if sweep.segmented and segments.states is None:
        segments = _segments(call, sweep, x.k, x.v, Kept(weight=x.input_gate, decay=x.forget_gate), reverse=False)
    mlstm_bwd_dq_kernel[_grid(call, sweep)](
        q=x.q,
        k=x.k,
        v=x.v,
        input_gate=kept.weight,
        forget_gate=kept.decay,
        log_den=kept.log_den,
        side=kept.side,
        o=kept.o,
        do=do,
        delta=delta,
        dq=dq,
        q_dq=q_dq,
        C_start=start.C,
        n_start=start.n,
        m_start=start.m,
        **(segments if sweep.segmented else Segments())._asdict(),
        dC_end=d_end.C,
        dn_end=d_end.n,
        d_last=d_last,
        scale=call.scale,
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
        segments = _segments(call, sweep, x.q, do, kept, delta=delta, reverse=True)
    mlstm_bwd_dk_dv_kernel[_grid(call, sweep)](
        q=x.q,
        k=x.k,
        v=x.v,
        input_gate=kept.weight,
        forget_gate=kept.decay,
        log_den=kept.log_den,
        do=do,
        delta=delta,
        q_dq=q_dq,
        dk=dk,
        dv=dv,
        d_forget=d_forget,
        d_input=d_input,
        dC_start=d_start.C,
        dn_start=d_start.n,
        dC_end=d_end.C,
        dn_end=d_end.n,
        states=segments.states,
        totals=segments.totals,
        d_last=d_last,
        scale=call.scale,
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
        d_forget=d_forget,
        d_input=d_input,
        decay=kept.decay,
        weight=kept.weight,
        forget_gate=x.forget_gate,
        input_gate=x.input_gate,
        dx_forget=dx_forget,
        dx_input=dx_input,
        cu_seqlens=call.cu_seqlens,
        T=call.T,
        segment_size=sweep.segment_size,
        blocks=blocks,
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


def _segments(call: Call, sweep: Sweep, x, y, gates: Kept, *, delta=None, reverse: bool) -> Segments:
    """What each segment contributes; gates: their weight, decay and, in reverse, log_den, as the kernel takes them."""
    s, own = call.shape, plan_state(call.shape, sweep)
    size = s.K * s.V + (s.K if s.normalised else 0)
    states = torch.empty(sweep.slots, s.heads, size, device=x.device, dtype=torch.float32)
    totals = states.new_empty(sweep.slots, s.heads)
    tops = torch.empty_like(totals) if s.normalised and not reverse else None
    mlstm_segment_state_kernel[_grid(call, own)](
        x=x,
        y=y,
        input_gate=gates.weight,
        forget_gate=gates.decay,
        log_den=gates.log_den,
        delta=delta,
        states=states,
        totals=totals,
        tops=tops,
        cu_seqlens=call.cu_seqlens,
        T=call.T,
        segment_size=sweep.segment_size,
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
    segments = {"segment_size": sweep.segment_size, "segments": sweep.segments}
    return {"cu_seqlens": call.cu_seqlens, "T": call.T, **segments}


def _width(sweep: Sweep, size: int) -> int:
    """Columns of a slice of a dimension."""
    return min(sweep.tile.width, power_of_2(size))


def _tile(sweep: Sweep, **blocks: int) -> dict[str, int]:
    return {**blocks, "BT": sweep.chunk, "num_warps": sweep.tile.warps, "num_stages": sweep.tile.stages}
