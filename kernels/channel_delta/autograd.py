"""Chunked delta rules with a gate a channel, differentiable: checks and plans a call, gives autograd one function."""

from __future__ import annotations

import torch
from torch.autograd.function import once_differentiable

from kernels.channel_delta.launch import Call, Inputs, Maybe, Saved, backward, forward
from kernels.channel_delta.plan import Shape, plan
from kernels.common.arguments import check_chunk, check_flags, check_states, fit
from kernels.common.packed import packing, room, without_tokens
from kernels.common.shapes import MAX_DIM
from suite.errors import UsageError


def chunk_channel_delta(
    q,
    k,
    v,
    log_decay,
    *,
    beta=None,
    a=None,
    b=None,
    l2norm: bool = False,
    scale: float | None,
    initial_state=None,
    output_final_state: bool,
    cu_seqlens,
    cu_seqlens_cpu,
    chunk: int,
):
    """q, k [B,T,H,K], v [B,T,HS,V], log_decay [B,T,HS,K] -> (o [B,T,HS,V] in q's dtype, final state or None).

    Either beta [B,T,HS] (the delta rule), or a and b [B,T,HS,K] (DPLR). With l2norm q and k are normalised first.
    initial_state is S [N,HS,K,V] or None for zeros; the final state has its dtype (fp32 for None). cu_seqlens [N+1]
    cuts the tokens of B = 1 into sequences, cu_seqlens_cpu is its copy on the CPU, from which grids are made.
    Gradients flow to every float tensor.
    Raises UsageError on shapes, dtypes or a chunk that can not be served.
    """
    check_chunk(chunk)
    check_flags(l2norm=l2norm)
    inputs = Inputs(q, k, v, log_decay, beta, a, b)
    sizes = sizes_of(inputs, scale)
    check_states(q, {"initial state": initial_state})
    tensors = (q, k, v, log_decay, beta, a, b, initial_state)
    kept = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    call = _call(sizes, inputs, scale, cu_seqlens, cu_seqlens_cpu, chunk, kept, l2norm)
    expected = (call.shape.sequences, call.shape.heads, call.shape.K, call.shape.V)
    if initial_state is not None and initial_state.shape != expected:
        raise UsageError(f"initial state is {tuple(initial_state.shape)}; it has to be {expected}")
    if not call.shape.tokens:
        end = _room(call, q, initial_state, initial_state) if output_final_state else None
        return without_tokens((v.new_empty(v.shape), end), tensors[:-1], tensors[-1:])
    return _Chunked.apply(q, k, v, log_decay, beta, a, b, initial_state, call, output_final_state)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, g, beta, a, b, S, call: Call, output_final_state: bool):
        q, k, v, g = (x.contiguous() for x in (q, k, v, g))
        beta, a, b, S = (None if x is None else x.contiguous() for x in (beta, a, b, S))
        end = _room(call, q, S, S) if output_final_state else None
        o, saved = forward(call, Inputs(q, k, v, g, beta, a, b), S, end)
        if saved is not None and call.shape.kept:
            ctx.save_for_backward(
                q, k, v, g, beta, a, b, S, *saved.operands, saved.norms, saved.states, saved.u, saved.maps
            )
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        do, d_end = gradients
        q, k, v, g, beta, a, b, S, *saved = ctx.saved_tensors
        call = ctx.call
        do = v.new_zeros(v.shape) if do is None else do.contiguous()
        d_end = None if d_end is None else d_end.contiguous()
        d_start = None if S is None else _room(call, q, S, d_end)
        found = backward(call, Inputs(q, k, v, g, beta, a, b), Saved(*saved), do, d_end, d_start)
        dq, dk, dv, dg, dbeta, da, db = found
        dbeta = None if dbeta is None else dbeta.to(beta.dtype)
        return _sum_heads(dq, q), _sum_heads(dk, k), dv, dg, dbeta, da, db, d_start, None, None


def _room(call: Call, like: torch.Tensor, S: Maybe, passed: Maybe) -> torch.Tensor:
    """Room for a state in the dtype of S; passed: what empty sequences pass on."""
    s, dtype = call.shape, torch.float32 if S is None else S.dtype
    return room(like, (s.sequences, s.heads, s.K, s.V), dtype, passed, call.some_empty)


def _sum_heads(dx, x: torch.Tensor) -> torch.Tensor:
    """[B, T, HS, K] -> the shape of x: gradients of the state heads that share a head of x, summed."""
    shared = dx.shape[2] // x.shape[2]
    return dx if shared == 1 else dx.unflatten(2, (x.shape[2], shared)).sum(3)


def _call(
    sizes: dict[str, int],
    x: Inputs,
    scale: float | None,
    cu_seqlens,
    cu_seqlens_cpu,
    chunk: int,
    kept: bool,
    l2norm: bool,
) -> Call:
    B, T, H, heads, K, V = (sizes[name] for name in ("B", "T", "H", "HV", "K", "V"))
    if max(K, V) > MAX_DIM:
        raise UsageError(f"head dims K = {K}, V = {V} are too large; use at most {MAX_DIM}")
    sequences, longest, some_empty = packing(cu_seqlens, cu_seqlens_cpu, x.q)
    dtype = str(x.q.dtype).removeprefix("torch.")
    packed, dplr = cu_seqlens is not None, x.a is not None
    shape = Shape(sequences, longest, B * T, heads, H, K, V, chunk, dtype, packed, dplr, kept, l2norm)
    return Call(shape, plan(shape), T, cu_seqlens, K**-0.5 if scale is None else scale, some_empty)


def sizes_of(x: Inputs, scale) -> dict[str, int]:
    """The sizes of a call, as `fit` gives them, which raises, as do heads of q that do not divide those of v."""
    tokens = {"q": (x.q, "B T H K"), "k": (x.k, "B T H K"), "v": (x.v, "B T HV V")}
    gates = {"log_decay": (x.g, "B T HV K")}
    if x.a is None and x.b is None:
        gates |= {"beta": (x.beta, "B T HV")}
    else:
        tokens |= {"a": (x.a, "B T HV K"), "b": (x.b, "B T HV K")}
    sizes = fit(tokens, gates, scale=scale)
    H, heads = sizes["H"], sizes["HV"]
    if heads % H:
        raise UsageError(f"{H} heads of q and k do not divide {heads} value heads; choose heads that do")
    return sizes
