"""What the specifications of lstm and gru share: inputs, packed sequences' absence, cost."""

from __future__ import annotations

from typing import Any

import torch

from suite import Cost, Problem, dtypes
from suite.draw import normal, uniform

# Weights mix all channels, so neither inputs nor outputs can be cut by heads.
DIMS: dict[str, str | tuple[str, ...]] = {
    "x": "B T",
    "o": "B T",
    "w_ih": "OUT IN",
    "w_hh": "OUT IN",
    "b_ih": "OUT",
    "b_hh": "OUT",
    "initial_state": "N",
    "final_state": "N",
    "state": "N",
}


def width(problem: Problem) -> int:
    """Channels of the input and of the hidden state: all heads' values."""
    return problem.HS * problem.V


def cell_inputs(problem: Problem, generator: torch.Generator, gates: int, states: int) -> dict[str, Any]:
    """x [B,T,HS,V], weights [gates D, D] and biases [gates D] as torch.nn initialises them, states within (-1, 1)."""
    p, D = problem, width(problem)
    bound = D**-0.5
    length = 1 if p.pass_ == "decode" else p.T
    inputs: dict[str, Any] = {"x": normal(generator, p.B, length, p.HS, p.V, dtype=p.dtype)}
    shapes = {"w_ih": (gates * D, D), "w_hh": (gates * D, D), "b_ih": (gates * D,), "b_hh": (gates * D,)}
    for name, shape in shapes.items():
        inputs[name] = uniform(generator, *shape, dtype=p.dtype, low=-bound, high=bound)
    if p.initial_state or p.pass_ == "decode":
        drawn = [normal(generator, p.N, p.HS, p.V, dtype="float32").tanh() * 0.5 for _ in range(states)]
        made = tuple(x.to(dtypes.torch_dtype(p.state_dtype)) for x in drawn)
        inputs["state" if p.pass_ == "decode" else "initial_state"] = made if states > 1 else made[0]
    return inputs


def cell_cost(problem: Problem, gates: int, states: int, elementwise: int, special: int) -> Cost:
    """FLOPs a token: 2 gates D (D + D) of the two products, `elementwise` D of the cell; backward twice that.

    Bytes: x, weights, biases read, o written; backward the output's gradient read and the inputs' gradients written
    besides. special: evaluations a channel.
    """
    p, D = problem, float(width(problem))
    times = 2 if p.pass_ == "bwd" else 1
    tokens = float(p.tokens)
    parameters = gates * D * (2 * D + 2)
    copies = 2 if p.pass_ == "decode" else (3 if times == 2 else 2) * p.initial_state
    moved = copies * states * p.N * D * dtypes.BYTES[p.state_dtype]
    alg = times * tokens * D * (4 * gates * D + elementwise)
    io = p.itemsize * (times * (tokens * D + parameters) + tokens * D)
    return Cost(alg, alg, io + moved, moved, tokens * D * special)


def defined_on(problem: Problem) -> str | None:
    """Packed sequences are not defined here: PyTorch packs them by another form."""
    if problem.layout != "dense":
        return "recurrent cells take dense layouts only"
    return None
