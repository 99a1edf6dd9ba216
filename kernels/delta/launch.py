"""Launches the kernels on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from kernels.common.shapes import power_of_2
from kernels.delta.backward import delta_bwd_gradients_kernel, delta_bwd_state_kernel
from kernels.delta.forward import delta_fwd_output_kernel, delta_inverse_kernel
from kernels.delta.plan import Plan, Shape, Sweep
from kernels.delta.segments import delta_segment_combine_kernel, delta_segment_map_kernel

COMBINE_WIDTH, COMBINE_BLOCK, COMBINE_WARPS = 16, 32, 4


@dataclass(frozen=True)
class Call:
    """One call's shapes and constants, as every launch needs them.

    q [B,T,H,K], k [B,T,n,H,K], v [B,T,n,HS,V], beta [B,T,n,HS], log_decay [B,T,HS] or None, contiguous; cu_seqlens
    [N + 1] on their device, or None. T counts tokens, steps is n; some_empty: whether a sequence has no tokens.
    """

    shape: Shape
    plan: Plan
    T: int
    steps: int
    cu_seqlens: torch.Tensor | None
    scale: float
    l2norm: bool
    some_empty: bool

    @property
    def stored(self) -> bool:
        """Whether N is made by a launch of its own."""
        return self.plan.stored

    @property
    def dims(self) -> dict[str, int]:
        s = self.shape
        return {"H": s.shared, "HS": s.heads, "K": s.K, "V": s.V, "STEPS": self.steps, "BT": self.plan.chunk}

    @property
    def precision(self) -> str:
        # Three TF32 products hold 1e-4 on tensor cores; one would not (2e-3), and IEEE runs outside of them.
        return "tf32x3" if self.shape.dtype == "float32" else "tf32"

    @property
    def options(self) -> dict[str, Any]:
        return {"L2NORM": self.l2norm, "PRECISION": self.precision}

    @property
    def inversion(self) -> dict[str, Any]:
        return {"STORED": self.stored, "INVERT": "tf32x3" if self.shape.dtype == "float32" else "half"}


@dataclass(frozen=True)
class Saved:
    """What the forward pass leaves for the backward one.

    residual: r [B,T,n,HS,V] in v's dtype; inverse: N [chunks, HS, BT, BT] in k's; states [kept, HS, K, V], the
    one before every `plan.keep` chunks, bfloat16 for bfloat16, else fp32; maps: M of each segment [slots, HS, K, K]
    fp32, or None on chip.
    """

    residual: torch.Tensor | None = None
    inverse: torch.Tensor | None = None
    states: torch.Tensor | None = None
    maps: torch.Tensor | None = None


def forward(call: Call, q, k, v, beta, log_decay, start, end, differentiated: bool):
    """o [B, T, HS, V] and what the backward pass needs, nothing where there is none.

    start: the initial state or None; end: receives the final state, where given.
    """
    s, sweep = call.shape, call.plan.output
    o = q.new_empty(*q.shape[:2], s.heads, s.V)
    residual = torch.empty_like(v) if differentiated else None
    states = _kept_states(call, q) if differentiated else None
    inverse = None
    if differentiated or call.stored:
        inverse = q.new_empty(call.plan.chunks.slots, s.heads, call.plan.chunk, call.plan.chunk)
    if call.stored:
        _invert(call, k, beta, log_decay, inverse)
    starts, maps = start, None
    if sweep.segmented:
        starts, maps = _segment_maps(call, k, v, beta, log_decay, inverse, start, differentiated)
    delta_fwd_output_kernel[_grid(call, sweep)](
        q,
        k,
        v,
        beta,
        log_decay,
        o,
        residual,
        inverse,
        states,
        starts,
        end,
        call.cu_seqlens,
        call.scale,
        **_span(call, sweep),
        **call.dims,
        **_tile(sweep, s.K),
        **call.options,
        **call.inversion,
        KEEP=call.plan.keep,
        SEGMENTED=sweep.segmented,
    )
    return o, Saved(residual, inverse, states, maps)


def backward(call: Call, q, k, beta, log_decay, saved: Saved, do, d_end, d_start):
    """dq [B,T,H,K], dk [B,T,n,H,K], dv [B,T,n,HS,V], dbeta [B,T,n,HS], dlog_decay [B,T,HS] or None.

    d_end: gradient of the final state, or None; d_start: receives that of the initial state, where given.
    """
    s, sweep = call.shape, call.plan.state
    if sweep.segmented:
        d_end = _segment_gradients(call, q, k, beta, log_decay, saved, do, d_end)
    dv, dstates = torch.empty_like(saved.residual), _kept_states(call, q)
    delta_bwd_state_kernel[_grid(call, sweep)](
        q,
        k,
        do,
        beta,
        log_decay,
        saved.inverse,
        dv,
        dstates,
        None,
        d_end,
        d_start,
        call.cu_seqlens,
        call.scale,
        **_span(call, sweep),
        **call.dims,
        **_tile(sweep, s.K),
        **call.options,
        KEEP=call.plan.keep,
        SEGMENTED=sweep.segmented,
    )
    dq, dk = torch.empty_like(q), torch.empty_like(k)
    chunks = call.plan.chunks
    dbeta = beta.new_empty(chunks.slices, *beta.shape, dtype=torch.float32)
    decayed = log_decay is not None
    dlog_decay = log_decay.new_empty(chunks.slices, *log_decay.shape, dtype=torch.float32) if decayed else None
    delta_bwd_gradients_kernel[(s.sequences * chunks.segments * s.shared * chunks.slices,)](
        q,
        k,
        do,
        dv,
        saved.residual,
        saved.states,
        dstates,
        beta,
        log_decay,
        dq,
        dk,
        dbeta,
        dlog_decay,
        call.cu_seqlens,
        call.scale,
        **_span(call, chunks),
        tokens_in_all=s.steps // call.steps,
        **call.dims,
        BK=call.plan.columns,
        BV=chunks.tile.width,
        SLICES=chunks.slices,
        **call.options,
        KEEP=call.plan.keep,
        num_warps=chunks.tile.warps,
        num_stages=chunks.tile.stages,
    )
    return dq, dk, dv, _summed(dbeta, beta), None if dlog_decay is None else _summed(dlog_decay, log_decay)


def _summed(parts: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A gradient in the dtype of what it belongs to, from the parts that slices of K found."""
    return (parts[0] if parts.shape[0] == 1 else parts.sum(0)).to(like.dtype)


def _kept_states(call: Call, like: torch.Tensor) -> torch.Tensor:
    # A float16 state could overflow, and bfloat16 would cost the others their digits.
    s, dtype = call.shape, torch.bfloat16 if call.shape.dtype == "bfloat16" else torch.float32
    return like.new_empty(call.plan.kept, s.heads, s.K, s.V, dtype=dtype)


def _invert(call: Call, k, beta, log_decay, inverse) -> None:
    s, chunks, tile = call.shape, call.plan.chunks, call.plan.inverse
    dims = {name: size for name, size in call.dims.items() if name != "V"}
    delta_inverse_kernel[(s.sequences * chunks.segments * s.heads,)](
        k,
        beta,
        log_decay,
        inverse,
        call.cu_seqlens,
        **_span(call, chunks),
        **dims,
        BK=power_of_2(s.K),
        **call.options,
        INVERT=call.inversion["INVERT"],
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def _segment_maps(call: Call, k, v, beta, log_decay, inverse, start, differentiated: bool):
    """(states that the segments start from [slots, HS, K, V], maps [slots, HS, K, K]), fp32."""
    s, sweep = call.shape, call.plan.map
    states, maps = (
        torch.empty(sweep.slots, s.heads, s.K, width, device=k.device, dtype=torch.float32) for width in (s.V, s.K)
    )
    delta_segment_map_kernel[_grid(call, sweep)](
        k,
        v,
        beta,
        log_decay,
        inverse,
        states,
        maps,
        call.cu_seqlens,
        **_span(call, sweep),
        **call.dims,
        **_tile(sweep, s.K),
        OF_V=-(-s.V // sweep.tile.width),
        ALL=differentiated,
        **call.options,
        **call.inversion,
    )
    _combine(call, states, maps, start, reverse=False)
    return states, maps


def _segment_gradients(call: Call, q, k, beta, log_decay, saved: Saved, do, d_end) -> torch.Tensor:
    """The state's gradient at the end of each segment, [slots, HS, K, V] fp32."""
    s, sweep = call.shape, call.plan.state
    local = torch.empty(sweep.slots, s.heads, s.K, s.V, device=k.device, dtype=torch.float32)
    delta_bwd_state_kernel[_grid(call, sweep)](
        q,
        k,
        do,
        beta,
        log_decay,
        saved.inverse,
        None,
        None,
        local,
        None,
        None,
        call.cu_seqlens,
        call.scale,
        **_span(call, sweep),
        **call.dims,
        **_tile(sweep, s.K),
        **call.options,
        KEEP=call.plan.keep,
        SEGMENTED=True,
    )
    _combine(call, local, saved.maps, d_end, reverse=True)
    return local


def _combine(call: Call, states, maps, start, *, reverse: bool) -> None:
    s, sweep = call.shape, call.plan.map
    slices = -(-s.V // COMBINE_WIDTH)
    delta_segment_combine_kernel[(s.sequences * s.heads * slices,)](
        states,
        maps,
        start,
        call.cu_seqlens,
        **_span(call, sweep),
        HS=s.heads,
        K=s.K,
        V=s.V,
        STEPS=call.steps,
        BK=power_of_2(s.K),
        BV=COMBINE_WIDTH,
        BLOCK=COMBINE_BLOCK,
        SLICES=slices,
        REVERSE=reverse,
        PRECISION=call.precision,
        num_warps=COMBINE_WARPS,
    )


def _grid(call: Call, sweep: Sweep) -> tuple[int]:
    return (call.shape.sequences * sweep.segments * call.shape.heads * sweep.slices,)


def _span(call: Call, sweep: Sweep) -> dict[str, int]:
    return {"T": call.T, "segment": sweep.segment, "segments": sweep.segments}


def _tile(sweep: Sweep, K: int) -> dict[str, int]:
    return {
        "BK": power_of_2(K),
        "BV": sweep.tile.width,
        "SLICES": sweep.slices,
        "num_warps": sweep.tile.warps,
        "num_stages": sweep.tile.stages,
    }
