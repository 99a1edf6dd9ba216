"""State-space duality: the recurrence of Mamba-2, with a decay and a step size per token and head.

    S_t = exp(dt_t A_h) S_{t-1} + k_t (dt_t v_t)^T        o_t = (q_t^T S_t + D_h v_t) silu(z_t)

In the paper's names q is C, k is B and v is x; there is no scale. dt [B,T,HS] is the step size after its bias and
softplus, so it is positive; A [HS] is negative. D [HS] (axis `skip`) and z [B,T,HS,V] (axis `gated`) are left out by
default: most implementations are compared without. Mamba-2's own layers skip, and gate after a norm, outside of the
recurrence. The state is S [N,HS,K,V]; H = HK <= HV = HS.

Simple GLA, S_t = exp(g_t) S_{t-1} + k_t u_t^T with a gate g_t per token and head, is the same: g = dt A, u = dt v.
Source: Dao and Gu 2024, arXiv:2405.21060.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.common.heads import expand_heads
from kernels.scalar_decay.reference import decayed_cost, decayed_recurrence, drawn_state
from suite import Axis, Cost, Operator, Problem
from suite.draw import normal, qkv, uniform
from suite.errors import UsageError
from suite.problem import Value

# Mamba-2's initialisation: A uniform in these bounds, softplus(dt_bias) log-uniform in those.
A_BOUNDS = (1.0, 16.0)
DT_BOUNDS = (1e-3, 1e-1)


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """x, B and C as a layer gives them, after a convolution and silu; dt, A and D as Mamba-2 initialises them."""
    p = problem
    length = 1 if p.pass_ == "decode" else p.T
    inputs: dict[str, Any] = {name: F.silu(x) for name, x in qkv(p, generator).items()}
    low, high = (math.log(bound) for bound in DT_BOUNDS)
    first = uniform(generator, p.HS, dtype="float32", low=low, high=high).exp()
    bias = first + torch.log(-torch.expm1(-first))
    # A projection of d normalised features with weights uniform in 1/sqrt(d): variance 1/3.
    projected = normal(generator, p.B, length, p.HS, dtype="float32") * 3**-0.5
    A = -uniform(generator, p.HS, dtype="float32", low=A_BOUNDS[0], high=A_BOUNDS[1])
    inputs |= {"dt": F.softplus(projected + bias), "A": A}
    if p.axis("skip"):
        inputs["D"] = 1.0 + 0.1 * normal(generator, p.HS, dtype="float32")
    if p.axis("gated"):
        inputs["z"] = normal(generator, p.B, length, p.HS, p.V, dtype=p.dtype)
    if p.initial_state or p.pass_ == "decode":
        name = "state" if p.pass_ == "decode" else "initial_state"
        inputs[name] = drawn_state(p, generator, first * A, weight=first)
    return inputs


def recurrence(
    q,
    k,
    v,
    dt,
    A,
    D=None,
    z=None,
    *,
    skip=None,
    gated=None,
    initial_state=None,
    output_final_state=False,
    cu_seqlens=None,
):
    """One token at a time, as simple GLA: q [B,T,H,K], k [B,T,H,K], v [B,T,HV,V] -> o [B,T,HV,V], S [N,HV,K,V]."""
    given(D, z, skip, gated)
    v = expand_heads(v, dt.shape[2])
    o, state = decayed_recurrence(
        q,
        k,
        dt[..., None] * v,
        dt * A,
        scale=1.0,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )
    if D is not None:
        o = o + D[:, None] * v
    if z is not None:
        o = o * F.silu(z)
    return o, state


def given(D, z, skip: bool | None, gated: bool | None) -> None:
    """UsageError if skip or gated is True and its tensor is missing, or False and its tensor is given."""
    for name, x, axis, said in (("D", D, "skip", skip), ("z", z, "gated", gated)):
        if said is not None and said != (x is not None):
            raise UsageError(f"{axis} = {said}, but {name} is {'None' if x is None else 'given'}; make them agree")


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """decayed_cost; gates: dt per token and head, A and D per head in fp32, and z as large as v."""
    p = problem
    skip, gated = bool(p.axis("skip")), bool(p.axis("gated"))
    gates = 4.0 * p.tokens * p.HS + 4.0 * p.HS * (1 + skip) + float(p.itemsize * p.tokens * p.HS * p.V * gated)
    return decayed_cost(p, tunables, gates=gates)


def supports(problem: Problem) -> str | None:
    """B and C have the same heads, and x has as many or more."""
    if problem.H != problem.HK or problem.HV < problem.H:
        return "ssd has as many heads of B (HK) as of C (H), and at least as many of x (HV)"
    return None


ssd = Operator(
    name="ssd",
    tags=("linear", "decay", "ssd"),
    paper="Dao and Gu 2024, arXiv:2405.21060",
    equation="S_t = exp(dt_t A) S_{t-1} + B_t (dt_t x_t)^T ; o_t = (C_t^T S_t [ + D x_t ]) [ silu(z_t) ]",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    axes=(
        Axis("skip", (False, True), "add D x"),
        Axis("gated", (False, True), "multiply by silu(z)"),
    ),
    dims={"A": "HS", "D": "HS", "z": "B T HS V"},
    supports=supports,
)
