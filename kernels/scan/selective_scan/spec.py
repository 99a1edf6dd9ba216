"""The selective scan of Mamba-1: a diagonal state space whose step, input and output depend on the token.

    dt_t = softplus(delta_t + delta_bias)
    h_t[n] = exp(dt_t A[n]) h_{t-1}[n] + dt_t B_t[n] u_t        for each channel, N modes n
    y_t = sum_n C_t[n] h_t[n] + D u_t                           o_t = y_t silu(z_t)

Signature: f(u, delta, A, B, C, D, z, delta_bias, *, initial_state, output_final_state, cu_seqlens). The HS V channels
of a layer are cut into heads as the other operators' are, N is the problem's K:
    u, delta, z    [B, T, HS, V]   in the problem's dtype; delta before its bias and softplus
    B              [B, T, HK, N]   and C [B, T, H, N], in the problem's dtype; a group's channels share them, H = HK
    A              [HS, V, N]      fp32, below 0
    D, delta_bias  [HS, V]         fp32
Mamba-1 has one group: H = HK = 1. The state is h [sequences, HS, N, V]. All inputs are differentiable.
Source: Gu and Dao 2023, arXiv:2312.00752.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.common.heads import expand_heads
from kernels.common.packed import apart, per_sequence
from suite import Cost, Operator, Problem, dtypes
from suite.cost import state_bytes
from suite.draw import normal, uniform
from suite.problem import Value

# The step sizes with which the layer starts, drawn uniformly in their logarithm.
STEPS = (1e-3, 1e-1)
PARAMETER_BYTES = 4
# FLOPs per mode: dt A, (dt u) B, the state's multiply-add, C h; backward the states again and the four products' two
# derivatives each. And a channel: bias, dt u, D u, silu; backward the same with their derivatives.
MODE_FLOPS = {"fwd": 6, "decode": 6, "bwd": 18}
CHANNEL_FLOPS = {"fwd": 6, "decode": 6, "bwd": 22}
# exp and log of softplus, exp of silu.
CHANNEL_SPECIAL = 3


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """Inputs as a Mamba layer gives them: A = -(1 .. N) (S4D-real), step sizes from 1e-3 to 0.1, D = 1 with noise."""
    p = problem
    length = 1 if p.pass_ == "decode" else p.T
    low, high = (math.log(step) for step in STEPS)
    dt = uniform(generator, p.HS, p.V, dtype="float32", low=low, high=high).exp()
    modes = torch.arange(1, p.K + 1, device=dt.device, dtype=torch.float32)
    noise = uniform(generator, p.HS, p.V, p.K, dtype="float32", low=0.9, high=1.1)
    inputs: dict[str, Any] = {
        "u": F.silu(normal(generator, p.B, length, p.HS, p.V, dtype=p.dtype)),
        "delta": normal(generator, p.B, length, p.HS, p.V, dtype=p.dtype) * 0.5,
        "A": -modes * noise,
        "B": normal(generator, p.B, length, p.HK, p.K, dtype=p.dtype),
        "C": normal(generator, p.B, length, p.H, p.K, dtype=p.dtype),
        "D": 1 + 0.1 * normal(generator, p.HS, p.V, dtype="float32"),
        "z": normal(generator, p.B, length, p.HS, p.V, dtype=p.dtype),
        # The inverse of softplus.
        "delta_bias": dt + torch.log(-torch.expm1(-dt)),
    }
    if p.initial_state or p.pass_ == "decode":
        # A mode's stationary size is about sqrt(dt / 2n).
        size = (dt[:, None, :] / (2 * modes[:, None])).sqrt()
        state = normal(generator, p.N, p.HS, p.K, p.V, dtype="float32") * size
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state.to(dtypes.torch_dtype(p.state_dtype))
    return inputs


def recurrence(
    u, delta, A, B, C, D, z, delta_bias, *, initial_state=None, output_final_state=False, cu_seqlens=None
) -> tuple[Any, Any]:
    """One token at a time: shapes as above -> o [B,T,HS,V], and the state [sequences,HS,N,V]."""
    if apart(u, cu_seqlens):

        def one(u, delta, B, C, z, **options):
            return recurrence(u, delta, A, B, C, D, z, delta_bias, **options)

        return per_sequence(
            one,
            u,
            delta,
            B,
            C,
            z,
            cu_seqlens=cu_seqlens,
            initial_state=initial_state,
            output_final_state=output_final_state,
        )
    heads = u.shape[2]
    B, C = expand_heads(B, heads), expand_heads(C, heads)
    dt = F.softplus(delta + delta_bias)
    rate = A.transpose(1, 2)
    h = u.new_zeros(u.shape[0], *rate.shape) if initial_state is None else initial_state
    outputs = []
    for t in range(u.shape[1]):
        step = dt[:, t, :, None, :]
        h = (step * rate).exp() * h + step * B[:, t, :, :, None] * u[:, t, :, None, :]
        outputs.append(torch.einsum("bhn,bhnv->bhv", C[:, t], h) + D * u[:, t])
    o = torch.stack(outputs, dim=1) * F.silu(z)
    return o, (h if output_final_state else None)


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs as MODE_FLOPS and CHANNEL_FLOPS have them; special functions: an exp a mode, and CHANNEL_SPECIAL.

    Bytes: u, delta, z, B, C and the parameters read, o written; backward the output's gradient read, and every input's
    gradient written, besides.
    """
    p = problem
    channels, modes = p.HS * p.V, p.K
    n = float(p.tokens * channels)
    backward = p.pass_ == "bwd"
    times = 2 if backward else 1
    io = p.itemsize * p.tokens * (times * (3 * channels + (p.H + p.HK) * modes) + channels)
    parameters = times * PARAMETER_BYTES * channels * (modes + 2)
    copies = 2 if p.pass_ == "decode" else (3 if backward else 2) * p.initial_state
    moved = copies * state_bytes(p)
    alg = n * (MODE_FLOPS[p.pass_] * modes + CHANNEL_FLOPS[p.pass_])
    return Cost(alg, alg, io + parameters + moved, moved, n * (modes + CHANNEL_SPECIAL))


def defined_on(problem: Problem) -> str | None:
    """B and C come in pairs, a group of channel heads to each."""
    p = problem
    if p.H != p.HK or p.H > p.HV:
        return f"selective_scan has H = HK <= HV, not H = {p.H}, HK = {p.HK}, HV = {p.HV}"
    return None


selective_scan = Operator(
    name="selective_scan",
    tags=("linear", "scan", "ssm", "mamba1"),
    paper="Gu and Dao 2023, arXiv:2312.00752",
    equation="h_t = exp(dt A) h_{t-1} + dt B u ; o_t = (C . h_t + D u) silu(z) ; dt = softplus(delta + bias)",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    dims={
        "u": "B T HS V",
        "delta": "B T HS V",
        "z": "B T HS V",
        "A": "HS V K",
        "B": "B T HK K",
        "C": "B T H K",
        "D": "HS V",
        "delta_bias": "HS V",
    },
    supports=defined_on,
)
