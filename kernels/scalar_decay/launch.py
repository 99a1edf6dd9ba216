"""Launches the sweeps on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton

from kernels.common.shapes import power_of_2
from kernels.scalar_decay.backward import linear_bwd_dq_kernel
from kernels.scalar_decay.backward_dk_dv import linear_bwd_dk_dv_kernel
from kernels.scalar_decay.forward import linear_fwd_output_kernel
from kernels.scalar_decay.gates import linear_bwd_gate_kernel
from kernels.scalar_decay.plan import COMBINED, GATES, Plan, Sweep, plan_state
from kernels.scalar_decay.segments import linear_segment_combine_kernel, linear_segment_state_kernel
from kernels.scalar_decay.shape import Shape

COMBINE_BLOCK, COMBINE_GROUP = 512, 8
GATE_TILE = 2048


class State(NamedTuple):
    """S [N,HS,K,V] and z [N,HS,K], or their gradients: z is None unless normalised, both where there is no state."""

    S: torch.Tensor | None = None
    z: torch.Tensor | None = None


class Inputs(NamedTuple):
    """Contiguous inputs: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V]; gate [B,T,HS] and rate [HS] as `DECAY` in device.py
    has them; skip D [HS]; out_gate [B,T,HS,V]."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    gate: torch.Tensor | None = None
    rate: torch.Tensor | None = None
    skip: torch.Tensor | None = None
    out_gate: torch.Tensor | None = None


class Segments(NamedTuple):
    """What a sweep's segments start from: `states` [slots, HS, KV (+ K)], `totals` [slots, HS]; see segments.py."""

    states: torch.Tensor | None = None
    totals: torch.Tensor | None = None


class Kept(NamedTuple):
    """What the forward pass leaves for the backward one, each None where there is none: o and den [B, T, HS] of a
    normalised call, y [B, T, HS, V] before the output's gate, and what its segments start from."""

    o: torch.Tensor | None
    den: torch.Tensor | None
    y: torch.Tensor | None
    segments: Segments


@dataclass(frozen=True)
class Call:
    """One call's shapes and constants, as every launch needs them.

    cu_seqlens [N + 1] is on the device of q, or is None; eps is added to the denominator; some_empty: whether a
    sequence has no tokens.
    """

    shape: Shape
    plan: Plan
    T: int
    H: int
    HK: int
    HV: int
    cu_seqlens: torch.Tensor | None
    scale: float
    eps: float
    some_empty: bool

    @property
    def heads(self) -> dict[str, int]:
        return {"H": self.H, "HK": self.HK, "HV": self.HV}

    @property
    def dims(self) -> dict[str, int]:
        s = self.shape
        return {"HS": s.heads, "K": s.K, "V": s.V}

    @property
    def sloped(self) -> bool:
        """Whether phi has a slope. Only then, or for a gate's gradient, does dq's sweep read q, and dk's k."""
        return self.shape.feature_map != "identity"

    def unless_full(self, x: torch.Tensor | None) -> torch.Tensor | None:
        """The tensor if causal, else None: without causality all tokens read the states that the state pass left."""
        return x if self.shape.causal else None

    @property
    def gated(self) -> bool:
        return self.shape.decay in GATES

    @property
    def options(self) -> dict[str, Any]:
        # Three TF32 products hold 1e-4 on tensor cores; one would not (2e-3), and IEEE runs outside of them.
        s = self.shape
        precision = "tf32x3" if s.dtype == "float32" else "tf32"
        return {
            "MAP": s.feature_map,
            "NORMALISED": s.normalised,
            "DECAY": s.decay,
            "PRECISION": precision,
            "CAUSAL": s.causal,
        }


def forward(call: Call, x: Inputs, start: State, end: State, training: bool) -> tuple[torch.Tensor, Kept]:
    """o [B, T, HS, V] and what the backward pass needs.

    start: the initial state; end: receives the final state, where given; training: whether a backward pass follows.
    """
    s, sweep = call.shape, call.plan.output
    o = x.q.new_empty(*x.q.shape[:2], s.heads, s.V)
    den = torch.empty(o.shape[:3], device=o.device, dtype=torch.float32) if s.normalised else None
    y = torch.empty_like(o) if training and x.out_gate is not None else None
    segments = _segments(call, sweep, x, x.k, x.v, start) if sweep.from_states else Segments()
    linear_fwd_output_kernel[_grid(call, sweep)](
        q=x.q,
        k=call.unless_full(x.k),
        v=call.unless_full(x.v),
        gate=x.gate,
        rate=x.rate,
        skip=x.skip,
        out_gate=x.out_gate,
        o=o,
        y=y,
        den=den,
        S_start=start.S,
        z_start=start.z,
        **segments._asdict(),
        S_end=end.S,
        z_end=end.z,
        scale=call.scale,
        eps=call.eps,
        **_span(call, sweep),
        **call.heads,
        **call.dims,
        **_tile(sweep, BK=power_of_2(s.K), BV=_width(sweep, s.V), SLICES=sweep.slices),
        **call.options,
    )
    return o, Kept(o if s.normalised else None, den, y, segments)


class Gradients(NamedTuple):
    """Gradients of Inputs, for each state head where heads are shared; None where there is no such input."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    gate: torch.Tensor | None
    rate: torch.Tensor | None
    skip: torch.Tensor | None
    out_gate: torch.Tensor | None


def backward(call: Call, x: Inputs, kept: Kept, do, start: State, *, d_start: State, d_end: State) -> Gradients:
    """The inputs' gradients.

    kept: what `forward` returned; d_end: gradient of the final state, or Nones; d_start: receives that of the initial
    state, where given.
    """
    dy, d_out_gate = (None, None) if x.out_gate is None else (torch.empty_like(do), torch.empty_like(x.out_gate))
    dq, delta, d_skip, q_dq, d_last = _backward_dq(call, x, kept, do, start, dy=dy, d_out_gate=d_out_gate, d_end=d_end)
    do = do if dy is None else dy
    dk, dv, d_gate, d_weight = _backward_dk_dv(
        call, x, kept, do, delta, q_dq=q_dq, d_last=d_last, d_end=d_end, d_start=d_start
    )
    d_gate, d_rate = _backward_gate(call, x, d_gate, d_weight) if call.gated else (None, None)
    return Gradients(dq, dk, dv, d_gate, d_rate, d_skip, d_out_gate)


def _backward_dq(call: Call, x: Inputs, kept: Kept, do, start: State, *, dy, d_out_gate, d_end: State):
    """dy and d_out_gate receive what an output gate leaves of do and its own gradient, or are None."""
    s, sweep = call.shape, call.plan.dq
    dq = x.q.new_empty(*x.q.shape[:2], s.heads, s.K)
    delta = None if kept.den is None else torch.empty_like(kept.den)
    q_dq = _parts(call, dq, sweep.slices)
    dS_end = d_end.S if call.gated else None
    d_last = None if dS_end is None else dq.new_empty(s.sequences, s.heads, sweep.slices, dtype=torch.float32)
    d_skip = None
    if x.skip is not None:
        # Packed, some programs of a short sequence have no tokens and write nothing.
        make = dq.new_zeros if s.packed else dq.new_empty
        d_skip = make(s.sequences * sweep.segments, s.heads, dtype=torch.float32)
    segments = kept.segments
    if sweep.from_states and segments.states is None:
        segments = _segments(call, sweep, x, x.k, x.v, start)
    linear_bwd_dq_kernel[_grid(call, sweep)](
        q=x.q if call.sloped or call.gated else None,
        k=call.unless_full(x.k),
        v=call.unless_full(x.v),
        gate=x.gate,
        rate=x.rate,
        o=kept.o,
        do=do,
        y=kept.y,
        out_gate=x.out_gate,
        den=kept.den,
        delta=delta,
        dq=dq,
        dy=dy,
        d_out_gate=d_out_gate,
        q_dq=q_dq,
        d_skip=d_skip,
        dS_end=dS_end,
        d_last=d_last,
        S_start=start.S,
        z_start=start.z,
        **(segments if sweep.from_states else Segments())._asdict(),
        scale=call.scale,
        **_span(call, sweep),
        **call.heads,
        **call.dims,
        **_tile(sweep, BK=_width(sweep, s.K), BV=power_of_2(s.V), SLICES=sweep.slices),
        **call.options,
    )
    return dq, delta, None if d_skip is None else d_skip.sum(0), q_dq, d_last


def _backward_dk_dv(call: Call, x: Inputs, kept: Kept, do, delta, *, q_dq, d_last, d_end: State, d_start: State):
    s, sweep = call.shape, call.plan.dk_dv
    dk = x.q.new_empty(*x.q.shape[:2], s.heads, s.K)
    dv = x.q.new_empty(*x.q.shape[:2], s.heads, s.V)
    widths = {"WK": _width(sweep, s.K), "WV": _width(sweep, s.V)}
    slices = triton.cdiv(s.K, widths["WK"])
    d_gate = _parts(call, dk, slices)
    d_weight = _parts(call, dk, slices) if s.decay == "step" else None
    segments = Segments()
    if sweep.from_states:
        segments = _segments(call, sweep, x, x.q, do, d_end, den=kept.den, delta=delta, reverse=True)
    linear_bwd_dk_dv_kernel[_grid(call, sweep)](
        q=call.unless_full(x.q),
        k=x.k,
        v=x.v,
        gate=x.gate,
        rate=x.rate,
        skip=x.skip,
        do=call.unless_full(do),
        den=call.unless_full(kept.den),
        delta=call.unless_full(delta),
        q_dq=q_dq,
        dk=dk,
        dv=dv,
        d_gate=d_gate,
        d_weight=d_weight,
        dS_start=d_start.S,
        dz_start=d_start.z,
        dS_end=d_end.S,
        dz_end=d_end.z,
        **segments._asdict(),
        d_last=d_last,
        scale=call.scale,
        **_span(call, sweep),
        **call.heads,
        **call.dims,
        **widths,
        **_tile(sweep, BK=power_of_2(s.K), BV=power_of_2(s.V), SLICES=sweep.slices),
        DQ_SLICES=call.plan.dq.slices,
        **call.options,
    )
    return dk, dv, d_gate, d_weight


def _backward_gate(call: Call, x: Inputs, d_gate, d_weight):
    """Gradients of gate [B, T, HS] and rate [HS]."""
    s, sweep = call.shape, call.plan.dk_dv
    assert x.gate is not None
    dx = torch.empty_like(x.gate)
    blocks = triton.cdiv(s.longest, s.chunk)
    d_rate = d_gate.new_empty(s.sequences * blocks, s.heads) if x.rate is not None else None
    width = min(triton.next_power_of_2(s.heads), max(1, GATE_TILE // s.chunk))
    linear_bwd_gate_kernel[(s.sequences * blocks * triton.cdiv(s.heads, width),)](
        d_gate=d_gate,
        d_weight=d_weight,
        gate=x.gate,
        rate=x.rate,
        dx=dx,
        d_rate=d_rate,
        cu_seqlens=call.cu_seqlens,
        T=call.T,
        segment_size=sweep.segment_size,
        blocks=blocks,
        HS=s.heads,
        SLICES=d_gate.shape[-1],
        BT=s.chunk,
        BH=width,
        DECAY=s.decay,
        num_warps=4,
    )
    return dx, None if d_rate is None else d_rate.sum(0)


def _parts(call: Call, like, slices: int):
    """[B, T, HS, slices] fp32, where a gate needs its gradient."""
    if not call.gated:
        return None
    return like.new_empty(*like.shape[:3], slices, dtype=torch.float32)


def _segments(
    call: Call, sweep: Sweep, inputs: Inputs, x, y, start: State, *, den=None, delta=None, reverse: bool = False
) -> Segments:
    """What each segment contributes, in one launch, or, where these are many, starts from, in two."""
    s, own = call.shape, plan_state(call.shape, sweep)
    size = s.K * s.V + (s.K if s.normalised else 0)
    states = torch.empty(sweep.slots, s.heads, size, device=x.device, dtype=torch.float32)
    totals = None if s.decay == "none" else states.new_empty(sweep.slots, s.heads)
    linear_segment_state_kernel[_grid(call, own)](
        x=x,
        y=y,
        gate=inputs.gate,
        rate=inputs.rate,
        den=den,
        delta=delta,
        states=states,
        totals=totals,
        cu_seqlens=call.cu_seqlens,
        T=call.T,
        segment_size=sweep.segment_size,
        segments=sweep.segments,
        HX=x.shape[2],
        HY=y.shape[2],
        **call.dims,
        **_tile(own, BK=power_of_2(s.K), BV=_width(own, s.V), SLICES=own.slices),
        **call.options,
        REVERSE=reverse,
    )
    if sweep.start == COMBINED:
        linear_segment_combine_kernel[(s.sequences * s.heads * triton.cdiv(size, COMBINE_BLOCK),)](
            states=states,
            totals=totals,
            S_start=start.S,
            z_start=start.z,
            cu_seqlens=call.cu_seqlens,
            factor=1.0 / call.scale if reverse else 1.0,
            segment_size=sweep.segment_size,
            segments=sweep.segments,
            SIZE=size,
            S_SIZE=s.K * s.V,
            HS=s.heads,
            BLOCK=COMBINE_BLOCK,
            GROUP=COMBINE_GROUP,
            DECAY=s.decay,
            REVERSE=reverse,
            num_warps=4,
        )
    return Segments(states, totals)


def _grid(call: Call, sweep: Sweep) -> tuple[int]:
    return (call.shape.sequences * sweep.segments * call.shape.heads * sweep.slices,)


def _span(call: Call, sweep: Sweep) -> dict[str, Any]:
    segments = {"segment_size": sweep.segment_size, "segments": sweep.segments, "START": sweep.start}
    return {"cu_seqlens": call.cu_seqlens, "T": call.T, **segments}


def _width(sweep: Sweep, size: int) -> int:
    """Columns of a slice of a dimension."""
    return min(sweep.tile.width, power_of_2(size))


def _tile(sweep: Sweep, **blocks: int) -> dict[str, int]:
    return {**blocks, "BT": sweep.chunk, "num_warps": sweep.tile.warps, "num_stages": sweep.tile.stages}
