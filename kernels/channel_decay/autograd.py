"""Chunked recurrences with channel gates on tensors: checks the call, plans it, and gives autograd one function."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.autograd.function import once_differentiable

from kernels.channel_decay.launch import Call, Inputs, backward, forward
from kernels.channel_decay.plan import Shape, plan
from kernels.common.arguments import Options, check_chunk, check_heads, check_states, fit, given
from kernels.common.heads import sum_heads
from kernels.common.packed import packing, room, without_tokens
from kernels.common.shapes import MAX_DIM
from suite.errors import UsageError


def chunk_channel_decay(
    q,
    k,
    v,
    log_decay,
    *,
    u=None,
    scale: float | None,
    options: Options,
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [B,T,HS,K] -> (o [B,T,HS,V] in v's dtype, the state or None).

    k None: 1 - exp(log_decay). u [HS,K]: the bonus of a token's own key, with which the state is read before it decays.
    The initial state is [N,HS,K,V], or None for zeros; the final state has its dtype (fp32 for None). cu_seqlens [N+1]
    cuts the tokens of B = 1 into sequences, cu_seqlens_cpu is its copy on the CPU, from which grids are made. Gradients
    flow to every float input. Raises UsageError on shapes, dtypes or a chunk that cannot be served.
    """
    call = _call(q, k, v, log_decay, u, scale=scale, options=options)
    initial_state, output_final_state = options.initial_state, options.output_final_state
    if not call.shape.tokens:
        o = v.new_empty(*v.shape[:2], call.shape.heads, call.shape.V)
        end = _room(call, v, initial_state, initial_state) if output_final_state else None
        o, final = without_tokens((o, end), (q, k, v, log_decay, u), (initial_state,))
        return o, final
    o, final = _Chunked.apply(q, k, v, log_decay, u, initial_state, call, output_final_state)
    return o, final


class Saved(NamedTuple):
    """What the forward pass leaves for the backward one: the inputs, the initial state, the segments' start states."""

    q: torch.Tensor
    k: torch.Tensor | None
    v: torch.Tensor
    g: torch.Tensor
    u: torch.Tensor | None
    S: torch.Tensor | None
    states: torch.Tensor | None


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(ctx, q, k, v, g, u, S, call: Call, output_final_state: bool):
        q, v, g = (x.contiguous() for x in (q, v, g))
        k, u, S = (None if x is None else x.contiguous() for x in (k, u, S))
        end = _room(call, v, S, S) if output_final_state else None
        o, states = forward(call, Inputs(q, k, v, g, u), S, end)
        ctx.save_for_backward(*Saved(q, k, v, g, u, S, states))
        ctx.call = call
        ctx.set_materialize_grads(False)
        return o, end

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        do, d_end = gradients
        saved, call = Saved(*ctx.saved_tensors), ctx.call
        x, S = Inputs(saved.q, saved.k, saved.v, saved.g, saved.u), saved.S
        if do is None:
            do = x.v.new_zeros(*x.v.shape[:2], call.shape.heads, call.shape.V)
        do, d_end = (None if x is None else x.contiguous() for x in (do, d_end))
        d_start = None if S is None else _room(call, x.v, S, d_end)
        d = backward(call, x, saved.states, do, S, d_start=d_start, d_end=d_end)
        dq, dk, dv = sum_heads(d.q, x.q), sum_heads(d.k, x.k), sum_heads(d.v, x.v)
        return dq, dk, dv, d.g, d.u, d_start, None, None


def _room(call: Call, like: torch.Tensor, S: torch.Tensor | None, passed: torch.Tensor | None) -> torch.Tensor:
    """Room for a state in the dtype of S; passed: what empty sequences pass on."""
    s, dtype = call.shape, torch.float32 if S is None else S.dtype
    return room(like, (s.sequences, s.heads, s.K, s.V), dtype, passed, call.some_empty)


def _call(q, k, v, log_decay, u, *, scale: float | None, options: Options) -> Call:
    initial_state, _, cu_seqlens, cu_seqlens_cpu, chunk = options
    check_chunk(chunk)
    s = sizes_of(q, k, v, log_decay, u, scale)
    B, T, H, HV, heads, K, V = (s[name] for name in ("B", "T", "H", "HV", "HS", "K", "V"))
    HK = s["HK"]
    if max(K, V) > MAX_DIM:
        raise UsageError(f"head dims K = {K}, V = {V} are too large; use at most {MAX_DIM}")
    sequences, longest, some_empty = packing(cu_seqlens, cu_seqlens_cpu, q)
    check_states(q, {"initial_state": initial_state})
    expected = (sequences, heads, K, V)
    if initial_state is not None and initial_state.shape != expected:
        raise UsageError(f"initial_state is {tuple(initial_state.shape)}; it must be {expected}")
    dtype = str(q.dtype).removeprefix("torch.")
    shape = Shape(
        sequences=sequences,
        longest=longest,
        tokens=B * T,
        heads=heads,
        K=K,
        V=V,
        chunk=chunk,
        dtype=dtype,
        packed=cu_seqlens is not None,
        derived=k is None,
        bonus=u is not None,
    )
    return Call(shape, plan(shape), T, H, HK, HV, cu_seqlens, K**-0.5 if scale is None else scale, some_empty)


def sizes_of(q, k, v, log_decay, u, scale) -> dict[str, int]:
    """Sizes of a call; HK = HS if k is None. UsageError where `fit` raises it, or on heads that do not fit."""
    tokens = {"q": (q, "B T H K"), "k": (k, "B T HK K"), "v": (v, "B T HV V")}
    if k is None:
        del tokens["k"]
    s = fit(tokens, {"log_decay": (log_decay, "B T HS K"), **given({"u": (u, "HS K")})}, scale=scale)
    check_heads(s["H"], s.setdefault("HK", s["HS"]), s["HV"], s["HS"])
    return s
