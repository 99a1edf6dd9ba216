"""What the operators with a scalar-gated delta rule share before any kernel: recurrence, inputs, cost, limits.

    S <- a_t S, once a token;  then for each of a token's n steps    S <- S + b k (v - S^T k)^T
    o_t = s S_t^T q_t

delta_rule has a = 1 and n = 1, gated_delta_rule n = 1, gated_delta_product n of 1 to 4. Where n is an axis, k, v and
beta have a dimension for the steps after T.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.common.heads import expand_heads
from kernels.common.packed import apart, per_sequence
from suite import Axis, Cost, Problem
from suite.cost import state_bytes
from suite.draw import normal, uniform
from suite.problem import Value

# Added to the square of a norm, as the models' layers do.
NORM_EPS = 1e-6
LIMITS = {"bfloat16": 1.5e-2}
AXES = (
    Axis("l2norm", (False, True), "q and k are normalised by the operator, not before it"),
    Axis("negative_eigenvalues", (False, True), "beta is drawn in [0, 2] instead of [0, 1]", drawn=True),
)


def unit(x: torch.Tensor) -> torch.Tensor:
    """x divided by its norm in the last dimension."""
    return x * (x.square().sum(-1, keepdim=True) + NORM_EPS).rsqrt()


def with_steps(k: torch.Tensor, v: torch.Tensor, beta: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """k, v, beta with a dimension of steps after T; a dimension of size 1 is added if they have none."""
    return (k, v, beta) if k.ndim == 5 else (k.unsqueeze(2), v.unsqueeze(2), beta.unsqueeze(2))


def recurrence(
    q,
    k,
    v,
    beta,
    log_decay=None,
    *,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
):
    """One step at a time: q [B,T,H,K], k [B,T,n,H,K], v [B,T,n,HV,V], beta [B,T,n,HV], log_decay [B,T,HV] or None.

    The dimension of steps may be left out. Returns o [B,T,HV,V] and, where asked for, the state [N,HV,K,V].
    """
    if apart(q, cu_seqlens):
        gates = (beta,) if log_decay is None else (beta, log_decay)
        return per_sequence(
            recurrence,
            q,
            k,
            v,
            *gates,
            cu_seqlens=cu_seqlens,
            initial_state=initial_state,
            output_final_state=output_final_state,
            l2norm=l2norm,
            scale=scale,
        )
    k, v, beta = with_steps(k, v, beta)
    q, k = (unit(q), unit(k)) if l2norm else (q, k)
    B, T, n, heads, V = v.shape
    s = q.shape[-1] ** -0.5 if scale is None else scale
    q = expand_heads(q * s, heads)
    k = expand_heads(k.flatten(1, 2), heads).unflatten(1, (T, n))
    S = q.new_zeros(B, heads, q.shape[-1], V) if initial_state is None else initial_state
    outputs = []
    for t in range(T):
        if log_decay is not None:
            S = S * log_decay[:, t].exp()[..., None, None]
        for i in range(n):
            residual = v[:, t, i] - torch.einsum("bhk,bhkv->bhv", k[:, t, i], S)
            S = S + k[:, t, i, :, :, None] * (beta[:, t, i, :, None] * residual)[:, :, None]
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], S))
    return torch.stack(outputs, dim=1), (S if output_final_state else None)


def draw(problem: Problem, generator: torch.Generator, *, gated: bool, steps: int = 0) -> dict[str, Any]:
    """Inputs as a layer gives them: unit q and k, beta through a sigmoid, the gate through Mamba-2's parametrisation.

    steps: the size of the steps' dimension of k, v and beta, or 0 for none. The state is as large as after T tokens:
    K keys span it.
    """
    p, middle = problem, (steps,) if steps else ()
    length = 1 if p.pass_ == "decode" else p.T
    inputs: dict[str, Any] = {
        "q": normal(generator, p.B, length, p.H, p.K, dtype=p.dtype),
        "k": normal(generator, p.B, length, *middle, p.HK, p.K, dtype=p.dtype),
        "v": normal(generator, p.B, length, *middle, p.HV, p.V, dtype=p.dtype),
    }
    if not p.axis("l2norm"):
        inputs |= {name: F.normalize(inputs[name].float(), dim=-1).to(inputs[name].dtype) for name in ("q", "k")}
    beta = normal(generator, p.B, length, *middle, p.HS, dtype="float32").sigmoid()
    inputs["beta"] = beta * 2 if p.axis("negative_eigenvalues") else beta
    if gated:
        inputs["log_decay"] = mamba_gate(p, generator, length)
    if p.initial_state or p.pass_ == "decode":
        size = min(1.0, p.T / p.K) ** 0.5
        state = normal(generator, p.N, p.HS, p.K, p.V, dtype=p.state_dtype) * size
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state
    return inputs


def mamba_gate(problem: Problem, generator: torch.Generator, length: int) -> torch.Tensor:
    """log a [B, length, HS] fp32: -A softplus(x + bias), A in [1, 16], softplus(bias) log-uniform in [0.001, 0.1].

    Gu and Dao 2023, arXiv:2312.00752, section 3.6; Dao and Gu 2024, arXiv:2405.21060.
    """
    p = problem
    A = uniform(generator, p.HS, dtype="float32", low=1.0, high=16.0)
    step = uniform(generator, p.HS, dtype="float32", low=math.log(1e-3), high=math.log(1e-1)).exp()
    bias = step + torch.log(-torch.expm1(-step))
    return -A * F.softplus(normal(generator, p.B, length, p.HS, dtype="float32") + bias)


def only_value_heads(problem: Problem) -> str | None:
    """The reason why the operators are not defined on a problem, or None."""
    if problem.H != problem.HK or problem.H > problem.HV:
        return "the delta rule takes H = HK heads of q and k, and as many value heads or a multiple"
    return None


def delta_cost(problem: Problem, tunables: Mapping[str, Value], *, gated: bool, steps: int = 1) -> Cost:
    """FLOPs per token and head by the recurrence, with n = steps.

    Forward: k^T S and the update, 4nKV, and the read, 2KV. Backward: the state once more, 4nKV; the read's dq and dS,
    4KV; for each step the gradients of the update (dS^T k, dS w) and of the read (S y, dS -= k y^T), 8nKV. A decode
    step decays every element too: KV. A chunk of C steps executes 4C(K+V) more a step forward, 2.5 times that backward.
    """
    p, n, KV, C = problem, steps, problem.K * problem.V, int(tunables.get("chunk", 0))
    work = p.tokens * p.HS
    gates = 4.0 * p.tokens * p.HS * (n + gated)
    q, o, k, v = p.H * p.K, p.HS * p.V, n * p.HK * p.K, n * p.HV * p.V
    unit_ = p.itemsize * p.tokens
    states = state_bytes(p)
    if p.pass_ == "decode":
        flops = work * KV * (4 * n + 2 + gated)
        return Cost(flops, flops, unit_ * (q + k + v + o) + gates + 2 * states, 2 * states)
    extra = work * n * 4 * C * (p.K + p.V)
    if p.pass_ == "fwd":
        alg, moved = work * KV * (4 * n + 2), 2 * states * p.initial_state
        return Cost(alg, alg + extra, unit_ * (q + k + v + o) + gates + moved, moved)
    alg, moved = work * KV * (12 * n + 4), 3 * states * p.initial_state
    return Cost(alg, alg + 2.5 * extra, unit_ * (2 * (q + k + v) + o) + 2 * gates + moved, moved)
