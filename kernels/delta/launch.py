"""Launches the kernels on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from kernels.common.shapes import power_of_2
from kernels.delta.backward import delta_bwd_dk_kernel, delta_bwd_dq_kernel, delta_bwd_state_kernel
from kernels.delta.forward import delta_fwd_output_kernel, delta_prepare_kernel
from kernels.delta.plan import WIDEST, Plan, Shape, Sweep
from kernels.delta.segments import delta_segment_combine_kernel, delta_segment_map_kernel

COMBINE_WIDTH, COMBINE_BLOCK, COMBINE_WARPS, COMBINE_STAGES = 32, 32, 4, 3


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
    def inversion(self) -> str:
        return "tf32x3" if self.shape.dtype == "float32" else "half"


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


class Chunks(NamedTuple):
    """What `delta_prepare_kernel` makes of every chunk, for all sweeps.

    inverse, scores: N and P [chunks, HS, BT, BT] in k's dtype; factors: of rows [chunks, HS, BT, 4], fp32
    """

    inverse: torch.Tensor
    scores: torch.Tensor
    factors: torch.Tensor


class Saved(NamedTuple):
    """What the forward pass leaves for the backward pass.

    inverse, scores, factors: see Chunks; residual: r [B,T,n,HS,V] in v's dtype; states [chunks, HS, V, K], transposed,
    the one before every chunk, bfloat16 for bfloat16, else fp32; maps: M of each segment
    [slots, HS, K, K], float16 or fp32 for fp32, or None on chip.
    """

    inverse: torch.Tensor
    scores: torch.Tensor
    factors: torch.Tensor
    residual: torch.Tensor | None = None
    states: torch.Tensor | None = None
    maps: torch.Tensor | None = None

    @property
    def chunks(self) -> Chunks:
        return Chunks(self.inverse, self.scores, self.factors)


def forward(call: Call, x: Inputs, S_start, S_end, training: bool):
    """o [B, T, HS, V] and what the backward pass needs, which is nothing without training.

    S_start: the initial state or None; S_end: receives the final state, where given.
    """
    s, sweep = call.shape, call.plan.output
    o = x.q.new_empty(*x.q.shape[:2], s.heads, s.V)
    residual = torch.empty_like(x.v) if training else None
    states = _kept_states(call, x.q) if training else None
    chunks = _prepare(call, x)
    starts, maps = S_start, None
    if sweep.segmented:
        starts, maps = _segment_maps(call, x, chunks, S_start, training)
    delta_fwd_output_kernel[_grid(call, sweep)](
        q=x.q,
        k=x.k,
        v=x.v,
        **chunks._asdict(),
        o=o,
        residual=residual,
        states=states,
        S_start=starts,
        S_end=S_end,
        **_sweep(call, sweep),
        SEGMENTED=sweep.segmented,
    )
    return o, Saved(*chunks, residual, states, maps) if training else None


def backward(call: Call, q, k, beta, log_decay, *, saved: Saved, do, dS_start, dS_end):
    """dq [B,T,H,K], dk [B,T,n,H,K], dv [B,T,n,HS,V], dbeta [B,T,n,HS], dlog_decay [B,T,HS] or None.

    dS_end: gradient of the final state, or None; dS_start: receives that of the initial state, where given.
    """
    s, sweep = call.shape, call.plan.state
    tensors = {"q": q, "k": k, "do": do}
    swept = {**tensors, **saved.chunks._asdict()}
    if sweep.segmented:
        dS_end = _segment_gradients(call, swept, saved.maps, dS_end)
    dv, dstates = torch.empty_like(saved.residual), _kept_states(call, q)
    delta_bwd_state_kernel[_grid(call, sweep)](
        **swept,
        dv=dv,
        dstates=dstates,
        local=None,
        dS_start=dS_start,
        dS_end=dS_end,
        **_sweep(call, sweep),
        SEGMENTED=sweep.segmented,
    )
    dq, dk = torch.empty_like(q), torch.empty_like(k)
    of_pairs = {name: torch.empty_like(saved.scores) for name in ("pairs_q", "pairs_k")}
    slices = call.plan.dq.slices
    dbeta = beta.new_empty(slices, *beta.shape, dtype=torch.float32)
    ending = torch.empty_like(dbeta)
    dlog_decay = passing = None
    if log_decay is not None:
        dlog_decay = log_decay.new_empty(slices, *log_decay.shape, dtype=torch.float32)
        passing = torch.empty_like(dbeta)
    shared = {"q": q, "k": k, "dv": dv, "residual": saved.residual, "states": saved.states, "beta": beta}
    shared |= {"log_decay": log_decay, **of_pairs, "ending": ending, "passing": passing, "steps_in_all": s.steps}
    for kernel, sweep, own in (
        (delta_bwd_dq_kernel, call.plan.dq, {"do": do, "dq": dq, "scale": call.scale}),
        (delta_bwd_dk_kernel, call.plan.dk, {"dstates": dstates, "dk": dk, "dbeta": dbeta, "dlog_decay": dlog_decay}),
    ):
        grid = (s.sequences * sweep.segments * s.shared * slices,)
        kernel[grid](**shared, **own, **_sweep(call, sweep, BK=call.plan.columns))
    return dq, dk, dv, _summed(dbeta, beta), None if log_decay is None else _summed(dlog_decay, log_decay)


def _summed(parts: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """A gradient in the dtype of its tensor `like`, from the parts that the slices of K found."""
    return (parts[0] if parts.shape[0] == 1 else parts.sum(0)).to(like.dtype)


def _kept_states(call: Call, like: torch.Tensor) -> torch.Tensor:
    # A float16 state could overflow, and bfloat16 would cost the others their digits.
    s, dtype = call.shape, torch.bfloat16 if call.shape.dtype == "bfloat16" else torch.float32
    return like.new_empty(call.plan.dq.slots, s.heads, s.V, s.K, dtype=dtype)


def _prepare(call: Call, x: Inputs) -> Chunks:
    s, sweep, C = call.shape, call.plan.prepare, call.plan.chunk
    chunks = call.plan.dq.slots
    squares = (x.k.new_empty(chunks, s.heads, C, C) for _ in range(2))
    made = Chunks(*squares, x.k.new_empty(chunks, s.heads, C, 4, dtype=torch.float32))
    delta_prepare_kernel[_grid(call, sweep)](
        q=x.q,
        k=x.k,
        beta=x.beta,
        log_decay=x.log_decay,
        **made._asdict(),
        **_cut(call, sweep),
        scale=call.scale,
        T=call.T,
        **call.dims,
        BK=power_of_2(s.K),
        **call.options,
        INVERT=call.inversion,
        num_warps=sweep.tile.warps,
        num_stages=sweep.tile.stages,
        **({"maxnreg": sweep.tile.registers} if sweep.tile.registers else {}),
    )
    return made


def _segment_maps(call: Call, x: Inputs, chunks: Chunks, S_start, training: bool):
    """(states that the segments start from [slots, HS, K, V], fp32, maps [slots, HS, K, K])."""
    s, sweep = call.shape, call.plan.map
    states = _segment_states(call, x.k)
    # No element of a product of contractions is above 1, so float16 holds it as exactly as TF32 would take it.
    precise = s.dtype == "float32"
    maps = x.k.new_empty(sweep.slots, s.heads, s.K, s.K, dtype=torch.float32 if precise else torch.float16)
    delta_segment_map_kernel[_grid(call, sweep)](
        k=x.k,
        v=x.v,
        inverse=chunks.inverse,
        factors=chunks.factors,
        S_start=S_start,
        states=states,
        maps=maps,
        **_sweep(call, sweep),
        OF_V=-(-s.V // sweep.tile.width),
        ALL=training,
    )
    return _combined(call, states, maps, S_start, reverse=False), maps


def _segment_gradients(call: Call, swept: dict[str, Any], maps, dS_end) -> torch.Tensor:
    """The gradient of the state at the end of each segment, [slots, HS, K, V] fp32."""
    sweep, local = call.plan.state, _segment_states(call, swept["k"])
    delta_bwd_state_kernel[_grid(call, sweep)](
        **swept,
        dv=None,
        dstates=None,
        local=local,
        dS_start=None,
        dS_end=None,
        **_sweep(call, sweep),
        SEGMENTED=True,
    )
    return _combined(call, local, maps, dS_end, reverse=True)


def _segment_states(call: Call, like: torch.Tensor) -> torch.Tensor:
    s = call.shape
    return like.new_empty(call.plan.map.slots, s.heads, s.K, s.V, dtype=torch.float32)


def _combined(call: Call, states, maps, boundary, *, reverse: bool) -> torch.Tensor:
    """The states that segments start from, or with `reverse` the gradients at their ends."""
    s, slices, height = call.shape, -(-call.shape.V // COMBINE_WIDTH), power_of_2(call.shape.K)
    starts = torch.empty_like(states)
    delta_segment_combine_kernel[(s.sequences * s.heads * slices,)](
        states=states,
        maps=maps,
        starts=starts,
        boundary=boundary,
        **_cut(call, call.plan.map),
        HS=s.heads,
        K=s.K,
        V=s.V,
        STEPS=call.steps,
        BK=height,
        BV=COMBINE_WIDTH,
        BLOCK=COMBINE_BLOCK if s.dtype == "float32" or height > WIDEST else height,
        SLICES=slices,
        REVERSE=reverse,
        PRECISION=call.precision,
        num_warps=COMBINE_WARPS,
        num_stages=COMBINE_STAGES,
    )
    return starts


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
