"""Features in memory, differentiable: by a Triton kernel where a map has one, by its own definition elsewhere."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from kernels.common.shapes import power_of_2
from kernels.feature_maps.registry import FeatureMap
from kernels.feature_maps.rows import feature_rows_bwd_kernel, feature_rows_fwd_kernel

# Maps that rows.py knows, and the widest row, of elements or features, that it holds.
IN_TRITON = ("softmax", "favor")
WIDEST = 256


def mapped(phi: FeatureMap, q, k, projection=None):
    """phi(q) and phi(k) [..., F] in their dtype, q and k [..., K]. Raises UsageError as the map does."""
    K = q.shape[-1]
    if phi.name not in IN_TRITON or max(K, phi.count(K, projection)) > WIDEST:
        return phi(q, projection, query=True), phi(k, projection)
    phi.check(K, projection)
    return _Rows.apply(q, k, None if projection is None else projection.to(q.dtype), phi.name)


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, W, name):
        q, k = q.contiguous(), k.contiguous()
        W = None if W is None else W.contiguous()
        F = q.shape[-1] if W is None else W.shape[0]
        phi_q, phi_k = (x.new_empty(*x.shape[:-1], F) for x in (q, k))
        options = _options(q, k, F, name)
        feature_rows_fwd_kernel[_grid(q, k, options)](q=q, k=k, W=W, phi_q=phi_q, phi_k=phi_k, **options)
        ctx.save_for_backward(q, k, W, phi_q, phi_k)
        ctx.options = options
        return phi_q, phi_k

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        q, k, W, phi_q, phi_k = ctx.saved_tensors
        dq, dk = torch.empty_like(q), torch.empty_like(k)
        d_phi_q, d_phi_k = (x.contiguous() for x in gradients)
        feature_rows_bwd_kernel[_grid(q, k, ctx.options)](
            q=q, k=k, W=W, phi_q=phi_q, phi_k=phi_k, d_phi_q=d_phi_q, d_phi_k=d_phi_k, dq=dq, dk=dk, **ctx.options
        )
        return dq, dk, None, None


def _rows(x: torch.Tensor) -> int:
    return x.numel() // x.shape[-1]


def _grid(q: torch.Tensor, k: torch.Tensor, options: dict[str, Any]) -> tuple[int]:
    return (sum(-(-_rows(x) // options["BT"]) for x in (q, k)),)


def _options(q: torch.Tensor, k: torch.Tensor, F: int, name: str) -> dict[str, Any]:
    """Sizes, tiles, warps and stages of a launch: tiles of 64 rows, fewer in fp32, which multiplies three products."""
    K, single = q.shape[-1], q.dtype == torch.float32
    BK, BF = power_of_2(K), power_of_2(F)
    large = max(BK, BF) > 64
    return {
        "q_rows": _rows(q),
        "k_rows": _rows(k),
        "K": K,
        "F": F,
        "BT": 32 if single and large else 64,
        "BK": BK,
        "BF": BF,
        "MAP": name,
        "PRECISION": "tf32x3" if single else "tf32",
        "num_warps": 8 if large else 4,
        "num_stages": 1,
    }
