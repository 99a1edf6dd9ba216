"""Chunked delta rules with a gate per channel, differentiable: checks and plans a call, gives autograd one function."""

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
    l2norm: bool,
    scale: float | None,
    chunk: int,
    initial_state,
    output_final_state,
    cu_seqlens,
    cu_seqlens_cpu,
):
    """q, k [B,T,H,K], v [B,T,HS,V], log_decay [B,T,HS,K] -> (o [B,T,HS,V] in q's dtype, final state or None).

    Either beta [B,T,HS] (the delta rule), or a and b [B,T,HS,K] (DPLR). With l2norm q and k are normalised first.
    initial_state is S [N,HS,K,V] or None for zeros; the final state has its dtype (fp32 for None). cu_seqlens [N+1]
    cuts the tokens of B = 1 into sequences, cu_seqlens_cpu is its copy on the CPU, from which grids are made.
    Gradients flow to every float tensor.
    Raises UsageError on shapes, dtypes or a chunk that cannot be served.
    """
    check_chunk(chunk)
    check_flags(l2norm=l2norm)
    inputs = Inputs(q, k, v, log_decay, beta=beta, a=a, b=b)
    sizes = sizes_of(inputs, scale)
    check_states(q, {"initial state": initial_state})
    tensors = (*inputs, initial_state)
    training = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in tensors)
    cuts = {"cu_seqlens": cu_seqlens, "cu_seqlens_cpu": cu_seqlens_cpu}
    call = _call(sizes, inputs, scale, **cuts, chunk=chunk, training=training, l2norm=l2norm)
    expected = (call.shape.sequences, call.shape.heads, call.shape.K, call.shape.V)
    if initial_state is not None and initial_state.shape != expected:
        raise UsageError(f"initial state is {tuple(initial_state.shape)}; it must be {expected}")
    if not call.shape.tokens:
        end = _room(call, q, initial_state, initial_state) if output_final_state else None
        return without_tokens((v.new_empty(v.shape), end), inputs, (initial_state,))
    return _Chunked.apply(*tensors, call, output_final_state)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, g, beta, a, b, S_start, call: Call, output_final_state: bool):
        x = Inputs(q, k, v, g, beta=beta, a=a, b=b).contiguous()
        S_start = None if S_start is None else S_start.contiguous()
        S_end = _room(call, q, S_start, S_start) if output_final_state else None
        o, saved = forward(call, x, S_start, S_end)
        if call.shape.training:
            ctx.save_for_backward(*x, S_start, *saved)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, S_end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        q, k, v, g, beta, a, b, S_start, *saved = ctx.saved_tensors
        x, call = Inputs(q, k, v, g, beta=beta, a=a, b=b), ctx.call
        do, dS_end = (None if x is None else x.contiguous() for x in gradients)
        do = v.new_zeros(v.shape) if do is None else do
        dS_start = None if S_start is None else _room(call, q, S_start, dS_end)
        d = backward(call, x, Saved(*saved), do=do, dS_start=dS_start, dS_end=dS_end)
        dbeta = None if d.beta is None else d.beta.to(beta.dtype)
        return *d._replace(q=_sum_heads(d.q, q), k=_sum_heads(d.k, k), beta=dbeta), dS_start, None, None


def _room(call: Call, like: torch.Tensor, S: Maybe, passed: Maybe) -> torch.Tensor:
    """Room for a state in the dtype of S; passed: what empty sequences pass on."""
    s, dtype = call.shape, torch.float32 if S is None else S.dtype
    return room(like, (s.sequences, s.heads, s.K, s.V), dtype, passed, call.some_empty)


def _sum_heads(dx, x: torch.Tensor) -> torch.Tensor:
    """[B, T, HS, K] -> the shape of x: gradients of the state heads that share a head of x, summed."""
    shared = dx.shape[2] // x.shape[2]
    return dx if shared == 1 else dx.unflatten(2, (x.shape[2], shared)).sum(3)


def _call(sizes: dict[str, int], x: Inputs, scale, *, cu_seqlens, cu_seqlens_cpu, chunk, training, l2norm) -> Call:
    B, T, H, heads, K, V = (sizes[name] for name in ("B", "T", "H", "HV", "K", "V"))
    if max(K, V) > MAX_DIM:
        raise UsageError(f"head dims K = {K}, V = {V} are too large; use at most {MAX_DIM}")
    sequences, longest, some_empty = packing(cu_seqlens, cu_seqlens_cpu, x.q)
    dtype = str(x.q.dtype).removeprefix("torch.")
    lengths = {"sequences": sequences, "longest": longest, "tokens": B * T, "chunk": chunk}
    dims = {"heads": heads, "shared": H, "K": K, "V": V}
    kinds = {"packed": cu_seqlens is not None, "dplr": x.a is not None, "training": training, "l2norm": l2norm}
    shape = Shape(**lengths, **dims, **kinds, dtype=dtype)
    scale = K**-0.5 if scale is None else scale
    return Call(shape, plan(shape), T=T, cu_seqlens=cu_seqlens, scale=scale, some_empty=some_empty)


def sizes_of(x: Inputs, scale) -> dict[str, int]:
    """Sizes of a call. UsageError if `fit` raises it, or if the heads of q do not divide those of v."""
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
