"""The gated delta rule: the state decays by one scalar per head before each key's value is corrected.

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        o_t = s S_t^T q_t

|k| = 1; b is beta and log a is `log_decay` <= 0, both [B, T, HS] fp32; beta lies in [0, 1], or in [0, 2] where
I - b k k^T may have negative eigenvalues; s is `scale`, 1/sqrt(K) by default. With l2norm the operator normalises q and
k, x / sqrt(|x|^2 + 1e-6). State S [N, HS, K, V].
Source: Yang et al. 2024, arXiv:2412.06464 (Gated DeltaNet).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kernels.delta.reference import AXES, LIMITS, delta_cost, draw, only_value_heads
from kernels.delta.reference import recurrence as shared_recurrence
from suite import Cost, Operator, Problem
from suite.problem import Value


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """Unit q and k, normal v, beta through a sigmoid, the gate through Mamba-2's parametrisation."""
    return draw(problem, generator, gated=True)


def recurrence(
    q, k, v, beta, log_decay, *, l2norm=False, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None
):
    """One token at a time: q, k [B,T,H,K], v [B,T,HV,V], beta and log_decay [B,T,HV] -> o [B,T,HV,V], and the state."""
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
    """FLOPs per token and head: 6KV forward, 16KV backward by the recurrence, 7KV for a decode step."""
    return delta_cost(problem, tunables, gated=True)


gated_delta_rule = Operator(
    name="gated_delta_rule",
    tags=("linear", "delta", "gated-delta"),
    paper="Yang et al. 2024, arXiv:2412.06464",
    equation="S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T ; o_t = S_t^T q_t",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    axes=AXES,
    limits=LIMITS,
    supports=only_value_heads,
)
