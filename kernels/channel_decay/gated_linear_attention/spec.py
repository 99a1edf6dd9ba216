"""Gated linear attention: a [K, V] state whose channels decay by gates of their own.

    S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T        o_t = s q_t^T S_t

s is `scale`, 1/sqrt(K) by default; g is `log_decay` [B,T,HS,K], natural logarithm, at most 0; exp(g) may be exactly 0
(g = -inf). The state is S [N, HS, K, V]. Source: Yang et al. 2024, arXiv:2312.06635.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.channel_decay import reference as channel
from suite import Cost, Operator, Problem
from suite.draw import normal, qkv
from suite.problem import Value

# The paper's temperature: gates are sigmoid(x)^(1/16).
TEMPERATURE = 16


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as a layer's projections give them; gates logsigmoid(x) / 16 in their dtype."""
    p = problem
    length = 1 if p.pass_ == "decode" else p.T
    x = normal(generator, p.B, length, p.HS, p.K, dtype="float32")
    inputs: dict[str, Any] = qkv(p, generator)
    inputs["log_decay"] = (F.logsigmoid(x) / TEMPERATURE).to(inputs["q"].dtype)
    if p.initial_state or p.pass_ == "decode":
        state = channel.draw_state(p, generator, inputs["log_decay"])
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state
    return inputs


def recurrence(q, k, v, log_decay, *, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None):
    """One token at a time: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [B,T,HS,K] -> o [B,T,HS,V], the state."""
    return channel.recurrence(
        q,
        k,
        v,
        log_decay,
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """See channel_cost."""
    return channel.channel_cost(problem, int(tunables.get("chunk", 0)))


gated_linear_attention = Operator(
    name="gated_linear_attention",
    tags=("linear", "decay", "channel-decay"),
    paper="Yang et al. 2024, arXiv:2312.06635",
    equation="S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T ; o_t = s q_t^T S_t",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    dims={"log_decay": "B T HS K"},
)
