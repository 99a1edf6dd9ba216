"""Launches the sweeps on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import triton

from kernels.channel_decay.alone import channel_fwd_alone_kernel
from kernels.channel_decay.backward_dk_dv import channel_bwd_dk_dv_kernel
from kernels.channel_decay.backward_dq import channel_bwd_dq_kernel
from kernels.channel_decay.forward import channel_fwd_output_kernel
from kernels.channel_decay.plan import Plan, Shape, Sweep
from kernels.channel_decay.prepare import channel_prepare_kernel
from kernels.channel_decay.segments import channel_segment_combine_kernel, channel_segment_state_kernel
from kernels.common.shapes import power_of_2

COMBINE_BLOCK = 512


class Inputs(NamedTuple):
    """Contiguous inputs: q [B,T,H,K], k [B,T,HK,K] or None, v [B,T,HV,V], g [B,T,HS,K], u [HS,K] or None."""

    q: torch.Tensor
    k: torch.Tensor | None
    v: torch.Tensor
    g: torch.Tensor
    u: torch.Tensor | None


class Gradients(NamedTuple):
    """Gradients of Inputs, those of q, k and v for each state head; None where there is no such input."""

    q: torch.Tensor
    k: torch.Tensor | None
    v: torch.Tensor
    g: torch.Tensor
    u: torch.Tensor | None


class Chunks(NamedTuple):
    """What `channel_prepare_kernel` makes of every chunk, for all sweeps; bf16 for bf16 inputs, else fp32.

    reads, writes: s e^R q and e^(E-G) k, [chunks, HS, C, K]; scores [chunks, HS, C, C]; decays: e^E [chunks, HS, K],
    fp32.
    """

    reads: torch.Tensor
    writes: torch.Tensor
    scores: torch.Tensor
    decays: torch.Tensor


@dataclass(frozen=True)
class Call:
    """One call's shapes and constants, as every launch needs them.

    cu_seqlens [N + 1] is on the inputs' device, or is None; some_empty: whether a sequence has no tokens.
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
    def dims(self) -> dict[str, int]:
        s = self.shape
        return {"HS": s.heads, "K": s.K, "V": s.V}

    @property
    def heads(self) -> dict[str, int]:
        return {"H": self.H, "HK": self.HK, "HV": self.HV, **self.dims}

    @property
    def cut(self) -> dict[str, Any]:
        return {"cu_seqlens": self.cu_seqlens, "segment_size": self.plan.segment_size, "segments": self.plan.segments}

    @property
    def options(self) -> dict[str, Any]:
        # Three TF32 products hold 1e-4 on tensor cores; one, 2e-3, does for fp16.
        return {"WIDE": self.shape.wide, "PRECISION": "tf32x3" if self.shape.dtype == "float32" else "tf32"}

    def launched(self, sweep: Sweep) -> dict[str, Any]:
        """A sweep's tokens and segments, steps, warps and stages, and how its products round."""
        own = {"T": self.T, "BT": sweep.chunk, "STAGES": sweep.tile.stages, "num_warps": sweep.tile.warps}
        return {**own, **self.cut, **self.options}

    def grid(self, sweep: Sweep) -> tuple[int]:
        return (self.shape.sequences * self.plan.segments * self.shape.heads * sweep.slices,)


def forward(call: Call, x: Inputs, start: torch.Tensor | None, end: torch.Tensor | None):
    """o [B, T, HS, V] and the segments' start states or None.

    start: the initial state; end: receives the final state, where given.
    """
    s, sweep = call.shape, call.plan.sweeps["output"]
    o = x.v.new_empty(*x.v.shape[:2], s.heads, s.V)
    own = {"o": o, "S_end": end, "BK": power_of_2(s.K), "BV": sweep.tile.width, "SLICES": sweep.slices}
    own |= {"SEGMENTED": call.plan.segmented, **call.launched(sweep)}
    if call.plan.alone:
        channel_fwd_alone_kernel[call.grid(sweep)](**x._asdict(), S_start=start, scale=call.scale, **call.heads, **own)
        return o, None
    chunks = _prepare(call, x)
    states = _segment_states(call, x, chunks, start) if call.plan.segmented else None
    channel_fwd_output_kernel[call.grid(sweep)](
        **chunks._asdict(), v=x.v, S_start=start if states is None else states, HV=call.HV, **call.dims, **own
    )
    return o, states


def backward(call: Call, x: Inputs, states, do, start, *, d_start, d_end) -> Gradients:
    """The inputs' gradients.

    states: what `forward` returned; start: the initial state; d_start: receives its gradient, where given; d_end:
    gradient of the final state. Each state may be None.
    """
    dq, checkpoints, contributions = _backward_dq(call, x, do, start if states is None else states)
    if contributions is not None:
        _combine(call, contributions, d_end, reverse=True)
        d_end = contributions
    s, sweep = call.shape, call.plan.sweeps["dk_dv"]
    dk = None if x.k is None else x.k.new_empty(dq.shape)
    dv = x.v.new_empty(do.shape)
    dg = torch.empty_like(x.g)
    du = None if x.u is None else x.u.new_empty(call.plan.slots, *x.u.shape, dtype=torch.float32)
    if du is not None and s.packed:
        # Slots follow from offsets, and some belong to no segment.
        du.zero_()
    channel_bwd_dk_dv_kernel[call.grid(sweep)](
        **x._asdict(),
        do=do,
        dq=dq,
        dk=dk,
        dv=dv,
        dg=dg,
        du=du,
        dS_start=d_start,
        dS_end=d_end,
        checkpoints=checkpoints,
        scale=call.scale,
        **call.heads,
        BK=power_of_2(s.K),
        BV=power_of_2(s.V),
        W=sweep.tile.width,
        SEGMENTED=call.plan.segmented,
        INTERVAL=call.plan.interval,
        **call.launched(sweep),
    )
    return Gradients(dq, dk, dv, dg, None if du is None or x.u is None else du.sum(0).to(x.u.dtype))


def _backward_dq(call: Call, x: Inputs, do, start: torch.Tensor | None):
    s, sweep, chosen = call.shape, call.plan.sweeps["dq"], call.plan
    dq = x.q.new_empty(*x.q.shape[:2], s.heads, s.K)
    kept = torch.float32 if s.wide else x.q.dtype
    checkpoints = x.q.new_empty(chosen.blocks, s.heads, s.K, s.V, dtype=kept)
    contributions = _rows_of_states(call, x.q) if chosen.segmented else None
    channel_bwd_dq_kernel[call.grid(sweep)](
        q=x.q if chosen.segmented else None,
        k=x.k,
        v=x.v,
        g=x.g,
        do=do,
        dq=dq,
        S_start=start,
        checkpoints=checkpoints,
        contributions=contributions,
        scale=call.scale,
        **call.heads,
        BK=sweep.tile.width,
        BV=power_of_2(s.V),
        SLICES=sweep.slices,
        SEGMENTED=chosen.segmented,
        EXCLUSIVE=s.bonus,
        INTERVAL=chosen.interval,
        **call.launched(sweep),
    )
    return dq, checkpoints, contributions


def _prepare(call: Call, x: Inputs) -> Chunks:
    s, chosen, sweep = call.shape, call.plan, call.plan.sweeps["prepare"]
    C, count, kept = chosen.chunk, chosen.chunks, torch.float32 if s.wide else x.q.dtype
    reads, writes = (x.q.new_empty(count, s.heads, C, s.K, dtype=kept) for _ in range(2))
    scores = x.q.new_empty(count, s.heads, C, C, dtype=kept)
    made = Chunks(reads, writes, scores, x.q.new_empty(count, s.heads, s.K, dtype=torch.float32))
    segments = -(-s.longest // chosen.together)
    cut = {"segment_size": chosen.together, "segments": segments}
    channel_prepare_kernel[(s.sequences * segments * s.heads,)](
        q=x.q,
        k=x.k,
        g=x.g,
        u=x.u,
        **made._asdict(),
        scale=call.scale,
        H=call.H,
        HK=call.HK,
        HS=s.heads,
        K=s.K,
        W=sweep.tile.width,
        **(call.launched(sweep) | cut),
    )
    return made


def _segment_states(call: Call, x: Inputs, chunks: Chunks, start: torch.Tensor | None) -> torch.Tensor:
    """The state that each segment starts from, [slots, HS, KV + K] fp32: one launch to sum, one to combine."""
    s, sweep = call.shape, call.plan.sweeps["state"]
    states = _rows_of_states(call, x.v)
    channel_segment_state_kernel[call.grid(sweep)](
        writes=chunks.writes,
        decays=chunks.decays,
        v=x.v,
        states=states,
        HV=call.HV,
        **call.dims,
        BK=power_of_2(s.K),
        BV=sweep.tile.width,
        SLICES=sweep.slices,
        **call.launched(sweep),
    )
    _combine(call, states, start, reverse=False)
    return states


def _rows_of_states(call: Call, like: torch.Tensor) -> torch.Tensor:
    s = call.shape
    return like.new_empty(call.plan.slots, s.heads, s.K * s.V + s.K, dtype=torch.float32)


def _combine(call: Call, states: torch.Tensor, start: torch.Tensor | None, reverse: bool) -> None:
    s = call.shape
    channel_segment_combine_kernel[(s.sequences * s.heads * triton.cdiv(s.K * s.V, COMBINE_BLOCK),)](
        states=states, S_start=start, **call.cut, **call.dims, BLOCK=COMBINE_BLOCK, REVERSE=reverse, num_warps=4
    )
