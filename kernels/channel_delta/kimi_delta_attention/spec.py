"""Kimi Delta Attention: the delta rule with a decay per channel.

    S_t = (I - b_t k_t k_t^T) diag(a_t) S_{t-1} + b_t k_t v_t^T        o_t = s q_t^T S_t

s is `scale`, 1/sqrt(K) by default; a_t = exp(log_decay_t), log_decay [B,T,HS,K] <= 0; b is `beta` [B,T,HS] in [0,1], or
in [0,2], which allows negative eigenvalues. The state is S [N,HS,K,V]. H = HK <= HV. With `l2norm` the operator
divides q and k by their norms, x / sqrt(|x|^2 + 1e-6); without, they come normalised.
Source: Kimi Team 2025, arXiv:2510.26692.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.common.heads import expand_heads
from kernels.common.packed import apart, per_sequence
from kernels.delta.reference import LIMITS, only_value_heads, unit
from suite import Axis, Cost, Operator, Problem
from suite.cost import grad_io_bytes, io_bytes, state_bytes
from suite.draw import normal, qkv, uniform
from suite.problem import Value

# Gates and beta are float32, as the model keeps them.
GATE_BYTES = 4


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v after a SiLU, q and k normalised; gates as in Kimi Linear: -A softplus(x + bias) and sigmoid(x), fp32.

    A is uniform in [1, 16] per head, softplus(bias) log-uniform in [0.001, 0.1] per channel. A state is as large as
    after T tokens.
    """
    p = problem
    inputs: dict[str, Any] = {name: F.silu(x) for name, x in qkv(p, generator).items()}
    if not p.axis("l2norm"):
        for name in ("q", "k"):
            inputs[name] = F.normalize(inputs[name].float(), dim=-1).to(inputs[name].dtype)
    length = 1 if p.pass_ == "decode" else p.T
    rate = uniform(generator, p.HS, 1, dtype="float32", low=1.0, high=16.0)
    step = uniform(generator, p.HS, p.K, dtype="float32", low=math.log(1e-3), high=math.log(0.1)).exp()
    bias = step + torch.log(-torch.expm1(-step))
    drawn = normal(generator, p.B, length, p.HS, p.K, dtype="float32")
    inputs["log_decay"] = -rate * F.softplus(drawn + bias)
    beta = normal(generator, p.B, length, p.HS, dtype="float32").sigmoid()
    inputs["beta"] = beta * 2 if p.axis("negative_eigenvalues") else beta
    if p.initial_state or p.pass_ == "decode":
        state = normal(generator, p.N, p.HS, p.K, p.V, dtype=p.state_dtype) * min(p.T, p.K) ** 0.5 / p.K**0.5
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state
    return inputs


def recurrence(
    q, k, v, log_decay, beta, *, l2norm=False, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None
):
    """One token at a time: q, k [B,T,H,K], v [B,T,HV,V], log_decay [B,T,HS,K], beta [B,T,HS] -> o [B,T,HS,V], state."""
    if apart(q, cu_seqlens):
        return per_sequence(
            recurrence,
            q,
            k,
            v,
            log_decay,
            beta,
            cu_seqlens=cu_seqlens,
            initial_state=initial_state,
            output_final_state=output_final_state,
            l2norm=l2norm,
            scale=scale,
        )
    heads = v.shape[2]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if l2norm:
        q, k = unit(q), unit(k)
    q, k = expand_heads(q * scale, heads), expand_heads(k, heads)
    S = q.new_zeros(q.shape[0], heads, q.shape[-1], v.shape[-1]) if initial_state is None else initial_state
    outputs = []
    for t in range(q.shape[1]):
        S = log_decay[:, t, :, :, None].exp() * S
        correction = beta[:, t, :, None] * (v[:, t] - torch.einsum("bhk,bhkv->bhv", k[:, t], S))
        S = S + k[:, t, :, :, None] * correction[:, :, None, :]
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S))
    return torch.stack(outputs, dim=1), (S if output_final_state else None)


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs per token and head by the recurrence: 6KV forward, 16KV backward, 7KV for a decode step.

    Forward reads k^T S and q^T S and adds one outer product. Backward runs k^T S and the outer product again, and each
    of the three forward products has two derivatives. A chunk of C tokens executes 4C(K+V) more, backward 2.5 times
    that. Gates are float32: K log decays and a beta.
    """
    p, K, V, C = problem, problem.K, problem.V, int(tunables.get("chunk", 0))
    n = p.tokens * p.HS
    states = state_bytes(p)
    gates = GATE_BYTES * n * (K + 1.0)
    if p.pass_ == "decode":
        flops = 7.0 * n * K * V
        return Cost(flops, flops, io_bytes(p) + gates + 2 * states, 2 * states, special=n * K)
    if p.pass_ == "fwd":
        flops, moved = 6.0 * n * K * V, 2 * states * p.initial_state
        return Cost(flops, flops + 4.0 * n * C * (K + V), io_bytes(p) + gates + moved, moved, special=n * K)
    flops, moved = 16.0 * n * K * V, 3 * states * p.initial_state
    exec_ = flops + 10.0 * n * C * (K + V)
    return Cost(flops, exec_, grad_io_bytes(p) + 2 * gates + moved, moved, special=n * K)


kimi_delta_attention = Operator(
    name="kimi_delta_attention",
    tags=("linear", "delta", "kimi-delta"),
    paper="Kimi Team 2025, arXiv:2510.26692",
    equation="S_t = (I - b_t k_t k_t^T) diag(a_t) S_{t-1} + b_t k_t v_t^T ; o_t = q_t^T S_t",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    axes=(
        Axis("l2norm", (False, True), "q and k are normalised by the operator, not before it"),
        Axis("negative_eigenvalues", (False, True), "beta is drawn in [0, 2] instead of [0, 1]", drawn=True),
    ),
    dims={"log_decay": "B T HS K"},
    limits=LIMITS,
    supports=only_value_heads,
)
