"""RWKV-6 ("Finch"): a token reads the state before it decays, and its own key and value through a bonus.

    o_t = s r_t^T (S_{t-1} + diag(u) k_t v_t^T)        S_t = diag(exp(w_t)) S_{t-1} + k_t v_t^T

r is q [B,T,H,K], the paper's receptance; w is `log_decay` [B,T,HS,K], natural logarithm, at most 0, -exp of what the
layer computes; u [HS,K] is the bonus, a parameter that all sequences share. s is `scale`, 1 by default: the paper has
none. The state is S [N, HS, K, V]. Source: Peng et al. 2024, arXiv:2404.05892.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kernels.channel_decay import reference as channel
from suite import Cost, Operator, Problem
from suite.draw import normal, qkv
from suite.problem import Value


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """r, k, v as projected; decays and bonus as the paper's initialisation spreads them over channels.

    A channel's decay is exp(-exp(w0 + x)) with w0 from -6 to -1 and a data-dependent x of a few tenths; its bonus falls
    from 1 to 0 with a zigzag of 0.1.
    """
    p = problem
    length = 1 if p.pass_ == "decode" else p.T
    inputs: dict[str, Any] = qkv(p, generator)
    place = torch.arange(p.K, device=generator.device) / max(p.K - 1, 1)
    x = 0.3 * normal(generator, p.B, length, p.HS, p.K, dtype="float32")
    inputs["log_decay"] = (-torch.exp(-6 + 5 * place**1.35 + x)).to(inputs["q"].dtype)
    zigzag = (torch.arange(p.K, device=generator.device) + 1) % 3 - 1
    inputs["u"] = (1 - place + 0.1 * zigzag).expand(p.HS, p.K).to(inputs["q"].dtype).contiguous()
    if p.initial_state or p.pass_ == "decode":
        state = channel.draw_state(p, generator, inputs["log_decay"])
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state
    return inputs


def recurrence(q, k, v, log_decay, u, *, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None):
    """One token at a time: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [B,T,HS,K], u [HS,K] -> o, the state."""
    return channel.recurrence(
        q,
        k,
        v,
        log_decay,
        u=u,
        scale=1.0 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """See channel_cost, with a bonus."""
    return channel.channel_cost(problem, int(tunables.get("chunk", 0)), bonus=True)


rwkv6 = Operator(
    name="rwkv6",
    tags=("linear", "decay", "channel-decay"),
    paper="Peng et al. 2024, arXiv:2404.05892",
    equation="o_t = s r_t^T (S_{t-1} + diag(u) k_t v_t^T) ; S_t = diag(exp(w_t)) S_{t-1} + k_t v_t^T",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    dims={"log_decay": "B T HS K", "u": "HS K"},
)
