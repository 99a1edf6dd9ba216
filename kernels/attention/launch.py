"""Launches the kernels on whole tensors: forward and backward of one call."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.attention.backward_dk_dv import flash_bwd_dk_dv_kernel
from kernels.attention.backward_dq import flash_bwd_dq_kernel
from kernels.attention.forward import flash_fwd_kernel
from kernels.attention.forward_pair import flash_fwd_pair_kernel
from kernels.attention.plan import Kernel, plan
from kernels.attention.shape import DESCRIPTORS, Shape
from kernels.attention.tiles import DK_DV, DQ, FORWARD
from kernels.common.shapes import power_of_2

LOG2E = 1.4426950408889634


@dataclass(frozen=True)
class Call:
    """One call's shape and constants; cu_seqlens [N + 1] is on the device of q, or is None."""

    shape: Shape
    scale: float
    cu_seqlens: torch.Tensor | None


def forward(call: Call, q, k, v, training: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """o [B, T, H, V] and, where a backward pass follows, lse [B, H, T] fp32. Inputs are contiguous."""
    s, at = call.shape, plan(call.shape, FORWARD)
    o = q.new_empty(*q.shape[:3], s.V)
    lse = _scalars(q) if training else None
    read = _reader(s, at)
    kernel = flash_fwd_pair_kernel if at.tile.parts == 2 else flash_fwd_kernel
    kernel[(at.programs,)](
        q=read(q, own=True), k=read(k), v=read(v), o=o, lse=lse, factor=call.scale * LOG2E, **_options(q, call, at)
    )
    return o, lse


def backward(call: Call, q, k, v, o, lse, do) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """dq, dk and dv in the shapes of q, k and v, from what the forward pass left. Inputs are contiguous."""
    dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
    delta = _scalars(q)
    at = plan(call.shape, DQ)
    read, factor = _reader(call.shape, at), call.scale * LOG2E
    flash_bwd_dq_kernel[(at.programs,)](
        q=read(q, own=True),
        k=read(k),
        v=read(v),
        o=o,
        do=read(do, own=True),
        lse=lse,
        dq=dq,
        delta=delta,
        scale=call.scale,
        factor=factor,
        **_options(q, call, at),
    )
    at = plan(call.shape, DK_DV)
    read = _reader(call.shape, at)
    flash_bwd_dk_dv_kernel[(at.programs,)](
        q=read(q),
        k=read(k, own=True),
        v=read(v, own=True),
        do=read(do),
        lse=_reader_of_scalars(call.shape, at)(lse),
        delta=_reader_of_scalars(call.shape, at)(delta),
        dk=dk,
        dv=dv,
        scale=call.scale,
        factor=factor,
        **_options(q, call, at, keys=True),
    )
    return dq, dk, dv


def _scalars(q: torch.Tensor) -> torch.Tensor:
    """A float of each query and head [B, H, T]; rows lie a multiple of 16 bytes apart, as descriptors have it."""
    B, T, H, _ = q.shape
    return torch.empty(B, H, -(-T // 4) * 4, device=q.device, dtype=torch.float32)[..., :T]


def _reader_of_scalars(shape: Shape, at: Kernel) -> Any:
    """The same as `_reader` for scalars [B, H, T], which dk_dv reads by blocks of queries."""

    def read(x: torch.Tensor) -> torch.Tensor | TensorDescriptor:
        if shape.loads != DESCRIPTORS:
            return x
        B, H, T = x.shape
        return TensorDescriptor(x, [B * H, T], [x.stride(1), 1], [1, at.tile.columns])

    return read


def _reader(shape: Shape, at: Kernel) -> Any:
    """What a kernel is given to read tiles of a tensor [B, T, heads, D] from: the tensor, or a descriptor of it."""

    def read(x: torch.Tensor, own: bool = False) -> torch.Tensor | TensorDescriptor:
        if shape.loads != DESCRIPTORS:
            return x
        B, T, heads, D = x.shape
        block = [1, 1, at.tile.rows // at.tile.parts if own else at.tile.columns, power_of_2(D)]
        return TensorDescriptor(x, [B, heads, T, D], [T * heads * D, D, heads * D, 1], block)

    return read


def _options(q: torch.Tensor, call: Call, at: Kernel, keys: bool = False) -> dict[str, Any]:
    """What all kernels take; keys: a program's own block is one of keys."""
    s, tile = call.shape, at.tile
    BM, BN = (tile.columns, tile.rows) if keys else (tile.rows, tile.columns)
    return {
        "cu_seqlens": call.cu_seqlens,
        "T": q.shape[1],
        "ROW": -(-q.shape[1] // 4) * 4,
        "blocks": at.blocks,
        "rows": at.rows,
        "section": at.section,
        "window": s.window,
        "H": s.H,
        "HK": s.HK,
        "K": s.K,
        "V": s.V,
        "BM": BM,
        "BN": BN,
        "BK": power_of_2(s.K),
        "BV": power_of_2(s.V),
        "DILATION": s.dilation,
        "CAUSAL": s.causal,
        "WINDOWED": s.window > 0,
        "LOADS": s.loads,
        "SPECIAL": bool(tile.special),
        # Three TF32 products hold 1e-4 on tensor cores; one would not (2e-3), and IEEE runs outside of them.
        "PRECISION": "tf32x3" if s.dtype == "float32" else "tf32",
        "num_warps": tile.warps,
        "num_stages": tile.stages,
    }
