"""Retention: linear attention that forgets at a constant rate, one per head.

    S_t = gamma_h S_{t-1} + k_t v_t^T        o_t = s q_t^T S_t        gamma_h = 1 - 2^(-5-h), h = 0 .. HS-1

s is `scale`, 1/sqrt(K) by default. The input log_decay [HS] holds log gamma_h: it follows from the number of heads, and
has no gradient. The state is S [N, HS, K, V]. The rotation of q and k, and the norm and gate of the layer are not part
of it.
Source: Sun et al. 2023, arXiv:2307.08621, equations 5 to 8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kernels.scalar_decay.reference import decayed_cost, decayed_recurrence, drawn_state
from suite import Cost, Operator, Problem
from suite.draw import qkv
from suite.problem import Value


def log_decays(heads: int, device: torch.device | str | None = None) -> torch.Tensor:
    """log gamma [heads], fp32: natural logarithms."""
    exponent = -5.0 - torch.arange(heads, dtype=torch.float64, device=device)
    return torch.log1p(-(2.0**exponent)).float()


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as a layer's projections give them; states as large as after T tokens."""
    log_decay = log_decays(problem.HS, generator.device)
    inputs: dict[str, Any] = {**qkv(problem, generator), "log_decay": log_decay}
    if problem.initial_state or problem.pass_ == "decode":
        name = "state" if problem.pass_ == "decode" else "initial_state"
        inputs[name] = drawn_state(problem, generator, log_decay)
    return inputs


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """The recurrence's; see decayed_cost. The decays are a constant: they count no bytes."""
    return decayed_cost(problem, tunables)


retention = Operator(
    name="retention",
    tags=("linear", "decay"),
    paper="Sun et al. 2023, arXiv:2307.08621",
    equation="S_t = gamma_h S_{t-1} + k_t v_t^T ; o_t = q_t^T S_t ; gamma_h = 1 - 2^(-5-h)",
    inputs=make_inputs,
    oracle=decayed_recurrence,
    cost=cost,
    dims={"log_decay": "HS"},
    constants=("log_decay",),
)
