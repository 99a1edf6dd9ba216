"""Gated products of delta steps: n steps per token, so that its transition is a product of n generalised Householders.

    S_t = prod_{i=n..1} (I - b_ti k_ti k_ti^T) a_t S_{t-1} + what the steps write        o_t = s S_t^T q_t

That is the gated delta rule over n T steps with the gate on a token's first step and the read after its last. n is the
axis `steps`. k [B, T, n, H, K], v [B, T, n, HV, V] and beta [B, T, n, HV] have a dimension for it; q [B, T, H, K] and
log_decay [B, T, HV] have not. With n = 1 it is the gated delta rule. State S [N, HS, K, V].
Source: Siems et al. 2025, arXiv:2502.10297 (DeltaProduct).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kernels.delta.reference import AXES, LIMITS, delta_cost, draw, only_value_heads
from kernels.delta.reference import recurrence as shared_recurrence
from suite import Axis, Cost, Operator, Problem
from suite.problem import Value


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """Unit q and k, normal v, beta through a sigmoid, the gate through Mamba-2's parametrisation."""
    return draw(problem, generator, gated=True, steps=int(problem.axis("steps")))


def recurrence(
    q,
    k,
    v,
    beta,
    log_decay,
    *,
    steps=2,
    l2norm=False,
    scale=None,
    initial_state=None,
    output_final_state=False,
    cu_seqlens=None,
):
    """q [B,T,H,K], k [B,T,n,H,K], v [B,T,n,HV,V], beta [B,T,n,HV], log_decay [B,T,HV] -> o, state."""
    return shared_recurrence(
        q,
        k,
        v,
        beta,
        log_decay,
        l2norm=l2norm,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs per token and head: (4n + 2)KV forward, (12n + 4)KV backward by the recurrence, (4n + 3)KV in decode."""
    return delta_cost(problem, tunables, gated=True, steps=int(problem.axis("steps")))


gated_delta_product = Operator(
    name="gated_delta_product",
    tags=("linear", "delta", "delta-product"),
    paper="Siems et al. 2025, arXiv:2502.10297",
    equation="S_t = prod_i (I - b_ti k_ti k_ti^T) a_t S_{t-1} + sum_i (later steps) b_ti k_ti v_ti^T ; o_t = S_t^T q_t",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    axes=(Axis("steps", (2, 1, 3, 4), "delta steps per token"), *AXES),
    dims={"k": "B T n HK K", "v": "B T n HV V", "beta": "B T n HS"},
    limits=LIMITS,
    supports=only_value_heads,
)
