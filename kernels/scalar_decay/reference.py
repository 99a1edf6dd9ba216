"""The linear recurrence with a scalar decay, one token at a time: what the operators of this family are specified by.

    S_t = exp(g_t) S_{t-1} + k_t v_t^T        o_t = s q_t^T S_t

g_t <= 0 is the log decay, one per head or one per token and head. Nothing here needs Triton.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kernels.common.heads import expand_heads
from kernels.common.packed import apart, per_sequence
from suite import Cost, Problem
from suite.cost import grad_io_bytes, io_bytes, state_bytes
from suite.draw import normal
from suite.dtypes import torch_dtype
from suite.problem import Value


def decayed_recurrence(
    q, k, v, log_decay, *, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [HS] or [B,T,HS] -> o [B,T,HS,V], and the state [N,HS,K,V].

    scale is 1/sqrt(K) by default.
    """
    heads = max(q.shape[2], v.shape[2])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    log_decay = log_decay.expand(*q.shape[:2], heads)
    if apart(q, cu_seqlens):
        return per_sequence(
            decayed_recurrence,
            q,
            k,
            v,
            log_decay,
            cu_seqlens=cu_seqlens,
            scale=scale,
            initial_state=initial_state,
            output_final_state=output_final_state,
        )
    q, k, v = (expand_heads(x, heads) for x in (q * scale, k, v))
    S = q.new_zeros(q.shape[0], heads, q.shape[-1], v.shape[-1]) if initial_state is None else initial_state
    outputs = []
    for t in range(q.shape[1]):
        S = log_decay[:, t].exp()[..., None, None] * S + k[:, t, :, :, None] * v[:, t, :, None, :]
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S))
    return torch.stack(outputs, dim=1), (S if output_final_state else None)


def drawn_state(
    problem: Problem, generator: torch.Generator, log_decay: torch.Tensor, weight: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """A state [N,HS,K,V] as large as after T tokens with log decays [HS] and these weights of v."""
    p = problem
    # The variance of a sum of T terms that decay: (1 - a^2T) / (1 - a^2), or nearly T without decay.
    exponent = 2 * log_decay.double().clamp(max=-1e-12)
    size = (torch.expm1(p.T * exponent) / torch.expm1(exponent)).sqrt() * weight
    state = normal(generator, p.N, p.HS, p.K, p.V, dtype="float32") * size[:, None, None]
    return state.to(torch_dtype(p.state_dtype))


def decayed_cost(problem: Problem, tunables: Mapping[str, Value], *, gates: float = 0.0) -> Cost:
    """FLOPs per token and head: 4KV forward and 10KV backward by the recurrence, 5KV for a decode step.

    A chunk of C tokens executes 2C(K+V) more forward and 2C(3K+2V) more backward.
    gates: bytes of all gates; backward they are read, and their gradients are written.
    """
    p, K, V, C = problem, problem.K, problem.V, int(tunables.get("chunk", 0))
    n = p.tokens * p.HS
    states = state_bytes(p)
    if p.pass_ == "decode":
        return Cost(n * 5 * K * V, n * 5 * K * V, io_bytes(p) + gates + 2 * states, 2 * states)
    if p.pass_ == "fwd":
        alg, moved = n * 4 * K * V, 2 * states if p.initial_state else 0.0
        return Cost(alg, alg + n * 2 * C * (K + V), io_bytes(p) + gates + moved, moved)
    alg, moved = n * 10 * K * V, 3 * states if p.initial_state else 0.0
    return Cost(alg, alg + n * 2 * C * (3 * K + 2 * V), grad_io_bytes(p) + 2 * gates + moved, moved)
