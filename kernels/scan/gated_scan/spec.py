"""The elementwise gated scan, as HGRN and RG-LRU use it: every channel is a recurrence of its own.

    h_t = a_t h_{t-1} + x_t                       input_scaling = none  (HGRN)
    h_t = a_t h_{t-1} + sqrt(1 - a_t^2) x_t       input_scaling = sqrt  (RG-LRU)
    a_t = exp(log_decay_t)                        o_t = h_t

Signature: f(x, log_decay, *, input_scaling, initial_state, output_final_state, cu_seqlens) with x and log_decay
[B, T, HS, V] in the problem's dtype, log_decay <= 0: the D = HS V channels of a layer, cut into heads as the other
operators' are. H and K mean nothing here. The state is h [N, HS, V]. A token whose log decay is exactly 0 keeps the
state and, scaled, takes no input; the gradient of sqrt(1 - a^2) is infinite there and counts as 0.
Sources: Qin et al. 2023, arXiv:2311.04823 (HGRN); De et al. 2024, arXiv:2402.19427 (RG-LRU).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from kernels.common.packed import apart, per_sequence
from suite import Axis, Cost, Operator, Problem, dtypes
from suite.draw import normal, uniform
from suite.problem import Value

NONE, SQRT = "none", "sqrt"
# RG-LRU: log a = r log(kept), where the layer starts with kept = sigmoid(lambda)^8 in this range.
RG_LRU_RANGE = (0.9, 0.999)


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """x and log decays like those of the two models' layers; a state as large as after a long context.

    HGRN: f = low + (1 - low) sigmoid(.), x = (1 - f) silu(.), low drawn per channel from [0, 0.9).
    RG-LRU: log a = -8 softplus(-lambda) sigmoid(.), x = sigmoid(.) times a linear branch.
    """
    p = problem
    shape = (p.B, 1 if p.pass_ == "decode" else p.T, p.HS, p.V)
    gate, value, branch = (normal(generator, *shape, dtype="float32") for _ in range(3))
    if p.axis("input_scaling") == SQRT:
        kept = uniform(generator, p.HS, p.V, dtype="float32", low=RG_LRU_RANGE[0], high=RG_LRU_RANGE[1])
        log_decay = kept.log() * gate.sigmoid()
        x, size = branch.sigmoid() * value, torch.ones_like(kept)
    else:
        low = uniform(generator, p.HS, p.V, dtype="float32", high=0.9)
        forget = low + (1 - low) * gate.sigmoid()
        log_decay, x = forget.log(), (1 - forget) * F.silu(value)
        size = (1 - low).sqrt()
    dtype = dtypes.torch_dtype(p.dtype)
    inputs = {"x": x.to(dtype), "log_decay": log_decay.to(dtype)}
    if p.initial_state or p.pass_ == "decode":
        state = normal(generator, p.N, p.HS, p.V, dtype="float32") * size * 0.5
        inputs["state" if p.pass_ == "decode" else "initial_state"] = state.to(dtypes.torch_dtype(p.state_dtype))
    return inputs


def scaled(x: torch.Tensor, log_decay: torch.Tensor, input_scaling: str) -> torch.Tensor:
    """What is added to the state: x, or sqrt(1 - a^2) x, in the common dtype of both."""
    if input_scaling == NONE:
        return x
    open_ = log_decay < 0
    # Where nothing is taken in, the root is taken of 1 instead, so that its infinite derivative meets no zero.
    taken = torch.where(open_, -torch.expm1(2 * log_decay), 1.0)
    return torch.where(open_, taken.sqrt(), 0.0) * x


def recurrence(
    x, log_decay, *, input_scaling=NONE, initial_state=None, output_final_state=False, cu_seqlens=None
) -> tuple[Any, Any]:
    """One token at a time: x, log_decay [B,T,HS,V] -> o [B,T,HS,V], and the state [N,HS,V]."""
    if apart(x, cu_seqlens):
        return per_sequence(
            recurrence,
            x,
            log_decay,
            cu_seqlens=cu_seqlens,
            initial_state=initial_state,
            output_final_state=output_final_state,
            input_scaling=input_scaling,
        )
    added, decay = scaled(x, log_decay, input_scaling), log_decay.exp()
    h = torch.zeros_like(x[:, 0]) if initial_state is None else initial_state
    outputs = []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + added[:, t]
        outputs.append(h)
    return torch.stack(outputs, dim=1), (h if output_final_state else None)


def flops(pass_: str, scaling: Value) -> int:
    """FLOPs per channel and token: a h + x forward; a (do + e) and e h backward.

    The scaling adds 1 - a^2 and its product with x; backward s dh, and dh x (-a^2 / s) to the gate's gradient.
    """
    own = {"fwd": 2, "decode": 2, "bwd": 3}[pass_]
    return own + ({"fwd": 3, "decode": 3, "bwd": 8}[pass_] if scaling == SQRT else 0)


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """Bytes: x and log_decay read, o written; backward o's gradient read besides, and the inputs' gradients written.

    Special functions: one exp per channel and token, and a square root if the input is scaled.
    """
    p = problem
    n = float(p.tokens * p.HS * p.V)
    states = float(dtypes.BYTES[p.state_dtype] * p.N * p.HS * p.V)
    copies = 2 if p.pass_ == "decode" else {"fwd": 2, "bwd": 3}[p.pass_] * p.initial_state
    tensors = 5 if p.pass_ == "bwd" else 3
    alg = n * flops(p.pass_, p.axis("input_scaling"))
    special = n * (2 if p.axis("input_scaling") == SQRT else 1)
    return Cost(alg, alg, p.itemsize * n * tensors + copies * states, copies * states, special)


CHANNELS = "B T HS V"

gated_scan = Operator(
    name="gated_scan",
    tags=("linear", "scan", "elementwise"),
    paper="Qin et al. 2023, arXiv:2311.04823; De et al. 2024, arXiv:2402.19427",
    equation="h_t = exp(log_decay_t) h_{t-1} + [sqrt(1 - exp(2 log_decay_t))] x_t ; o_t = h_t",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    axes=(Axis("input_scaling", (NONE, SQRT), "sqrt: x enters times sqrt(1 - a^2)"),),
    dims={"x": CHANNELS, "log_decay": CHANNELS},
)
