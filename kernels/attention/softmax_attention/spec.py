"""Softmax attention, causal or full, with grouped queries.

    o_t = sum_j softmax_j(s q_t . k_j) v_j,   j <= t where causal

s is `scale`, 1/sqrt(K) by default. H is a multiple of HK = HV (GQA). There is no recurrent state; a query over a cache
is an operator of its own, attention_decode.
Sources: Vaswani et al. 2017, arXiv:1706.03762; grouped queries: Ainslie et al. 2023, arXiv:2305.13245.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kernels.attention import reference as shared
from kernels.attention.reference import attend, defined_on, sequence_cost
from kernels.common.heads import expand_heads
from kernels.common.packed import spans
from suite import Axis, Cost, Operator, Problem
from suite.draw import qkv
from suite.problem import Value


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as a layer's projections give them."""
    return {**qkv(problem, generator)}


def attention(q, k, v, *, causal=True, scale=None, cu_seqlens=None):
    """One token at a time: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,H,V], None)."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    k, v = (expand_heads(x, q.shape[2]) for x in (k, v))
    outputs = []
    for first, end in spans(q.shape[1], cu_seqlens):
        for t in range(first, end):
            last = t + 1 if causal else end
            outputs.append(attend(q[:, t] * scale, k[:, first:last], v[:, first:last]))
    return torch.stack(outputs, dim=1) if outputs else v, None


def pairs(problem: Problem) -> float:
    """(query, key) pairs of one head over all sequences: T(T+1)/2 where causal, T^2 where full."""
    lengths = problem.lengths.items()
    return float(sum(count * (n * (n + 1) / 2 if problem.axis("causal") else n * n) for n, count in lengths))


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs of the pairs that are seen, the causal half only; see `sequence_cost`."""
    return sequence_cost(problem, pairs(problem))


def io_bound_bytes(problem: Problem, on_chip_bytes: float) -> float:
    """Bytes that the forward pass moves at least with so much memory on chip; see kernels/attention/reference.py."""
    return shared.io_bound_bytes(problem, pairs(problem), on_chip_bytes)


softmax_attention = Operator(
    name="softmax_attention",
    tags=("quadratic", "softmax"),
    paper="Vaswani et al. 2017, arXiv:1706.03762",
    equation="o_t = sum_{j<=t} softmax_j(q_t . k_j / sqrt(K)) v_j",
    inputs=make_inputs,
    oracle=attention,
    cost=cost,
    axes=(Axis("causal", (True, False), "whether token t sees only tokens up to t"),),
    passes=("fwd", "bwd", "fwdbwd"),
    stateful=False,
    supports=defined_on,
    io_bound=io_bound_bytes,
)
