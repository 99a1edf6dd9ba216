"""Lightning Attention-2: linear attention that forgets at a constant rate, one per head and layer.

    S_t = exp(g_h) S_{t-1} + k_t v_t^T        o_t = s q_t^T S_t        g_h = -(8 / HS) (1 - l / L) h, h = 0 .. HS-1

s is `scale`, 1/sqrt(K) by default; l / L, the layer's place among L layers, is the axis `layer`. The input log_decay
[HS] holds g_h: it follows from the number of heads and the layer, and has no gradient. Head 0 never forgets, nor does
any head of a last layer with l = L. The state is S [N, HS, K, V].
Source: Qin et al. 2024, arXiv:2401.04658; the slopes: the same authors' TransNormerLLM, arXiv:2307.14995, equation 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kernels.scalar_decay.reference import decayed_cost, decayed_recurrence, drawn_state
from suite import Axis, Cost, Operator, Problem
from suite.draw import qkv
from suite.problem import Value

LAYERS = (0.0, 0.5, 0.9)


def log_decays(heads: int, layer: float = 0.0, device: torch.device | str | None = None) -> torch.Tensor:
    """g [heads], fp32: natural logarithms; layer is l / L."""
    h = torch.arange(heads, dtype=torch.float64, device=device)
    return (-(8.0 / heads) * (1.0 - layer) * h).float()


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as a layer's projections give them; states as large as after T tokens."""
    log_decay = log_decays(problem.HS, float(problem.axis("layer")), generator.device)
    inputs: dict[str, Any] = {**qkv(problem, generator), "log_decay": log_decay}
    if problem.initial_state or problem.pass_ == "decode":
        name = "state" if problem.pass_ == "decode" else "initial_state"
        inputs[name] = drawn_state(problem, generator, log_decay)
    return inputs


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """The recurrence's; see decayed_cost. The decays are a constant: they count no bytes."""
    return decayed_cost(problem, tunables)


lightning_attention = Operator(
    name="lightning_attention",
    tags=("linear", "decay"),
    paper="Qin et al. 2024, arXiv:2401.04658",
    equation="S_t = exp(g_h) S_{t-1} + k_t v_t^T ; o_t = q_t^T S_t ; g_h = -(8/H)(1 - l/L) h",
    inputs=make_inputs,
    oracle=decayed_recurrence,
    cost=cost,
    axes=(Axis("layer", LAYERS, "the layer's place l / L, on which the decays depend", drawn=True),),
    dims={"log_decay": "HS"},
    constants=("log_decay",),
)
