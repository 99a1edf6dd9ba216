"""Launches the kernels on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from kernels.channel_delta.forward import channel_delta_output_kernel
from kernels.channel_delta.fused import channel_delta_fused_map_kernel, channel_delta_fused_output_kernel
from kernels.channel_delta.gradients import channel_delta_gradients_kernel
from kernels.channel_delta.plan import COMBINE_ROWS, COMBINE_WIDTH, Plan, Shape
from kernels.channel_delta.prepare import channel_delta_prepare_kernel
from kernels.channel_delta.reverse import channel_delta_reverse_kernel
from kernels.channel_delta.segments import channel_delta_combine_kernel, channel_delta_segment_map_kernel
from kernels.channel_delta.tiles import SCORES_WIDTH, Tile
from kernels.common.shapes import power_of_2

Tensor = torch.Tensor
Maybe = torch.Tensor | None


@dataclass(frozen=True)
class Call:
    """One call's shapes and constants, as every launch needs them.

    T: tokens of a row of the tensors; some_empty: whether a sequence has no tokens
    """

    shape: Shape
    plan: Plan
    T: int
    cu_seqlens: Maybe
    scale: float
    some_empty: bool

    @property
    def options(self) -> dict[str, Any]:
        # Three TF32 products hold 1e-4 on tensor cores; one would not (2e-3), and IEEE runs outside of them.
        precision = "tf32x3" if self.shape.dtype == "float32" else "tf32"
        return {"BT": self.plan.chunk, "DPLR": self.shape.dplr, "PRECISION": precision}

    @property
    def dims(self) -> dict[str, int]:
        s = self.shape
        return {"HS": s.heads, "K": s.K, "V": s.V}

    @property
    def span(self) -> dict[str, int]:
        p = self.plan
        return {"T": self.T, "segment": p.segment, "segments": p.segments}


@dataclass(frozen=True)
class Inputs:
    """q, k [B,T,H,K], v [B,T,HS,V], g [B,T,HS,K]; beta [B,T,HS], or a and b [B,T,HS,K]; all contiguous."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    beta: Maybe
    a: Maybe
    b: Maybe


@dataclass(frozen=True)
class Saved:
    """What a backward pass takes from its forward pass: see the kernels that write it."""

    w: Tensor
    read: Tensor
    write: Tensor
    write_v: Maybe
    inverse: Tensor
    qb: Tensor
    ak: Maybe
    qk: Maybe
    total: Tensor
    norms: Maybe = None
    states: Maybe = None
    u: Maybe = None
    maps: Maybe = None

    @property
    def operands(self) -> tuple[Maybe, ...]:
        return self.w, self.read, self.write, self.write_v, self.inverse, self.qb, self.ak, self.qk, self.total


def forward(call: Call, x: Inputs, start: Maybe, end: Maybe) -> tuple[Tensor, Saved | None]:
    """o [B, T, HS, V] and what a backward pass needs of it, if one follows; `end` receives the final state."""
    if call.plan.fused:
        return _fused(call, x, start, end), None
    s, p = call.shape, call.plan
    saved = _prepare(call, x)
    states = maps = None
    if p.segmented:
        states, maps = _segment_states(call, x.v, saved, start)
    o = x.v.new_empty(x.v.shape)
    kept_S = _state_store(call, p.numbers, x.v) if s.kept else None
    kept_u = torch.empty_like(o) if s.kept else None
    channel_delta_output_kernel[_grid(call, p.segments, _slices(s.V, p.output))](
        x.v,
        *saved.operands,
        o,
        start if states is None else states,
        end,
        kept_S,
        kept_u,
        call.cu_seqlens,
        **call.span,
        chunks=p.chunks,
        **call.dims,
        **_sweep(call, p.output),
        SEGMENTED=p.segmented,
        **call.options,
    )
    return o, Saved(*saved.operands, saved.norms, kept_S, kept_u, maps)


def _fused(call: Call, x: Inputs, start: Maybe, end: Maybe) -> Tensor:
    """o [B, T, HS, V] straight from the inputs."""
    s, p = call.shape, call.plan
    options = {"H": s.shared, **call.dims, "BS": min(SCORES_WIDTH, power_of_2(s.K)), **call.options}
    states = None
    if p.segmented:
        states, maps = _segment_stores(call, x.v)
        values, slices = _slices(s.V, p.map), _slices(s.V, p.map) + _slices(s.K, p.map)
        channel_delta_fused_map_kernel[_grid(call, p.segments, slices)](
            x.k,
            x.v,
            x.g,
            x.beta,
            x.a,
            x.b,
            states,
            maps,
            call.cu_seqlens,
            **call.span,
            VALUES=values,
            L2NORM=s.l2norm,
            **_sweep(call, p.map, slices),
            **options,
        )
        _combine(call, states, maps, start, reverse=False)
    o = x.v.new_empty(x.v.shape)
    channel_delta_fused_output_kernel[_grid(call, p.segments, _slices(s.V, p.output))](
        x.q,
        x.k,
        x.v,
        x.g,
        x.beta,
        x.a,
        x.b,
        o,
        start if states is None else states,
        end,
        call.cu_seqlens,
        call.scale,
        **call.span,
        L2NORM=s.l2norm,
        SEGMENTED=p.segmented,
        **_sweep(call, p.output),
        **options,
    )
    return o


def backward(call: Call, x: Inputs, saved: Saved, do: Tensor, d_end: Maybe, d_start: Maybe) -> tuple[Maybe, ...]:
    """dq, dk [B,T,HS,K], dv, dg, dbeta [B,T,HS] fp32 or None, da, db or None; d_start receives the initial state's."""
    s, p = call.shape, call.plan
    if p.segmented:
        d_end = _segment_gradients(call, do, saved, d_end)
    dv = torch.empty_like(x.v)
    dz = torch.empty_like(x.v) if s.dplr else None
    kept_dS = _state_store(call, p.numbers, x.v)
    channel_delta_reverse_kernel[_grid(call, p.segments, _slices(s.V, p.reverse))](
        do,
        *saved.operands,
        dv,
        dz,
        kept_dS,
        d_end,
        d_start,
        call.cu_seqlens,
        **call.span,
        chunks=p.chunks,
        **call.dims,
        **_sweep(call, p.reverse),
        SEGMENTED=p.segmented,
        MAP=False,
        **call.options,
    )
    dq, dk, dg = x.q.new_empty(x.g.shape), x.k.new_empty(x.g.shape), torch.empty_like(x.g)
    dbeta = None if x.beta is None else torch.empty_like(x.beta, dtype=torch.float32)
    da, db = (None if y is None else torch.empty_like(y) for y in (x.a, x.b))
    dscores = x.q.new_empty(*x.g.shape[:3], 4 if s.dplr else 2, p.chunk)
    tile = p.gradients
    channel_delta_gradients_kernel[_grid(call, p.chunks, 1)](
        x.q,
        x.k,
        x.v,
        x.g,
        x.beta,
        x.a,
        x.b,
        saved.norms,
        do,
        dv if dz is None else dz,
        saved.u,
        saved.states,
        kept_dS,
        dscores,
        dq,
        dk,
        dg,
        dbeta,
        da,
        db,
        call.cu_seqlens,
        call.scale,
        call.T,
        p.chunks,
        H=s.shared,
        **call.dims,
        BS=tile.width,
        BV=min(64, max(16, power_of_2(s.V) // 2)),
        num_warps=tile.warps,
        num_stages=tile.stages,
        **call.options,
    )
    return dq, dk, dv, dg, dbeta, da, db


def _prepare(call: Call, x: Inputs) -> Saved:
    s, p, tile = call.shape, call.plan, call.plan.prepare
    w, read, write = (x.q.new_empty(x.g.shape) for _ in range(3))
    write_v = torch.empty_like(w) if s.dplr else None
    inverse, qb = (x.q.new_empty(*x.g.shape[:3], p.chunk) for _ in range(2))
    ak, qk = (torch.empty_like(qb) if s.dplr else None for _ in range(2))
    total = torch.empty(p.numbers, s.heads, s.K, device=x.q.device, dtype=torch.float32)
    norms = torch.empty(*x.g.shape[:3], 2, device=x.q.device, dtype=torch.float32) if s.l2norm else None
    channel_delta_prepare_kernel[_grid(call, p.chunks, 1)](
        x.q,
        x.k,
        x.g,
        x.beta,
        x.a,
        x.b,
        w,
        read,
        write,
        write_v,
        inverse,
        qb,
        ak,
        qk,
        total,
        norms,
        call.cu_seqlens,
        call.scale,
        call.T,
        p.chunks,
        H=s.shared,
        HS=s.heads,
        K=s.K,
        BS=tile.width,
        num_warps=tile.warps,
        num_stages=tile.stages,
        **call.options,
    )
    return Saved(w, read, write, write_v, inverse, qb, ak, qk, total, norms)


def _segment_stores(call: Call, like: Tensor) -> tuple[Tensor, Tensor]:
    """For each segment's state [K, V] and map [K, K], fp32."""
    s, slots = call.shape, call.plan.slots
    N, M = (torch.empty(slots, s.heads, s.K, d, device=like.device, dtype=torch.float32) for d in (s.V, s.K))
    return N, M


def _segment_states(call: Call, v: Tensor, saved: Saved, start: Maybe) -> tuple[Tensor, Tensor]:
    """The state that each segment starts from, and its map, both fp32."""
    s, p = call.shape, call.plan
    states, maps = _segment_stores(call, v)
    values = _slices(s.V, p.map)
    # Backward, the first segment's map is of no use and the last one's is.
    channel_delta_segment_map_kernel[_grid(call, p.segments, values + _slices(s.K, p.map))](
        v,
        saved.w,
        saved.write,
        saved.write_v,
        saved.inverse,
        saved.ak,
        saved.total,
        states,
        maps,
        call.cu_seqlens,
        **call.span,
        chunks=p.chunks,
        last=int(s.kept),
        VALUES=values,
        **call.dims,
        **_sweep(call, p.map, values + _slices(s.K, p.map)),
        **call.options,
    )
    _combine(call, states, maps, start, reverse=False)
    return states, maps


def _segment_gradients(call: Call, do: Tensor, saved: Saved, d_end: Maybe) -> Tensor:
    """The gradient of the state that each segment ends in, fp32."""
    s, p = call.shape, call.plan
    states = torch.empty(p.slots, s.heads, s.K, s.V, device=do.device, dtype=torch.float32)
    channel_delta_reverse_kernel[_grid(call, p.segments, _slices(s.V, p.reverse))](
        do,
        saved.w,
        saved.read,
        saved.write,
        None,
        None,
        saved.qb,
        None,
        None,
        saved.total,
        None,
        None,
        None,
        None,
        states,
        call.cu_seqlens,
        **call.span,
        chunks=p.chunks,
        **call.dims,
        **_sweep(call, p.reverse),
        SEGMENTED=True,
        MAP=True,
        **call.options,
    )
    assert saved.maps is not None
    _combine(call, states, saved.maps, d_end, reverse=True)
    return states


def _combine(call: Call, states: Tensor, maps: Tensor, start: Maybe, *, reverse: bool) -> None:
    s, p = call.shape, call.plan
    slices = -(-s.V // COMBINE_WIDTH)
    channel_delta_combine_kernel[(s.sequences * s.heads * slices,)](
        states,
        maps,
        start,
        call.cu_seqlens,
        call.T,
        p.segment,
        p.segments,
        **call.dims,
        BK=power_of_2(s.K),
        BS=COMBINE_ROWS,
        BV=COMBINE_WIDTH,
        SLICES=slices,
        REVERSE=reverse,
        PRECISION="tf32x3",
        num_warps=4,
        num_stages=1,
    )


def _state_store(call: Call, count: int, like: Tensor) -> Tensor:
    """States [count, HS, K, V] between passes: fp16 has no range for them, so bf16 alone stays narrow."""
    s = call.shape
    dtype = torch.bfloat16 if s.dtype == "bfloat16" else torch.float32
    return torch.empty(count, s.heads, s.K, s.V, device=like.device, dtype=dtype)


def _grid(call: Call, parts: int, slices: int) -> tuple[int]:
    return (call.shape.sequences * parts * call.shape.heads * slices,)


def _slices(size: int, tile: Tile) -> int:
    return -(-size // tile.width)


def _sweep(call: Call, tile: Tile, slices: int = 0) -> dict[str, int]:
    s = call.shape
    return {
        "BK": power_of_2(s.K),
        "BV": tile.width,
        "SLICES": slices or _slices(s.V, tile),
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
