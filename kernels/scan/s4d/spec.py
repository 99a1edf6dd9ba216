"""S4D: a diagonal state space whose transition is the same for every token, in complex conjugate pairs of modes.

    a = exp(dt A),  b = (a - 1) / A                    zero-order hold, dt = exp(log_dt), A = A_real + i A_imag
    h_t[m] = a[m] h_{t-1}[m] + u_t                     for each channel, m of N / 2 pairs
    o_t = 2 Re sum_m C[m] b[m] h_t[m] + D u_t

and the same as a causal convolution, o = k * u + D u with k_j = 2 Re sum_m C[m] b[m] a[m]^j.

Signature: f(u, log_dt, A_real, A_imag, C, D, *, initial_state, output_final_state, cu_seqlens). The HS V channels of a
layer are cut into heads as the other operators' are; N is the problem's K and is even, M = N / 2:
    u [B, T, HS, V] in the problem's dtype; all else fp32: log_dt, D [HS, V]; A_real < 0, A_imag [HS, V, M];
    C [HS, V, M, 2], real and imaginary parts
The state is [sequences, HS, N, V]: M real parts, then M imaginary ones. H means nothing here. All inputs are
differentiable.
Source: Gu, Gupta, Goel and Re 2022, arXiv:2206.11893; S4D-Lin: A_m = -1/2 + i pi m.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from kernels.common.packed import apart, per_sequence
from suite import Cost, Operator, Problem, dtypes
from suite.cost import state_bytes
from suite.draw import normal, uniform
from suite.problem import Value

# The step sizes with which the layer starts, drawn uniformly in their logarithm.
STEPS = (1e-3, 1e-1)
PARAMETER_BYTES = 4
# FLOPs per pair of modes: a h + u (3 multiply-adds and a product: 7), Re(c h) summed (4); backward the states again
# (7), conj(a) times their gradient (8), c dy (4), the sums of dy h (4) and of the gradient times h (8).
PAIR_FLOPS = {"fwd": 11, "decode": 11, "bwd": 31}
CHANNEL_FLOPS = {"fwd": 2, "decode": 2, "bwd": 4}


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """S4D-Lin's A, step sizes from 1e-3 to 0.1, C and D normal; a state as large as after a long context."""
    p = problem
    length, pairs = 1 if p.pass_ == "decode" else p.T, p.K // 2
    low, high = (math.log(step) for step in STEPS)
    log_dt = uniform(generator, p.HS, p.V, dtype="float32", low=low, high=high)
    shape = (p.HS, p.V, pairs)
    order = torch.arange(pairs, device=log_dt.device, dtype=torch.float32)
    inputs: dict[str, Any] = {
        "u": normal(generator, p.B, length, p.HS, p.V, dtype=p.dtype),
        "log_dt": log_dt,
        "A_real": torch.full(shape, -0.5, device=log_dt.device),
        "A_imag": (math.pi * order).expand(shape).clone(),
        "C": normal(generator, *shape, 2, dtype="float32") * 0.5**0.5,
        "D": normal(generator, p.HS, p.V, dtype="float32"),
    }
    if p.initial_state or p.pass_ == "decode":
        # |a|^2 = exp(-dt): a mode's stationary variance is about 1 / dt.
        size = (-0.5 * log_dt).exp()[:, None, :]
        state = normal(generator, p.N, p.HS, p.K, p.V, dtype="float32") * size * 0.5
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state.to(dtypes.torch_dtype(p.state_dtype))
    return inputs


def discretised(log_dt, A_real, A_imag, C):
    """(log |a|, phase of a, Re c, Im c) [HS, V, M] each, c = 2 C (a - 1) / A: o = Re sum c h + D u. In float64."""
    log_dt, A_real, A_imag, C = (x.double() for x in (log_dt, A_real, A_imag, C))
    dt = log_dt.exp()[..., None]
    size, phase = dt * A_real, dt * A_imag
    # a - 1 without cancellation: expm1(x) cos(y) - 2 sin(y/2)^2 + i e^x sin(y).
    real = torch.expm1(size) * phase.cos() - 2 * (phase / 2).sin().square()
    imag = size.exp() * phase.sin()
    norm = (A_real.square() + A_imag.square()) / 2
    b_real = (real * A_real + imag * A_imag) / norm
    b_imag = (imag * A_real - real * A_imag) / norm
    c_real = C[..., 0] * b_real - C[..., 1] * b_imag
    return size, phase, c_real, C[..., 0] * b_imag + C[..., 1] * b_real


def recurrence(
    u, log_dt, A_real, A_imag, C, D, *, initial_state=None, output_final_state=False, cu_seqlens=None
) -> tuple[Any, Any]:
    """One token at a time: u [B,T,HS,V] -> o [B,T,HS,V], and the state [sequences,HS,N,V]."""
    if apart(u, cu_seqlens):

        def one(u, **options):
            return recurrence(u, log_dt, A_real, A_imag, C, D, **options)

        return per_sequence(
            one, u, cu_seqlens=cu_seqlens, initial_state=initial_state, output_final_state=output_final_state
        )
    size, phase, c_real, c_imag = (x.transpose(1, 2) for x in discretised(log_dt, A_real, A_imag, C))
    a_real, a_imag = size.exp() * phase.cos(), size.exp() * phase.sin()
    shape = (u.shape[0], *a_real.shape)
    real, imag = (u.new_zeros(shape), u.new_zeros(shape)) if initial_state is None else initial_state.chunk(2, dim=2)
    outputs = []
    for t in range(u.shape[1]):
        b_u = u[:, t, :, None, :]
        real, imag = a_real * real - a_imag * imag + b_u, a_real * imag + a_imag * real
        outputs.append((c_real * real - c_imag * imag).sum(2) + D * u[:, t])
    return torch.stack(outputs, dim=1), (torch.cat([real, imag], dim=2) if output_final_state else None)


def taps(log_dt, A_real, A_imag, C, T: int):
    """The convolution's kernel k [HS, V, T] in float64, without a matrix of all powers: one pair of modes at a time."""
    size, phase, c_real, c_imag = discretised(log_dt, A_real, A_imag, C)
    time = torch.arange(T, device=size.device, dtype=torch.float64)
    k = torch.zeros(*size.shape[:2], T, device=size.device, dtype=torch.float64)
    for m in range(size.shape[-1]):
        angle = phase[..., m, None] * time
        k = k + (size[..., m, None] * time).exp() * (
            c_real[..., m, None] * angle.cos() - c_imag[..., m, None] * angle.sin()
        )
    return k


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs of the recurrence; a convolution by FFT needs fewer in long sequences and moves more bytes.

    Bytes: u and the parameters read, o written; backward o's gradient read and the inputs' gradients written besides.
    """
    p = problem
    channels, pairs = p.HS * p.V, p.K // 2
    n, times = float(p.tokens * channels), 2 if p.pass_ == "bwd" else 1
    io = p.itemsize * n * (times + 1) + times * PARAMETER_BYTES * channels * (4 * pairs + 2)
    copies = 2 if p.pass_ == "decode" else (3 if times == 2 else 2) * p.initial_state
    moved = copies * state_bytes(p)
    alg = n * (PAIR_FLOPS[p.pass_] * pairs + CHANNEL_FLOPS[p.pass_])
    # exp, sin and cos of each transition, once a call.
    return Cost(alg, alg, io + moved, moved, 3.0 * channels * pairs)


def defined_on(problem: Problem) -> str | None:
    """Modes come in conjugate pairs."""
    return f"s4d has pairs of modes: K must be even, not {problem.K}" if problem.K % 2 else None


s4d = Operator(
    name="s4d",
    tags=("linear", "scan", "ssm", "time-invariant"),
    paper="Gu et al. 2022, arXiv:2206.11893",
    equation="h_t = exp(dt A) h_{t-1} + u_t ; o_t = 2 Re(C (exp(dt A) - 1) / A . h_t) + D u_t",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    dims={
        "u": "B T HS V",
        "log_dt": "HS V",
        "A_real": "HS V M",
        "A_imag": "HS V M",
        "C": "HS V M 2",
        "D": "HS V",
    },
    supports=defined_on,
)
