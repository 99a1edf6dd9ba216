"""Chunked linear recurrences on tensors, differentiable: checks the call, plans it, and gives autograd one function."""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

from kernels.common.linear_state.chunked import Call, State, backward, forward
from kernels.common.linear_state.plan import MAX_DIM, Shape, plan
from suite.errors import UsageError


def chunk_linear_state(q, k, v, *, feature_map: str, normalised: bool, scale: float | None, eps: float, initial_state,
                       output_final_state: bool, cu_seqlens, cu_seqlens_cpu, chunk: int):  # fmt: skip
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V] in q's dtype, final state or None).

    initial_state: S [N,HS,K,V], or the pair (S, z [N,HS,K]) when normalised, or None for zeros; the final state has its
    form and dtype (fp32 for None). cu_seqlens [N+1] cuts the tokens of B = 1 into sequences, cu_seqlens_cpu is its copy
    on the CPU, from which grids are made. Gradients flow to q, k, v and the initial state.
    Raises UsageError on shapes, dtypes, a scale or a chunk that can not be served.
    """
    call = _call(q, k, v, feature_map, normalised, scale, eps, cu_seqlens, cu_seqlens_cpu, chunk)
    S, z = _states(call, initial_state)
    o, *final = _Chunked.apply(q, k, v, S, z, call, output_final_state)
    if not output_final_state:
        return o, None
    return o, (tuple(final) if normalised else final[0])


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, S, z, call: Call, output_final_state: bool):
        q, k, v = (x.contiguous() for x in (q, k, v))
        S, z = (None if x is None else x.contiguous() for x in (S, z))
        end = _empty_state(call, q, S) if output_final_state else (None, None)
        o, den, states = forward(call, q, k, v, (S, z), end)
        ctx.save_for_backward(q, k, v, S, z, o if call.shape.normalised else None, den, states)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, *end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        do, dS_end, dz_end = gradients
        q, k, v, S, z, o, den, states = ctx.saved_tensors
        call = ctx.call
        if do is None:
            do = q.new_zeros(*q.shape[:2], call.shape.heads, call.shape.V)
        do, dS_end, dz_end = (None if x is None else x.contiguous() for x in (do, dS_end, dz_end))
        d_start = (None, None) if S is None else _empty_state(call, q, S)
        dq, dk, dv = backward(call, q, k, v, o, den, states, do, (S, z), (dS_end, dz_end), d_start)
        dq, dk, dv = (_sum_heads(dx, x) for dx, x in ((dq, q), (dk, k), (dv, v)))
        return dq, dk, dv, *d_start, None, None


def _empty_state(call: Call, like: torch.Tensor, S: torch.Tensor | None) -> State:
    s = call.shape
    dtype = torch.float32 if S is None else S.dtype
    make = [like.new_empty(s.sequences, s.heads, *dims, dtype=dtype) for dims in ((s.K, s.V), (s.K,))]
    return make[0], make[1] if s.normalised else None


def _sum_heads(dx: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """[B, T, HS, D] -> the shape of x: gradients of the state heads that share a head of x, summed."""
    shared = dx.shape[2] // x.shape[2]
    return dx if shared == 1 else dx.unflatten(2, (x.shape[2], shared)).sum(3)


def _call(q, k, v, feature_map, normalised, scale, eps, cu_seqlens, cu_seqlens_cpu, chunk) -> Call:
    if chunk < 16 or chunk & (chunk - 1):
        raise UsageError(f"chunk = {chunk} can not be served; use a power of 2 of at least 16")
    if scale == 0:
        raise UsageError("scale = 0 makes every output 0; use another scale, or None for 1/sqrt(K)")
    B, T, H, K = q.shape
    HK, HV, V = k.shape[2], v.shape[2], v.shape[3]
    for name, x, expected in (("k", k, (B, T, HK, K)), ("v", v, (B, T, HV, V))):
        if x.shape != expected or x.dtype != q.dtype:
            raise UsageError(f"{name} is {tuple(x.shape)} {x.dtype}, q is {tuple(q.shape)} {q.dtype}; make them agree")
    heads = max(H, HV)
    if heads % H or heads % HK or heads % HV:
        raise UsageError(f"heads H = {H}, HK = {HK}, HV = {HV} do not divide {heads}; choose heads that do")
    if max(K, V) > MAX_DIM:
        raise UsageError(f"head dims K = {K}, V = {V} are too large; use at most {MAX_DIM}")
    if cu_seqlens is None:
        sequences, longest = B, T
    else:
        sequences, longest = _packing(cu_seqlens, cu_seqlens_cpu, B)
    dtype = str(q.dtype).removeprefix("torch.")
    shape = Shape(sequences, longest, B * T, heads, K, V, chunk, dtype, normalised, feature_map, cu_seqlens is not None)
    return Call(shape, plan(shape), T, H, HK, HV, cu_seqlens, K**-0.5 if scale is None else scale, eps)


def _packing(cu_seqlens: torch.Tensor, cu_seqlens_cpu: torch.Tensor | None, B: int) -> tuple[int, int]:
    """Sequences and tokens of the longest, from the CPU's copy: reading the device's would wait for the device."""
    if cu_seqlens_cpu is None and cu_seqlens.device.type == "cpu":
        cu_seqlens_cpu = cu_seqlens
    if cu_seqlens_cpu is None:
        raise UsageError("cu_seqlens came without its copy on the CPU; pass cu_seqlens_cpu too")
    if B != 1:
        raise UsageError(f"cu_seqlens came with B = {B}; pack all sequences into one row")
    return cu_seqlens.numel() - 1, int(cu_seqlens_cpu.diff().max())


def _states(call: Call, initial_state) -> State:
    s = call.shape
    if initial_state is None:
        return None, None
    if isinstance(initial_state, tuple) != s.normalised:
        expected = "the pair (S, z)" if s.normalised else "S alone"
        raise UsageError(f"initial_state has the wrong form; normalised = {s.normalised} takes {expected}")
    S, z = initial_state if s.normalised else (initial_state, None)
    for name, x, dims in (("S", S, (s.K, s.V)), ("z", z, (s.K,))):
        if x is not None and x.shape != (s.sequences, s.heads, *dims):
            expected = (s.sequences, s.heads, *dims)
            raise UsageError(f"initial state {name} is {tuple(x.shape)}; it has to be {expected}")
    return S, z
