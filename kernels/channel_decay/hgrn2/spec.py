"""HGRN-2: gated linear attention whose keys are what its gates let in.

    S_t = diag(exp(g_t)) S_{t-1} + (1 - exp(g_t)) v_t^T        o_t = s q_t^T S_t

It has no k: the signature is f(q, v, log_decay, …). s is `scale`, 1/sqrt(K) by default, as in the library layer (the
paper's has none before its norm); g is `log_decay` [B,T,HS,K], natural logarithm, at most 0. The state is
S [N, HS, K, V]. Source: Qin et al. 2024, arXiv:2404.07904.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.channel_decay import reference as channel
from suite import Cost, Operator, Problem
from suite.draw import normal, qkv, uniform
from suite.problem import Value

# Lower bounds grow from 0 in the first layer towards 1 in the last; a layer in the middle has bounds up to here.
HIGHEST_BOUND = 0.9


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q through SiLU, v as projected; gates b + (1 - b) sigmoid(x), with bounds b as a middle layer has them."""
    p = problem
    length = 1 if p.pass_ == "decode" else p.T
    drawn = qkv(p, generator)
    bound = uniform(generator, p.HS, p.K, dtype="float32", high=HIGHEST_BOUND)
    gate = bound + (1 - bound) * normal(generator, p.B, length, p.HS, p.K, dtype="float32").sigmoid()
    inputs: dict[str, Any] = {"q": F.silu(drawn["q"]), "v": drawn["v"], "log_decay": gate.log().to(drawn["q"].dtype)}
    if p.initial_state or p.pass_ == "decode":
        state = channel.draw_state(p, generator, inputs["log_decay"])
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state
    return inputs


def keys(log_decay: torch.Tensor) -> torch.Tensor:
    """1 - exp(g) [B, T, HS, K]."""
    return -torch.expm1(log_decay)


def recurrence(q, v, log_decay, *, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None):
    """One token at a time: q [B,T,H,K], v [B,T,HV,V], log_decay [B,T,HS,K] -> o [B,T,HS,V], and the state."""
    return channel.recurrence(
        q,
        keys(log_decay),
        v,
        log_decay,
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """See channel_cost: no k is read, none has a gradient."""
    return channel.channel_cost(problem, int(tunables.get("chunk", 0)), stored_keys=False)


hgrn2 = Operator(
    name="hgrn2",
    tags=("linear", "decay", "channel-decay"),
    paper="Qin et al. 2024, arXiv:2404.07904",
    equation="S_t = diag(exp(g_t)) S_{t-1} + (1 - exp(g_t)) v_t^T ; o_t = s q_t^T S_t",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    dims={"log_decay": "B T HS K"},
)
