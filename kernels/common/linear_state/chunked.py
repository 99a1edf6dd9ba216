"""Launches the sweeps on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton

from kernels.common.linear_state.backward import linear_bwd_dk_kernel, linear_bwd_dq_kernel, linear_bwd_dv_kernel
from kernels.common.linear_state.forward import linear_fwd_output_kernel
from kernels.common.linear_state.plan import Plan, Shape, Sweep, plan_state, power_of_2
from kernels.common.linear_state.segments import linear_segment_combine_kernel, linear_segment_state_kernel

# (S, z): z is None unless normalised, both are None where there is no state.
State = tuple[torch.Tensor | None, torch.Tensor | None]
NO_STATE: State = (None, None)
COMBINE_BLOCK, COMBINE_GROUP = 512, 8


@dataclass(frozen=True)
class Call:
    """One call's shapes and constants, as every launch needs them.

    q [B, T, H, K], k [B, T, HK, K], v [B, T, HV, V], contiguous; cu_seqlens [N + 1] on their device, or None; eps is
    added to the denominator.
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

    @property
    def heads(self) -> dict[str, int]:
        return {"H": self.H, "HK": self.HK, "HV": self.HV}

    @property
    def dims(self) -> dict[str, int]:
        s = self.shape
        return {"HS": s.heads, "K": s.K, "V": s.V}

    @property
    def sloped(self) -> bool:
        """Whether phi has a slope: only then do dq and dk need q and k as they came."""
        return self.shape.feature_map != "identity"

    @property
    def options(self) -> dict[str, Any]:
        # Three TF32 products hold 1e-4 on tensor cores; one would not (2e-3), and IEEE runs outside of them.
        precision = "tf32x3" if self.shape.dtype == "float32" else "tf32"
        return {"MAP": self.shape.feature_map, "NORMALISED": self.shape.normalised, "PRECISION": precision}


def forward(call: Call, q, k, v, start: State, end: State):
    """o [B, T, HS, V], den [B, T, HS] or None, and the segments' start states or None.

    start: the initial state; end: receives the final state, where given.
    """
    s, sweep = call.shape, call.plan.output
    o = q.new_empty(*q.shape[:2], s.heads, s.V)
    den = torch.empty(o.shape[:3], device=q.device, dtype=torch.float32) if s.normalised else None
    states = _segment_states(call, sweep, k, v, start) if sweep.segmented else None
    linear_fwd_output_kernel[_grid(call, sweep)](
        q, k, v, o, den, *(start if states is None else (states, None)), *end, call.cu_seqlens, call.scale, call.eps,
        **_span(call, sweep), **call.heads, **call.dims, **_tile(sweep, BK=power_of_2(s.K), BV=sweep.tile.width),
        **call.options,
    )  # fmt: skip
    return o, den, states


def backward(call: Call, q, k, v, o, den, states, do, start: State, d_end: State, d_start: State):
    """dq [B, T, HS, K], dk [B, T, HS, K], dv [B, T, HS, V]: a gradient for each state head.

    den, states: what `forward` returned; d_end: gradient of the final state, or Nones; d_start: receives that of the
    initial state, where given.
    """
    dq, delta = _backward_dq(call, q, k, v, o, den, states, do, start)
    if call.plan.dk.segmented:
        d_end = _segment_states(call, call.plan.dk, q, do, d_end, weights=(den, delta), reverse=True), None
    return dq, *_backward_dk_dv(call, q, k, v, den, delta, do, d_end, d_start)


def _backward_dq(call: Call, q, k, v, o, den, states, do, start: State):
    s, sweep = call.shape, call.plan.dq
    dq = q.new_empty(*q.shape[:2], s.heads, s.K)
    delta = None if den is None else torch.empty_like(den)
    if sweep.segmented and states is None:
        states = _segment_states(call, sweep, k, v, start)
    linear_bwd_dq_kernel[_grid(call, sweep)](
        q if call.sloped else None, k, v, o, do, den, delta, dq, *(start if states is None else (states, None)),
        call.cu_seqlens, call.scale, **_span(call, sweep), **call.heads, **call.dims,
        **_tile(sweep, BK=sweep.tile.width, BV=power_of_2(s.V)), **call.options,
    )  # fmt: skip
    return dq, delta


def _backward_dk_dv(call: Call, q, k, v, den, delta, do, d_end: State, d_start: State):
    s = call.shape
    dk = q.new_empty(*q.shape[:2], s.heads, s.K)
    dv = q.new_empty(*q.shape[:2], s.heads, s.V)
    sweep = call.plan.dk
    linear_bwd_dk_kernel[_grid(call, sweep)](
        q, k if call.sloped else None, v, do, den, delta, dk, *d_end, *d_start, call.cu_seqlens, call.scale,
        **_span(call, sweep), **call.heads, **call.dims,
        **_tile(sweep, BK=sweep.tile.width, BV=power_of_2(s.V)), **call.options,
    )  # fmt: skip
    sweep = call.plan.dv
    linear_bwd_dv_kernel[_grid(call, sweep)](
        q, k, do, den, dv, d_end[0], call.cu_seqlens, call.scale,
        **_span(call, sweep), H=call.H, HK=call.HK, **call.dims,
        **_tile(sweep, BK=power_of_2(s.K), BV=sweep.tile.width), **call.options,
    )  # fmt: skip
    return dk, dv


def _segment_states(call: Call, sweep: Sweep, x, y, start: State, weights: State = NO_STATE, reverse: bool = False):
    """The state that each segment starts from, [slots, HS, KV (+ K)] fp32: one launch to sum, one to combine."""
    s, own = call.shape, plan_state(call.shape, sweep)
    size = s.K * s.V + (s.K if s.normalised else 0)
    states = torch.empty(sweep.slots, s.heads, size, device=x.device, dtype=torch.float32)
    linear_segment_state_kernel[_grid(call, own)](
        x, y, *weights, states, call.cu_seqlens, T=call.T, segment=sweep.segment, segments=sweep.segments,
        HX=x.shape[2], HY=y.shape[2], **call.dims, **_tile(own, BK=power_of_2(s.K), BV=own.tile.width),
        **call.options, REVERSE=reverse,
    )  # fmt: skip
    linear_segment_combine_kernel[(s.sequences * s.heads * triton.cdiv(size, COMBINE_BLOCK),)](
        states, *start, call.cu_seqlens, 1.0 / call.scale if reverse else 1.0, call.T, sweep.segment, sweep.segments,
        SIZE=size, S_SIZE=s.K * s.V, HS=s.heads, BLOCK=COMBINE_BLOCK, GROUP=COMBINE_GROUP, REVERSE=reverse, num_warps=4,
    )  # fmt: skip
    return states


def _grid(call: Call, sweep: Sweep) -> tuple[int]:
    return (call.shape.sequences * sweep.segments * call.shape.heads * sweep.slices,)


def _span(call: Call, sweep: Sweep) -> dict[str, int]:
    return {"T": call.T, "segment": sweep.segment, "segments": sweep.segments, "SEGMENTED": sweep.segmented}


def _tile(sweep: Sweep, **blocks: int) -> dict[str, int]:
    return {
        **blocks,
        "BT": sweep.chunk,
        "SLICES": sweep.slices,
        "num_warps": sweep.tile.warps,
        "num_stages": sweep.tile.stages,
    }
