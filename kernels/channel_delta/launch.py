"""Launches the kernels on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from kernels.channel_delta.forward import channel_delta_output_kernel
from kernels.channel_delta.gradients import channel_delta_gradients_kernel
from kernels.channel_delta.plan import COMBINE_ROWS, COMBINE_WIDTH, Plan, Shape
from kernels.channel_delta.prepare import channel_delta_prepare_kernel
from kernels.channel_delta.reverse import channel_delta_reverse_kernel
from kernels.channel_delta.segments import channel_delta_combine_kernel, channel_delta_segment_map_kernel
from kernels.channel_delta.tiles import Tile
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
    def cut(self) -> dict[str, Any]:
        """How sequences are cut into segments."""
        return {"cu_seqlens": self.cu_seqlens, "segment_size": self.plan.segment_size, "segments": self.plan.segments}

    @property
    def sizes(self) -> dict[str, Any]:
        """Sizes and options with which every kernel on chunks is compiled."""
        s = self.shape
        # Three TF32 products hold 1e-4 on tensor cores; one would not (2e-3), and IEEE runs outside of them.
        precision = "tf32x3" if s.dtype == "float32" else "tf32"
        return {"HS": s.heads, "K": s.K, "BT": self.plan.chunk, "DPLR": s.dplr, "PRECISION": precision}

    def chunkwise(self, tile: Tile) -> dict[str, Any]:
        """Arguments of a kernel whose programs hold one chunk each."""
        span = {"cu_seqlens": self.cu_seqlens, "T": self.T, "chunks": self.plan.chunks}
        launch = {"num_warps": tile.warps, "num_stages": tile.stages}
        return {**span, "scale": self.scale, "H": self.shape.shared, **self.sizes, "BS": tile.width, **launch}

    def sweep(self, tile: Tile, slices: int = 0) -> dict[str, Any]:
        """Arguments of a kernel whose programs sweep over the chunks of a segment. slices: 0 takes those of V."""
        s = self.shape
        tiles = {"BK": power_of_2(s.K), "BV": tile.width, "SLICES": slices or _slices(s.V, tile)}
        launch = {"num_warps": tile.warps, "num_stages": tile.stages}
        return {**self.cut, "T": self.T, **self.sizes, "V": s.V, **tiles, **launch}


class Inputs(NamedTuple):
    """q, k [B,T,H,K], v [B,T,HS,V], g [B,T,HS,K]; beta [B,T,HS], or a and b [B,T,HS,K]; all contiguous."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    beta: Maybe = None
    a: Maybe = None
    b: Maybe = None

    @property
    def gates(self) -> dict[str, Maybe]:
        """The inputs without q, k and v."""
        return {"g": self.g, "beta": self.beta, "a": self.a, "b": self.b}

    def contiguous(self) -> Inputs:
        """The same inputs, each of them contiguous."""
        tensors: Any = (None if x is None else x.contiguous() for x in self)
        return Inputs(*tensors)


class Saved(NamedTuple):
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
    def operands(self) -> dict[str, Maybe]:
        """What `prepare` writes and the sweeps read: all but the last four."""
        names = ("w", "read", "write", "write_v", "inverse", "qb", "ak", "qk", "total")
        return {name: getattr(self, name) for name in names}


def forward(call: Call, x: Inputs, S_start: Maybe, S_end: Maybe) -> tuple[Tensor, Saved]:
    """o [B, T, HS, V] and what a backward pass needs of it; S_end receives the final state."""
    s, p = call.shape, call.plan
    saved = _prepare(call, x)
    states = maps = None
    if p.segmented:
        states, maps = _segment_states(call, x.v, saved, S_start)
    o = x.v.new_empty(x.v.shape)
    kept_S = _state_store(call, p.numbers, x.v) if s.training else None
    kept_u = torch.empty_like(o) if s.training else None
    channel_delta_output_kernel[_grid(call, p.segments, _slices(s.V, p.output))](
        v=x.v,
        **saved.operands,
        o=o,
        S_start=S_start if states is None else states,
        S_end=S_end,
        kept_S=kept_S,
        kept_u=kept_u,
        **call.sweep(p.output),
        chunks=p.chunks,
        SEGMENTED=p.segmented,
    )
    return o, saved._replace(states=kept_S, u=kept_u, maps=maps)


def backward(call: Call, x: Inputs, saved: Saved, *, do: Tensor, dS_start: Maybe, dS_end: Maybe) -> Inputs:
    """dq, dk [B,T,HS,K], dv, dg, dbeta [B,T,HS] fp32 or None, da, db or None.

    dS_end: gradient of the final state, or None; dS_start: receives that of the initial state, where given.
    """
    s, p = call.shape, call.plan
    if p.segmented:
        dS_end = _segment_gradients(call, do, saved, dS_end)
    dv = torch.empty_like(x.v)
    dz = torch.empty_like(x.v) if s.dplr else None
    kept_dS = _state_store(call, p.numbers, x.v)
    channel_delta_reverse_kernel[_grid(call, p.segments, _slices(s.V, p.reverse))](
        do=do,
        **saved.operands,
        dv=dv,
        dz=dz,
        kept_dS=kept_dS,
        dS_start=dS_start,
        dS_end=dS_end,
        **call.sweep(p.reverse),
        chunks=p.chunks,
        SEGMENTED=p.segmented,
        MAP=False,
    )
    dq, dk, dg = x.q.new_empty(x.g.shape), x.k.new_empty(x.g.shape), torch.empty_like(x.g)
    dbeta = None if x.beta is None else torch.empty_like(x.beta, dtype=torch.float32)
    da, db = (None if y is None else torch.empty_like(y) for y in (x.a, x.b))
    dscores = x.q.new_empty(*x.g.shape[:3], 4 if s.dplr else 2, p.chunk)
    channel_delta_gradients_kernel[_grid(call, p.chunks, 1)](
        **x._asdict(),
        norms=saved.norms,
        do=do,
        dz=dv if dz is None else dz,
        u=saved.u,
        kept_S=saved.states,
        kept_dS=kept_dS,
        dscores=dscores,
        dq=dq,
        dk=dk,
        dg=dg,
        dbeta=dbeta,
        da=da,
        db=db,
        **call.chunkwise(p.gradients),
        V=s.V,
        BV=min(64, max(16, power_of_2(s.V) // 2)),
    )
    return Inputs(q=dq, k=dk, v=dv, g=dg, beta=dbeta, a=da, b=db)


def _prepare(call: Call, x: Inputs) -> Saved:
    s, p = call.shape, call.plan
    w, read, write = (x.q.new_empty(x.g.shape) for _ in range(3))
    write_v = torch.empty_like(w) if s.dplr else None
    inverse, qb = (x.q.new_empty(*x.g.shape[:3], p.chunk) for _ in range(2))
    ak, qk = (torch.empty_like(qb) if s.dplr else None for _ in range(2))
    total = torch.empty(p.numbers, s.heads, s.K, device=x.q.device, dtype=torch.float32)
    norms = torch.empty(*x.g.shape[:3], 2, device=x.q.device, dtype=torch.float32) if s.l2norm else None
    saved = Saved(w=w, read=read, write=write, write_v=write_v, inverse=inverse, qb=qb, ak=ak, qk=qk, total=total)
    channel_delta_prepare_kernel[_grid(call, p.chunks, 2 if s.dplr else 1)](
        q=x.q, k=x.k, **x.gates, **saved.operands, norms=norms, **call.chunkwise(p.prepare)
    )
    return saved._replace(norms=norms)


def _segment_stores(call: Call, like: Tensor) -> tuple[Tensor, Tensor]:
    """For each segment's state [K, V] and map [K, K], fp32."""
    s, slots = call.shape, call.plan.slots
    N, M = (torch.empty(slots, s.heads, s.K, d, device=like.device, dtype=torch.float32) for d in (s.V, s.K))
    return N, M


def _segment_states(call: Call, v: Tensor, saved: Saved, S_start: Maybe) -> tuple[Tensor, Tensor]:
    """The state that each segment starts from, and its map, both fp32."""
    s, p = call.shape, call.plan
    states, maps = _segment_stores(call, v)
    values, slices = _slices(s.V, p.map), _slices(s.V, p.map) + _slices(s.K, p.map)
    channel_delta_segment_map_kernel[_grid(call, p.segments, slices)](
        v=v,
        w=saved.w,
        write=saved.write,
        write_v=saved.write_v,
        inverse=saved.inverse,
        ak=saved.ak,
        total=saved.total,
        states=states,
        maps=maps,
        **call.sweep(p.map, slices),
        chunks=p.chunks,
        # The forward pass has no use for the last segment's map, the backward pass has.
        last=int(s.training),
        VALUES=values,
    )
    _combine(call, states, maps, S_start, reverse=False)
    return states, maps


def _segment_gradients(call: Call, do: Tensor, saved: Saved, dS_end: Maybe) -> Tensor:
    """The gradient of the state that each segment ends in, fp32."""
    s, p = call.shape, call.plan
    states = torch.empty(p.slots, s.heads, s.K, s.V, device=do.device, dtype=torch.float32)
    unused = dict.fromkeys(("write_v", "inverse", "ak", "qk", "dv", "dz", "kept_dS", "dS_end"))
    channel_delta_reverse_kernel[_grid(call, p.segments, _slices(s.V, p.reverse))](
        **{**saved.operands, **unused},
        do=do,
        dS_start=states,
        **call.sweep(p.reverse),
        chunks=p.chunks,
        SEGMENTED=True,
        MAP=True,
    )
    assert saved.maps is not None
    _combine(call, states, saved.maps, dS_end, reverse=True)
    return states


def _combine(call: Call, states: Tensor, maps: Tensor, boundary: Maybe, *, reverse: bool) -> None:
    s, slices = call.shape, -(-call.shape.V // COMBINE_WIDTH)
    channel_delta_combine_kernel[(s.sequences * s.heads * slices,)](
        states=states,
        maps=maps,
        boundary=boundary,
        **call.cut,
        HS=s.heads,
        K=s.K,
        V=s.V,
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
