"""Causal linear attention with a feature map, normalised or not.

    S_t = S_{t-1} + phi(k_t) v_t^T        z_t = z_{t-1} + phi(k_t)
    o_t = s phi(q_t)^T S_t                              (normalised = False)
    o_t = s phi(q_t)^T S_t / (s phi(q_t) . z_t + eps)   (normalised = True, eps = 1e-6)

s is `scale`, 1/sqrt(K) by default; phi is elementwise, in `feature_map`: identity, relu, or elu1 (elu(x) + 1).
The state is S [N, HS, K, V]; normalised, it is the pair (S, z) with z [N, HS, K].
Source: Katharopoulos et al. 2020, arXiv:2006.16236.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.common.heads import expand_heads
from kernels.common.packed import per_sequence
from suite import Axis, Cost, Operator, Problem
from suite.cost import grad_io_bytes, io_bytes, state_bytes
from suite.draw import normal, qkv, uniform
from suite.problem import Value

EPS = 1e-6
FEATURE_MAPS = {
    "identity": lambda x: x,
    "relu": F.relu,
    "elu1": lambda x: F.elu(x) + 1,
}


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as a layer's projections give them; states of the size that T tokens leave behind.

    With the identity map and a normaliser the features were made positive outside, as a model must.
    """
    p = problem
    normalised, feature_map = p.axis("normalised"), p.axis("feature_map")
    inputs: dict[str, Any] = {**qkv(p, generator)}
    if normalised and feature_map == "identity":
        inputs["q"], inputs["k"] = (F.elu(inputs[name]) + 1 for name in ("q", "k"))
    if p.initial_state or p.pass_ == "decode":
        state = normal(generator, p.N, p.HS, p.K, p.V, dtype=p.state_dtype) * p.T**0.5
        z = uniform(generator, p.N, p.HS, p.K, dtype=p.state_dtype, low=0.5, high=1.5) * p.T
        inputs["state" if p.pass_ == "decode" else "initial_state"] = (state, z) if normalised else state
    return inputs


def recurrence(q, k, v, *, feature_map="identity", normalised=False, scale=None, initial_state=None,
               output_final_state=False, cu_seqlens=None):  # fmt: skip
    """One token at a time: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> o [B,T,HS,V], and the state."""
    if cu_seqlens is not None:
        return per_sequence(recurrence, q, k, v, cu_seqlens=cu_seqlens, initial_state=initial_state,
                            output_final_state=output_final_state, feature_map=feature_map, normalised=normalised,
                            scale=scale)  # fmt: skip
    phi = FEATURE_MAPS[feature_map]
    heads = max(q.shape[2], v.shape[2])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (expand_heads(x, heads) for x in (phi(q) * scale, phi(k), v))
    S = q.new_zeros(q.shape[0], heads, q.shape[-1], v.shape[-1])
    z = q.new_zeros(q.shape[0], heads, q.shape[-1])
    if initial_state is not None:
        S, z = initial_state if normalised else (initial_state, z)
    outputs = []
    for t in range(q.shape[1]):
        S = S + k[:, t, :, :, None] * v[:, t, :, None, :]
        z = z + k[:, t]
        o = torch.einsum("bhk,bhkv->bhv", q[:, t], S)
        if normalised:
            o = o / ((q[:, t] * z).sum(-1, keepdim=True) + EPS)
        outputs.append(o)
    final = (S, z) if normalised else S
    return torch.stack(outputs, dim=1), (final if output_final_state else None)


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs a token and head: 4KV forward and 10KV backward by the recurrence, 5KV for a decode step.

    A chunk of C tokens executes 2C(K+V) more forward and 2C(3K+2V) more backward.
    """
    p, K, V, C = problem, problem.K, problem.V, int(tunables.get("chunk", 0))
    n = p.tokens * p.HS
    normalised = bool(p.axis("normalised"))
    states = state_bytes(p, extra=int(normalised))
    if p.pass_ == "decode":
        return Cost(n * (5 * K * V + 5 * K * normalised), n * (5 * K * V + 5 * K * normalised),
                    io_bytes(p) + 2 * states, 2 * states)  # fmt: skip
    if p.pass_ == "fwd":
        alg = n * (4 * K * V + (4 * K + V) * normalised)
        moved = 2 * states if p.initial_state else 0.0
        return Cost(alg, alg + n * 2 * C * (K + V), io_bytes(p) + moved, moved)
    alg = n * (10 * K * V + (8 * K + 4 * V) * normalised)
    moved = 3 * states if p.initial_state else 0.0
    return Cost(alg, alg + n * 2 * C * (3 * K + 2 * V), grad_io_bytes(p) + moved, moved)


linear_attention = Operator(
    name="linear_attention",
    tags=("linear", "feature-map"),
    paper="Katharopoulos et al. 2020, arXiv:2006.16236",
    equation="S_t = S_{t-1} + phi(k_t) v_t^T ; o_t = phi(q_t)^T S_t [ / (phi(q_t) . z_t + eps) ]",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    axes=(
        Axis("feature_map", tuple(FEATURE_MAPS), "phi, applied to q and k"),
        Axis("normalised", (False, True), "divide by phi(q) . z"),
    ),
)
