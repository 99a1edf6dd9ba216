"""Softmax attention, causal or full, with grouped queries.

    o_t = sum_j softmax_j(s q_t . k_j) v_j,   j <= t where causal

s is `scale`, 1/sqrt(K) by default. H is a multiple of HK = HV (GQA). There is no recurrent state: in `decode` the state
is the KV cache, a pair (k_cache [B,T,HK,K], v_cache [B,T,HV,V]) with a free last row; `step` writes the token's k and v
there and attends to all T rows.
Sources: Vaswani et al. 2017, arXiv:1706.03762; grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch

from kernels.common.heads import expand_heads
from kernels.common.packed import spans
from suite import Axis, Cost, Operator, Problem
from suite.cost import grad_io_bytes, io_bytes
from suite.draw import normal, qkv
from suite.problem import Value


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as a layer's projections give them; in decode a cache of T rows, the last one free."""
    p = problem
    inputs: dict[str, Any] = {**qkv(p, generator)}
    if p.pass_ == "decode":
        cache = [normal(generator, p.B, p.T, h, d, dtype=p.dtype) for h, d in ((p.HK, p.K), (p.HV, p.V))]
        inputs["state"] = tuple(cache)
    return inputs


def attention(q, k, v, *, causal=True, scale=None, cu_seqlens=None):
    """One token at a time: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,H,V], None)."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    k, v = (expand_heads(x, q.shape[2]) for x in (k, v))
    outputs = []
    for first, end in spans(q.shape[1], cu_seqlens):
        for t in range(first, end):
            last = t + 1 if causal else end
            outputs.append(_attend(q[:, t] * scale, k[:, first:last], v[:, first:last]))
    return torch.stack(outputs, dim=1), None


def _attend(q, k, v):
    scores = torch.einsum("bhk,bjhk->bhj", q, k)
    return torch.einsum("bhj,bjhv->bhv", scores.softmax(-1), v)


def attention_step(q, k, v, *, state, scale=None):
    """One query over the cache, its last row written first: q [B,1,H,K] -> o [B,1,H,V]."""
    k_cache, v_cache = state
    k_cache[:, -1:] = k
    v_cache[:, -1:] = v
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    keys, values = (expand_heads(x, q.shape[2]) for x in (k_cache, v_cache))
    return _attend(q[:, 0] * scale, keys, values)[:, None]


def pairs(problem: Problem) -> float:
    """(query, key) pairs of one head over all sequences: T(T+1)/2 where causal, T^2 where full."""
    bounds = problem.cu_seqlens
    lengths = [problem.T] * problem.B if bounds is None else [b - a for a, b in pairwise(bounds)]
    return float(sum(n * (n + 1) / 2 if problem.axis("causal") else n * n for n in lengths))


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs 2 (K + V) a pair and head, the causal half only; backward 2 (3K + 2V), which is 2.5 times that at K = V."""
    p = problem
    if p.pass_ == "decode":
        flops = 2.0 * p.B * p.T * p.H * (p.K + p.V)
        row = p.itemsize * p.B * (p.HK * p.K + p.HV * p.V)
        return Cost(flops, flops, io_bytes(p) + p.T * row, p.T * row, special=p.B * p.T * p.H)
    flops = 2.0 * pairs(p) * p.H * (p.K + p.V)
    if p.pass_ == "fwd":
        return Cost(flops, flops, io_bytes(p), special=pairs(p) * p.H)
    flops = 2.0 * pairs(p) * p.H * (3 * p.K + 2 * p.V)
    return Cost(flops, flops, grad_io_bytes(p), special=pairs(p) * p.H)


def defined_on(problem: Problem) -> str | None:
    """Queries may share keys and values, in groups; keys and values come in pairs."""
    p = problem
    if p.HK != p.HV or p.HK > p.H:
        return f"softmax attention has HK = HV <= H, not H = {p.H}, HK = {p.HK}, HV = {p.HV}"
    return None


softmax_attention = Operator(
    name="softmax_attention",
    tags=("quadratic", "softmax"),
    paper="Vaswani et al. 2017, arXiv:1706.03762",
    equation="o_t = sum_{j<=t} softmax_j(q_t . k_j / sqrt(K)) v_j",
    inputs=make_inputs,
    oracle=attention,
    step=attention_step,
    cost=cost,
    axes=(Axis("causal", (True, False), "whether token t sees only tokens up to t"),),
    dims={"state": ("B T HK K", "B T HV V")},
    stateful=False,
    supports=defined_on,
)
