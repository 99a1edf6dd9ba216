"""mLSTM: a linear recurrence with a forget gate and an input gate per token, the latter exponential or a sigmoid.

    gate = "exp":      m_t = max(log f_t + m_{t-1}, i_t)         log f_t = logsigmoid(forget_gate_t)
                       C_t = f' C_{t-1} + i' k_t v_t^T           f' = exp(log f_t + m_{t-1} - m_t)
                       n_t = f' n_{t-1} + i' k_t                 i' = exp(i_t - m_t), i_t = input_gate_t
                       o_t = s C_t^T q_t / max(|s n_t . q_t|, exp(-m_t))
    gate = "sigmoid":  C_t = f_t C_{t-1} + i_t k_t v_t^T         f_t = sigmoid(forget_gate_t)
                       o_t = s C_t^T q_t                         i_t = sigmoid(input_gate_t)

s is `scale`, 1/sqrt(K) by default. The state is the tuple (C [N,HS,K,V], n [N,HS,K], m [N,HS]) with the exponential
gate, C alone with the sigmoid one; no state is C = n = 0 and m = -inf. m is a stabiliser: o does not depend on it, and
it has no gradient; those of C and n are taken at fixed m.
Sources: Beck et al. 2024, arXiv:2405.04517, equations 19 to 27; the sigmoid gate: Beck et al. 2025, arXiv:2503.14376.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.common.heads import expand_heads
from kernels.common.packed import apart, per_sequence
from suite import Axis, Cost, Operator, Problem
from suite.cost import grad_io_bytes, io_bytes, state_bytes
from suite.draw import normal, qkv
from suite.dtypes import torch_dtype
from suite.problem import Value

EXP, SIGMOID = "exp", "sigmoid"
# C, n and m of a state that nothing was added to.
NOTHING = (0.0, 0.0, -torch.inf)
# xLSTM 7B (arXiv:2503.13427): gates are softly capped at 15, the input gate's bias is -10, forget biases are 3 to 6.
CAP, INPUT_BIAS, FORGET_BIASES = 15.0, -10.0, (3.0, 6.0)
# How far the largest weight of a long memory lies above a usual one, as a logarithm.
ABOVE = 2.0


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """q, k, v as projections give them, gates as xLSTM 7B makes them, states as large as after T tokens."""
    p = problem
    length = 1 if p.pass_ == "decode" else p.T
    biases = torch.linspace(*FORGET_BIASES, p.HS, device=generator.device)
    drawn = [normal(generator, p.B, length, p.HS, dtype="float32") for _ in range(2)]
    inputs: dict[str, Any] = {
        **qkv(p, generator),
        "input_gate": _capped(drawn[0] + INPUT_BIAS),
        "forget_gate": _capped(drawn[1] + biases),
    }
    if p.initial_state or p.pass_ == "decode":
        inputs["state" if p.pass_ == "decode" else "initial_state"] = _drawn_state(p, generator, biases)
    return inputs


def _capped(x: torch.Tensor) -> torch.Tensor:
    return CAP * torch.tanh(x / CAP)


def _drawn_state(p: Problem, generator: torch.Generator, biases: torch.Tensor):
    usual = _capped(biases.new_tensor(INPUT_BIAS))
    remembered = (1 / (1 - torch.sigmoid(biases))).clamp(max=p.T).sqrt()[:, None]
    exponential = p.axis("gate") == EXP
    size = remembered * (usual.new_tensor(-ABOVE).exp() if exponential else usual.sigmoid())
    dtype = torch_dtype(p.state_dtype)
    C = (normal(generator, p.N, p.HS, p.K, p.V, dtype="float32") * size[..., None]).to(dtype)
    if not exponential:
        return C
    n = (normal(generator, p.N, p.HS, p.K, dtype="float32") * size).to(dtype)
    return C, n, usual + ABOVE + 0.3 * normal(generator, p.N, p.HS, dtype="float32")


def recurrence(
    q,
    k,
    v,
    input_gate,
    forget_gate,
    *,
    gate=EXP,
    scale=None,
    initial_state=None,
    output_final_state=False,
    cu_seqlens=None,
):
    """One token at a time: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], gates [B,T,HS] -> o [B,T,HS,V], and the state."""
    if apart(q, cu_seqlens):
        return per_sequence(
            recurrence,
            q,
            k,
            v,
            input_gate,
            forget_gate,
            cu_seqlens=cu_seqlens,
            gate=gate,
            scale=scale,
            initial_state=initial_state,
            output_final_state=output_final_state,
            nothing=NOTHING,
        )
    heads = max(q.shape[2], v.shape[2])
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v = (expand_heads(x, heads) for x in (q * scale, k, v))
    state = initial_state
    if state is None:
        state = _empty(q, v, gate)
    advance = _exponential if gate == EXP else _sigmoid
    outputs = []
    for t in range(q.shape[1]):
        o, state = advance(q[:, t], k[:, t], v[:, t], input_gate[:, t], forget_gate[:, t], state)
        outputs.append(o)
    return torch.stack(outputs, dim=1), (state if output_final_state else None)


def _empty(q, v, gate: str):
    C = q.new_zeros(q.shape[0], *q.shape[2:], v.shape[-1])
    return (C, C[..., 0], C.new_full(C.shape[:2], -torch.inf)) if gate == EXP else C


def _exponential(q, k, v, input_gate, forget_gate, state):
    C, n, m = state
    log_f = F.logsigmoid(forget_gate)
    new_m = torch.maximum(log_f + m, input_gate).detach()
    # At m = -inf nothing was ever remembered, and any finite value gives C = n = 0.
    taken = new_m.masked_fill(new_m == -torch.inf, 0.0)
    kept, added = (log_f + m.detach() - taken).exp(), (input_gate - taken).exp()
    C = kept[..., None, None] * C + added[..., None, None] * k[..., :, None] * v[..., None, :]
    n = kept[..., None] * n + added[..., None] * k
    total = (n * q).sum(-1).abs()
    o = torch.einsum("bhk,bhkv->bhv", q, C) / torch.maximum(total, (-new_m).exp())[..., None]
    return o, (C, n, new_m)


def _sigmoid(q, k, v, input_gate, forget_gate, C):
    added = torch.sigmoid(input_gate)[..., None, None] * k[..., :, None] * v[..., None, :]
    C = torch.sigmoid(forget_gate)[..., None, None] * C + added
    return torch.einsum("bhk,bhkv->bhv", q, C), C


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs per token and head: 4KV forward and 10KV backward by the recurrence, 5KV for a decode step.

    The normaliser of the exponential gate is one more column of the state, and a quotient. A chunk of C tokens executes
    2C(K+V) more forward and 2C(3K+2V) more backward. special: a token and head takes exp and log for log f, and exp for
    f', i' and exp(-m); two sigmoids with the sigmoid gate; the backward pass takes them again.
    """
    p, K, V, C = problem, problem.K, problem.V, int(tunables.get("chunk", 0))
    n = p.tokens * p.HS
    column = int(p.axis("gate") == EXP)
    states, stabilisers = state_bytes(p, extra=column), 4.0 * p.N * p.HS * column
    gates, special = 8.0 * n, n * (5.0 if column else 2.0)
    if p.pass_ == "decode":
        flops, moved = n * (5 * K * V + (5 * K + V) * column), 2 * (states + stabilisers)
        return Cost(flops, flops, io_bytes(p) + gates + moved, moved, special)
    if p.pass_ == "fwd":
        alg, moved = n * (4 * K * V + (4 * K + V) * column), 2 * (states + stabilisers) * p.initial_state
        return Cost(alg, alg + n * 2 * C * (K + V), io_bytes(p) + gates + moved, moved, special)
    alg, moved = n * (10 * K * V + (8 * K + 4 * V) * column), (3 * states + stabilisers) * p.initial_state
    return Cost(alg, alg + n * 2 * C * (3 * K + 2 * V), grad_io_bytes(p) + 2 * gates + moved, moved, special)


mlstm = Operator(
    name="mlstm",
    tags=("linear", "decay", "mlstm"),
    paper="Beck et al. 2024, arXiv:2405.04517; Beck et al. 2025, arXiv:2503.14376",
    equation="C_t = f_t C_{t-1} + i_t k_t v_t^T ; n_t = f_t n_{t-1} + i_t k_t ; o_t = C_t^T q_t / max(|n_t . q_t|, 1)",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    axes=(Axis("gate", (EXP, SIGMOID), "activation of the input gate; sigmoid has no normaliser"),),
)
