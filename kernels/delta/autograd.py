"""Chunked delta rules on tensors, differentiable: checks the call, plans it, and gives autograd one function."""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

from kernels.common.arguments import check_chunk, check_flags, check_states, fit, given
from kernels.common.packed import packing, room, without_tokens
from kernels.common.shapes import MAX_DIM
from kernels.delta.launch import Call, Inputs, Saved, backward, forward
from kernels.delta.plan import Shape, held_columns, plan, variant_of
from kernels.delta.reference import unit
from suite.errors import UsageError


def chunk_delta(
    q,
    k,
    v,
    beta,
    log_decay,
    *,
    steps: int,
    l2norm: bool,
    scale: float | None,
    chunk: int,
    initial_state,
    output_final_state,
    cu_seqlens,
    cu_seqlens_cpu,
):
    """q [B,T,H,K], k [B,T,n,H,K], v [B,T,n,HS,V], beta [B,T,n,HS] -> (o [B,T,HS,V] in q's dtype, state or None).

    log_decay [B,T,HS] or None for no decay; the dimension of n = steps may be left out where steps is 1. initial_state
    is S [N,HS,K,V] or None for zeros; the final state has its dtype (fp32 for None). cu_seqlens [N+1] cuts the tokens
    of B = 1 into sequences, cu_seqlens_cpu is its copy on the CPU, from which grids are made. Gradients flow to q, k,
    v, beta, log_decay and the initial state. Raises UsageError on shapes, dtypes or a chunk that cannot be served.
    """
    check_chunk(chunk)
    check_flags(l2norm=l2norm)
    sizes = sizes_of(q, k, v, beta, log_decay, steps=steps, scale=scale)
    if l2norm and q.shape[-1] > held_columns(v.shape[-2], q.shape[2]):
        # The gradients' kernel cuts such heads, and no slice knows the norm.
        q, k, l2norm = unit(q.float()).to(q.dtype), unit(k.float()).to(k.dtype), False
    cuts = {"cu_seqlens": cu_seqlens, "cu_seqlens_cpu": cu_seqlens_cpu}
    call = _call(sizes, q, gated=log_decay is not None, l2norm=l2norm, scale=scale, chunk=chunk, **cuts)
    _check_state(call, initial_state, q)
    inputs = Inputs(q, k, v, beta, log_decay)
    if not call.shape.steps:
        o = q.new_empty(*q.shape[:2], call.shape.heads, call.shape.V)
        end = _room(call, q, initial_state, initial_state) if output_final_state else None
        return without_tokens((o, end), inputs, (initial_state,))
    tensors = (*inputs, initial_state)
    training = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    return _Chunked.apply(*tensors, call, output_final_state, training)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, beta, log_decay, S_start, call: Call, output_final_state: bool, training: bool):
        x = Inputs(q, k, v, beta, log_decay).contiguous()
        S_start = None if S_start is None else S_start.contiguous()
        S_end = _room(call, q, S_start, S_start) if output_final_state else None
        o, saved = forward(call, x, S_start, S_end, training)
        ctx.save_for_backward(x.q, x.k, x.beta, x.log_decay, S_start, *(saved or ()))
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, S_end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        q, k, beta, log_decay, S_start, *saved = ctx.saved_tensors
        call = ctx.call
        do, dS_end = (None if x is None else x.contiguous() for x in gradients)
        if do is None:
            do = q.new_zeros(*q.shape[:2], call.shape.heads, call.shape.V)
        dS_start = None if S_start is None else _room(call, q, S_start, dS_end)
        states = {"dS_start": dS_start, "dS_end": dS_end}
        found = backward(call, q, k, beta, log_decay, saved=Saved(*saved), do=do, **states)
        return *found, dS_start, None, None, None


def _room(call: Call, like: torch.Tensor, S: torch.Tensor | None, passed: torch.Tensor | None) -> torch.Tensor:
    """Room for a state in the dtype of S; passed: what empty sequences pass on."""
    s, dtype = call.shape, torch.float32 if S is None else S.dtype
    return room(like, (s.sequences, s.heads, s.K, s.V), dtype, passed, call.some_empty)


def sizes_of(q, k, v, beta, log_decay, steps: int, scale) -> dict[str, int]:
    """Sizes of a call and n. UsageError where `fit` raises it, or on steps or heads that do not fit."""
    n = " " if steps == 1 and getattr(k, "ndim", 0) == 4 else " n "
    sizes = fit(
        {"q": (q, "B T H K"), "k": (k, f"B T{n}H K"), "v": (v, f"B T{n}HV V")},
        {"beta": (beta, f"B T{n}HV"), **given({"log_decay": (log_decay, "B T HV")})},
        scale=scale,
    )
    if sizes["HV"] % sizes["H"]:
        H, heads = sizes["H"], sizes["HV"]
        raise UsageError(f"{H} heads of q and k do not divide {heads} value heads; choose heads that do")
    if sizes.setdefault("n", 1) != steps:
        raise UsageError(f"steps = {steps} where k is {tuple(k.shape)}; give steps = {sizes['n']}")
    return sizes


def _call(sizes, q, *, gated, l2norm, scale, chunk, cu_seqlens, cu_seqlens_cpu) -> Call:
    B, T, H, heads, K, V, steps = (sizes[name] for name in ("B", "T", "H", "HV", "K", "V", "n"))
    if max(K, V) > MAX_DIM:
        raise UsageError(f"head dims K = {K}, V = {V} are too large; use at most {MAX_DIM}")
    sequences, longest, some_empty = packing(cu_seqlens, cu_seqlens_cpu, q)
    dtype = str(q.dtype).removeprefix("torch.")
    variant = variant_of(gated=gated, l2norm=l2norm, steps=steps)
    lengths = {"sequences": sequences, "longest": longest * steps, "steps": B * T * steps, "chunk": chunk}
    dims = {"heads": heads, "shared": H, "K": K, "V": V}
    shape = Shape(**lengths, **dims, dtype=dtype, packed=cu_seqlens is not None, variant=variant)
    options = {"l2norm": l2norm, "some_empty": some_empty}
    scale = K**-0.5 if scale is None else scale
    return Call(shape, plan(shape), T=T, steps=steps, cu_seqlens=cu_seqlens, scale=scale, **options)


def _check_state(call: Call, S, like: torch.Tensor) -> None:
    check_states(like, {"initial state S": S})
    expected = (call.shape.sequences, call.shape.heads, call.shape.K, call.shape.V)
    if S is not None and S.shape != expected:
        raise UsageError(f"initial state S is {tuple(S.shape)}; it must be {expected}")
