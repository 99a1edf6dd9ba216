"""Launches the kernels on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from kernels.common.shapes import power_of_2
from kernels.delta.backward import delta_bwd_gradients_kernel, delta_bwd_state_kernel
from kernels.delta.forward import delta_fwd_output_kernel, delta_inverse_kernel
from kernels.delta.plan import Plan, Shape, Sweep
from kernels.delta.segments import delta_segment_combine_kernel, delta_segment_map_kernel

COMBINE_WIDTH, COMBINE_BLOCK, COMBINE_WARPS = 16, 32, 4


@dataclass(frozen=True)
class Call:
    """Shapes and constants of one call, as every launch needs them.

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
    def dims(self) -> dict[str, int]:
        s = self.shape
        return {"H": s.shared, "HS": s.heads, "K": s.K, "STEPS": self.steps, "BT": self.plan.chunk}

    @property
    def precision(self) -> str:
        # Three TF32 products hold 1e-4 on tensor cores; one would not (2e-3), and IEEE runs outside of them.
        return "tf32x3" if self.shape.dtype == "float32" else "tf32"

    @property
    def options(self) -> dict[str, Any]:
        return {"L2NORM": self.l2norm, "PRECISION": self.precision}

    @property
    def inversion(self) -> dict[str, Any]:
        return {"STORED": self.plan.stored, "INVERT": "tf32x3" if self.shape.dtype == "float32" else "half"}


class Inputs(NamedTuple):
    """q [B,T,H,K], k [B,T,n,H,K], v [B,T,n,HS,V], beta [B,T,n,HS], log_decay [B,T,HS] or None, all contiguous."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    beta: torch.Tensor
    log_decay: torch.Tensor | None

    def contiguous(self) -> Inputs:
        """The same inputs, each of them contiguous."""
        tensors: Any = (None if x is None else x.contiguous() for x in self)
        return Inputs(*tensors)


class Saved(NamedTuple):
    """What the forward pass leaves for the backward pass.

    residual: r [B,T,n,HS,V] in v's dtype; inverse: N [chunks, HS, BT, BT] in k's; states [kept, HS, K, V], the
    one before every `plan.keep` chunks, bfloat16 for bfloat16, else fp32; maps: M of each segment [slots, HS, K, K]
    fp32, or None on chip.
    """

    residual: torch.Tensor | None = None
    inverse: torch.Tensor | None = None
    states: torch.Tensor | None = None
    maps: torch.Tensor | None = None


def forward(call: Call, x: Inputs, S_start, S_end, training: bool):
    """o [B, T, HS, V] and what the backward pass needs, which is nothing without training.

    S_start: the initial state or None; S_end: receives the final state, where given.
    """
    s, sweep = call.shape, call.plan.output
    o = x.q.new_empty(*x.q.shape[:2], s.heads, s.V)
    residual = torch.empty_like(x.v) if training else None
    states = _kept_states(call, x.q) if training else None
    inverse = None
    if training or call.plan.stored:
        inverse = x.q.new_empty(call.plan.chunks.slots, s.heads, call.plan.chunk, call.plan.chunk)
    if call.plan.stored:
        _invert(call, x, inverse)
    starts, maps = S_start, None
    if sweep.segmented:
        starts, maps = _segment_maps(call, x, inverse, S_start, training)
    delta_fwd_output_kernel[_grid(call, sweep)](
        **x._asdict(),
        o=o,
        residual=residual,
        inverse=inverse,
        states=states,
        S_start=starts,
        S_end=S_end,
        scale=call.scale,
        **_sweep(call, sweep),
        **call.inversion,
        KEEP=call.plan.keep,
        SEGMENTED=sweep.segmented,
    )
    return o, Saved(residual, inverse, states, maps)


def backward(call: Call, q, k, beta, log_decay, *, saved: Saved, do, dS_start, dS_end):
    """dq [B,T,H,K], dk [B,T,n,H,K], dv [B,T,n,HS,V], dbeta [B,T,n,HS], dlog_decay [B,T,HS] or None.

    dS_end: gradient of the final state, or None; dS_start: receives that of the initial state, where given.
    """
    s, sweep, chunks = call.shape, call.plan.state, call.plan.chunks
    tensors = {"q": q, "k": k, "do": do, "beta": beta, "log_decay": log_decay, "scale": call.scale}
    if sweep.segmented:
        dS_end = _segment_gradients(call, tensors, saved, dS_end)
    dv, dstates = torch.empty_like(saved.residual), _kept_states(call, q)
    delta_bwd_state_kernel[_grid(call, sweep)](
        **tensors,
        inverse=saved.inverse,
        dv=dv,
        dstates=dstates,
        local=None,
        dS_start=dS_start,
        dS_end=dS_end,
        **_sweep(call, sweep),
        KEEP=call.plan.keep,
        SEGMENTED=sweep.segmented,
    )
    dq, dk = torch.empty_like(q), torch.empty_like(k)
    dbeta = beta.new_empty(chunks.slices, *beta.shape, dtype=torch.float32)
    decayed = log_decay is not None
    dlog_decay = log_decay.new_empty(chunks.slices, *log_decay.shape, dtype=torch.float32) if decayed else None
    delta_bwd_gradients_kernel[(s.sequences * chunks.segments * s.shared * chunks.slices,)](
        **tensors,
        dv=dv,
        residual=saved.residual,
        states=saved.states,
        dstates=dstates,
        dq=dq,
        dk=dk,
        dbeta=dbeta,
        dlog_decay=dlog_decay,
        **_sweep(call, chunks, BK=call.plan.columns),
        tokens_in_all=s.steps // call.steps,
        KEEP=call.plan.keep,
    )
    return dq, dk, dv, _summed(dbeta, beta), _summed(dlog_decay, log_decay) if decayed else None


def _summed(parts: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A gradient in the dtype of its tensor `like`, from the parts that the slices of K found."""
    return (parts[0] if parts.shape[0] == 1 else parts.sum(0)).to(like.dtype)


def _kept_states(call: Call, like: torch.Tensor) -> torch.Tensor:
    # A float16 state could overflow, and bfloat16 would cost the others their digits.
    s, dtype = call.shape, torch.bfloat16 if call.shape.dtype == "bfloat16" else torch.float32
    return like.new_empty(call.plan.kept, s.heads, s.K, s.V, dtype=dtype)


def _invert(call: Call, x: Inputs, inverse) -> None:
    s, chunks, tile = call.shape, call.plan.chunks, call.plan.inverse
    delta_inverse_kernel[(s.sequences * chunks.segments * s.heads,)](
        k=x.k,
        beta=x.beta,
        log_decay=x.log_decay,
        inverse=inverse,
        **_cut(call, chunks),
        T=call.T,
        **call.dims,
        BK=power_of_2(s.K),
        **call.options,
        INVERT=call.inversion["INVERT"],
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def _segment_maps(call: Call, x: Inputs, inverse, S_start, training: bool):
    """(states that the segments start from [slots, HS, K, V], maps [slots, HS, K, K]), fp32."""
    s, sweep = call.shape, call.plan.map
    states, maps = (
        torch.empty(sweep.slots, s.heads, s.K, width, device=x.k.device, dtype=torch.float32) for width in (s.V, s.K)
    )
    delta_segment_map_kernel[_grid(call, sweep)](
        k=x.k,
        v=x.v,
        beta=x.beta,
        log_decay=x.log_decay,
        inverse=inverse,
        states=states,
        maps=maps,
        **_sweep(call, sweep),
        OF_V=-(-s.V // sweep.tile.width),
        ALL=training,
        **call.inversion,
    )
    _combine(call, states, maps, S_start, reverse=False)
    return states, maps


def _segment_gradients(call: Call, tensors: dict[str, Any], saved: Saved, dS_end) -> torch.Tensor:
    """The gradient of the state at the end of each segment, [slots, HS, K, V] fp32."""
    s, sweep = call.shape, call.plan.state
    local = tensors["k"].new_empty(sweep.slots, s.heads, s.K, s.V, dtype=torch.float32)
    delta_bwd_state_kernel[_grid(call, sweep)](
        **tensors,
        inverse=saved.inverse,
        dv=None,
        dstates=None,
        local=local,
        dS_start=None,
        dS_end=None,
        **_sweep(call, sweep),
        KEEP=call.plan.keep,
        SEGMENTED=True,
    )
    _combine(call, local, saved.maps, dS_end, reverse=True)
    return local


def _combine(call: Call, states, maps, boundary, *, reverse: bool) -> None:
    s, slices = call.shape, -(-call.shape.V // COMBINE_WIDTH)
    delta_segment_combine_kernel[(s.sequences * s.heads * slices,)](
        states=states,
        maps=maps,
        boundary=boundary,
        **_cut(call, call.plan.map),
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


def _cut(call: Call, sweep: Sweep) -> dict[str, Any]:
    """How sequences are cut into segments."""
    return {"cu_seqlens": call.cu_seqlens, "segment_size": sweep.segment_size, "segments": sweep.segments}


def _sweep(call: Call, sweep: Sweep, BK: int = 0) -> dict[str, Any]:
    """Sizes, tile and options of a kernel that works on slices; BK: columns of a tile of keys, all K if 0."""
    tile = sweep.tile
    tiles = {"BK": BK or power_of_2(call.shape.K), "BV": tile.width, "SLICES": sweep.slices}
    launch = {"num_warps": tile.warps, "num_stages": tile.stages}
    return {**_cut(call, sweep), "T": call.T, **call.dims, "V": call.shape.V, **tiles, **call.options, **launch}
