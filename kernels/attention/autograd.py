"""Softmax attention on tensors, differentiable: checks the call and gives autograd one function."""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

from kernels.attention.launch import Call, backward, forward
from kernels.attention.shape import AUTO, DESCRIPTORS, WAYS, Shape, refuse_descriptors, settled
from kernels.common.arguments import check_flags, fit
from kernels.common.packed import packing, without_tokens
from kernels.common.shapes import MAX_DIM
from suite.errors import UsageError, unknown


def flash_attention(
    q,
    k,
    v,
    *,
    causal: bool,
    window: int = 0,
    dilation: int = 1,
    scale: float | None = None,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    loads: str = AUTO,
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] -> o [B,T,H,V] in q's dtype; H is a multiple of HK.

    window, dilation, loads: see shape.py; cu_seqlens [N+1] cuts the tokens of B = 1 into sequences, cu_seqlens_cpu is
    its copy on the CPU, from which grids are made. Gradients flow to q, k and v.
    Raises UsageError on shapes, dtypes, a scale or a way of loading that cannot be served.
    """
    check_flags(causal=causal)
    sizes = fit({"q": (q, "B T H K"), "k": (k, "B T HK K"), "v": (v, "B T HK V")}, scale=scale)
    shape = _shape(sizes, q, causal, window, dilation, cu_seqlens, cu_seqlens_cpu, loads)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if scale <= 0:
        raise UsageError(f"scale = {scale} is not supported; use one above 0, or None for 1/sqrt(K)")
    if not shape.tokens:
        (o,) = without_tokens((q.new_empty(*q.shape[:3], shape.V),), (q, k, v), ())
        return o
    call = Call(shape, scale, cu_seqlens)
    training = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    return _Attention.apply(q, k, v, call, training)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, call: Call, training: bool):  # pyright: ignore[reportIncompatibleMethodOverride]
        q, k, v = (x.contiguous() for x in (q, k, v))
        o, lse = forward(call, q, k, v, training)
        ctx.save_for_backward(q, k, v, o, lse)
        ctx.call = call
        return o

    @staticmethod
    @once_differentiable
    def backward(ctx, do):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        q, k, v, o, lse = ctx.saved_tensors
        return *backward(ctx.call, q, k, v, o, lse, do.contiguous()), None, None


def _shape(sizes, q, causal, window, dilation, cu_seqlens, cu_seqlens_cpu, loads) -> Shape:
    B, T, H, HK, K, V = (sizes[name] for name in ("B", "T", "H", "HK", "K", "V"))
    if H % HK:
        raise UsageError(f"H = {H} query heads cannot share HK = {HK} key heads; use a multiple")
    if max(K, V) > MAX_DIM:
        raise UsageError(f"head dims K = {K}, V = {V} are too large; use at most {MAX_DIM}")
    if window < 0 or dilation < 1:
        raise UsageError(f"window = {window}, dilation = {dilation} are not supported; use at least 0 and 1")
    if loads not in WAYS:
        raise unknown("way of loading", loads, WAYS)
    sequences, longest, _ = packing(cu_seqlens, cu_seqlens_cpu, q)
    dtype, packed = str(q.dtype).removeprefix("torch."), cu_seqlens is not None
    shape = settled(Shape(sequences, longest, B * T, H, HK, K, V, dtype, packed, causal, window, dilation, loads))
    if shape.loads == DESCRIPTORS and (reason := refuse_descriptors(shape)):
        raise UsageError(reason)
    return shape
