"""RWKV-7: a diagonal decay plus a rank-one transition (DPLR), written for a [K, V] state.

    S_t = (diag(w_t) + b_t a_t^T) S_{t-1} + k_t v_t^T        o_t = s q_t^T S_t

q is the paper's receptance r; w_t = exp(log_decay_t), log_decay [B,T,HS,K] <= 0; a, b [B,T,HS,K]. The model sets
a = -kappa and b = kappa * iclr with a normalised kappa. s is `scale`, 1 by default: the model does not scale r. The
paper writes the transposed state, S [V, K], multiplied from the right. The state is S [N,HS,K,V].
Source: Peng et al. 2025, arXiv:2503.14456.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.common.heads import expand_heads
from kernels.common.packed import apart, per_sequence
from kernels.delta.reference import LIMITS, only_value_heads
from suite import Cost, Operator, Problem
from suite.cost import grad_io_bytes, io_bytes, state_bytes
from suite.draw import normal, qkv
from suite.problem import Value

# The model's log decays lie in (-exp(-0.5), 0).
DECAY_RANGE = math.exp(-0.5)


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as projections give them; w, a, b as in the model, in the problem's dtype; states as T tokens leave them.

    log_decay = -exp(-0.5) sigmoid(x), kappa normalised, iclr = sigmoid(x), a = -kappa, b = kappa iclr. k is scaled by
    1/sqrt(K), so that outputs stay of v's size without a scale.
    """
    p = problem
    length = 1 if p.pass_ == "decode" else p.T
    inputs: dict[str, Any] = {**qkv(p, generator)}
    inputs["k"] = inputs["k"] * p.K**-0.5
    gates = [normal(generator, p.B, length, p.HS, p.K, dtype="float32") for _ in range(3)]
    kappa = F.normalize(gates[1], dim=-1)
    made = {"log_decay": -DECAY_RANGE * gates[0].sigmoid(), "a": -kappa, "b": kappa * gates[2].sigmoid()}
    inputs |= {name: x.to(inputs["q"].dtype) for name, x in made.items()}
    if p.initial_state or p.pass_ == "decode":
        state = normal(generator, p.N, p.HS, p.K, p.V, dtype=p.state_dtype) * p.K**-0.5
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state
    return inputs


def recurrence(q, k, v, log_decay, a, b, *, scale=None, initial_state=None, output_final_state=False, cu_seqlens=None):
    """One token at a time: q, k [B,T,H,K], v [B,T,HV,V], log_decay, a, b [B,T,HS,K] -> o [B,T,HS,V], state."""
    if apart(q, cu_seqlens):
        return per_sequence(
            recurrence,
            q,
            k,
            v,
            log_decay,
            a,
            b,
            cu_seqlens=cu_seqlens,
            initial_state=initial_state,
            output_final_state=output_final_state,
            scale=scale,
        )
    heads = v.shape[2]
    q, k = expand_heads(q * (1.0 if scale is None else scale), heads), expand_heads(k, heads)
    S = q.new_zeros(q.shape[0], heads, q.shape[-1], v.shape[-1]) if initial_state is None else initial_state
    outputs = []
    for t in range(q.shape[1]):
        read = torch.einsum("bhk,bhkv->bhv", a[:, t], S)
        S = log_decay[:, t, :, :, None].exp() * S + b[:, t, :, :, None] * read[:, :, None, :]
        S = S + k[:, t, :, :, None] * v[:, t, :, None, :]
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S))
    return torch.stack(outputs, dim=1), (S if output_final_state else None)


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs per token and head by the recurrence: 8KV forward, 22KV backward, 9KV for a decode step.

    Forward reads a^T S and q^T S and adds two outer products. Backward runs all but the last read again, and each of
    the four forward products has two derivatives. A chunk of C tokens executes 2C(5K+4V) more, backward 2.5 times that.
    log_decay, a and b are in the problem's dtype.
    """
    p, K, V, C = problem, problem.K, problem.V, int(tunables.get("chunk", 0))
    n = p.tokens * p.HS
    states = state_bytes(p)
    gates = 3.0 * p.itemsize * n * K
    if p.pass_ == "decode":
        flops = 9.0 * n * K * V
        return Cost(flops, flops, io_bytes(p) + gates + 2 * states, 2 * states, special=n * K)
    if p.pass_ == "fwd":
        flops, moved = 8.0 * n * K * V, 2 * states * p.initial_state
        return Cost(flops, flops + 2.0 * n * C * (5 * K + 4 * V), io_bytes(p) + gates + moved, moved, special=n * K)
    flops, moved = 22.0 * n * K * V, 3 * states * p.initial_state
    exec_ = flops + 5.0 * n * C * (5 * K + 4 * V)
    return Cost(flops, exec_, grad_io_bytes(p) + 2 * gates + moved, moved, special=n * K)


rwkv7 = Operator(
    name="rwkv7",
    tags=("linear", "delta", "dplr"),
    paper="Peng et al. 2025, arXiv:2503.14456",
    equation="S_t = (diag(w_t) + b_t a_t^T) S_{t-1} + k_t v_t^T ; o_t = q_t^T S_t",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    dims={"log_decay": "B T HS K", "a": "B T HS K", "b": "B T HS K"},
    limits=LIMITS,
    supports=only_value_heads,
)
