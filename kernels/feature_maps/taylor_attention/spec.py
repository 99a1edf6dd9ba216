"""TaylorShift: attention whose exponential is its Taylor series of second order, on normalised queries and keys.

    x_tj = tau_h (q_t / |q_t|) . (k_j / |k_j|)        a_tj = 1 + x_tj + x_tj^2 / 2
    o_t = sqrt(n_t / K) sum_j a_tj v_j / sum_j a_tj   over the n_t keys that token t sees: j <= t where causal

tau [H] is `temperature`, learned. a_tj is at least 1/2, so the quotient is safe. sqrt(n_t / K) is the paper's output
normalisation, sqrt(N / d), for the keys that a token sees; it keeps outputs as large as values, since a mean of n_t
values is smaller by sqrt(n_t). H is a multiple of HK = HV (GQA). orders.py has the two orders of evaluation.
Without normalisations and temperature it is linear_attention with the feature map taylor.
Source: Nauen et al. 2024, arXiv:2403.02920.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.attention.softmax_attention.spec import defined_on, pairs
from kernels.common.heads import expand_heads
from kernels.common.packed import spans
from kernels.feature_maps.taylor_attention.orders import fused_flops, pair_flops, taylor_count, token_flops
from suite import Axis, Cost, Operator, Problem
from suite.cost import grad_io_bytes, io_bytes
from suite.draw import qkv, uniform
from suite.problem import Value


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as a layer's projections give them; temperatures from 0.5 to 2, around the 1 that they start from."""
    temperature = uniform(generator, problem.H, dtype="float32", low=0.5, high=2.0)
    return {**qkv(problem, generator), "temperature": temperature}


def attention(q, k, v, *, temperature, causal=True, cu_seqlens=None):
    """One token at a time: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], temperature [H] -> (o [B,T,H,V], None)."""
    K = q.shape[-1]
    q = F.normalize(q, dim=-1) * temperature[:, None]
    k, v = (expand_heads(x, q.shape[2]) for x in (F.normalize(k, dim=-1), v))
    outputs = []
    for first, end in spans(q.shape[1], cu_seqlens):
        for t in range(first, end):
            last = t + 1 if causal else end
            x = torch.einsum("bhk,bjhk->bhj", q[:, t], k[:, first:last])
            a = 1 + x + x.square() / 2
            mean = torch.einsum("bhj,bjhv->bhv", a / a.sum(-1, keepdim=True), v[:, first:last])
            outputs.append(mean * ((last - first) / K) ** 0.5)
    return torch.stack(outputs, dim=1) if outputs else v, None


def direct_flops(problem: Problem) -> float:
    """FLOPs of the direct order forward, all heads."""
    return pairs(problem) * problem.H * pair_flops(problem.K, problem.V)


def fused_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of the products of a fused direct order, the causal half alone: an implementation's executed FLOPs."""
    p = problem
    return pairs(p) * p.H * fused_flops(p.pass_, p.K, p.V)


def full_features_exec(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of a fused efficient order that keeps both orders of a product: K + 1 blocks of K features, in and out.

    Backward, keys and queries are in two products each.
    """
    p = problem
    products = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]
    return float(products * 2 * p.tokens * (p.HK + p.H) * (p.K + 1) * p.K * p.V)


def features_exec(problem: Problem, chunk: int) -> float:
    """FLOPs of an efficient order whose features lie in memory, with chunk x chunk products where causal.

    Backward each product becomes two.
    """
    p, width = problem, taylor_count(problem.K)
    chunk = min(chunk, p.T) if p.axis("causal") else 0
    a_token = 4 * width * p.V + 2 * chunk * (width + p.V) + 2 * p.K * (p.K + 1)
    return {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_] * float(p.tokens * p.H * a_token)


def efficient_flops(problem: Problem) -> float:
    """FLOPs of the efficient order forward, all heads."""
    return float(problem.tokens * problem.H * token_flops(problem.K, problem.V))


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs of the cheaper order, and 3 a multiplied element for the norms; backward 2.5 times as many.

    The temperatures are read, and their gradient is written: 4 bytes per head.
    """
    p = problem
    norms = 3.0 * p.tokens * p.K * (p.H + p.HK)
    flops = min(direct_flops(p), efficient_flops(p)) + norms
    rows = float(p.tokens * (p.H + p.HK))
    if p.pass_ == "fwd":
        return Cost(flops, flops, io_bytes(p) + 4 * p.H, special=rows)
    return Cost(2.5 * flops, 2.5 * flops, grad_io_bytes(p) + 8 * p.H, special=rows)


taylor_attention = Operator(
    name="taylor_attention",
    tags=("taylor",),
    paper="Nauen et al. 2024, arXiv:2403.02920",
    equation="o_t = sqrt(n_t/K) sum_j a_tj v_j / sum_j a_tj ; a = 1 + x + x^2/2 ; x = tau q_t . k_j / (|q_t| |k_j|)",
    inputs=make_inputs,
    oracle=attention,
    cost=cost,
    axes=(Axis("causal", (True, False), "whether token t sees only tokens up to t"),),
    dims={"temperature": "H"},
    passes=("fwd", "bwd", "fwdbwd"),
    stateful=False,
    supports=defined_on,
)
