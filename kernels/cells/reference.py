"""What lstm and gru share: a recurrent cell as data, and from it inputs, recurrence and cost.

Signature of both: f(x, w_ih, w_hh, b_ih, b_hh, *, initial_state, output_final_state): x [B, T, HS, V] is D = HS V
channels, the input and the hidden state are of that size; w_ih, w_hh [gates D, D] and b_ih, b_hh [gates D] hold the
gates one after the other. H and K mean nothing here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from suite import Cost, Problem, dtypes
from suite.draw import normal, uniform
from suite.problem import Value

State = torch.Tensor | tuple[torch.Tensor, ...]

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


@dataclass(frozen=True)
class Cell:
    """A recurrent cell.

    step:        (x [B, D], states, w_ih, w_hh, b_ih, b_hh) -> states: one token; the first state is the output
    gates:       blocks of D rows in weights and biases
    states:      tensors [N, HS, V] of a state: a tuple of them, or the one
    elementwise: FLOPs per channel and token besides the two products
    special:     special functions a channel and token
    """

    step: Callable[..., tuple[torch.Tensor, ...]]
    gates: int
    states: int
    elementwise: int
    special: int

    def given(self, states: tuple[torch.Tensor, ...]) -> State:
        """A state as callers have it."""
        return states if self.states > 1 else states[0]

    def inputs(self, problem: Problem, generator: torch.Generator) -> dict[str, Any]:
        """x, weights and biases as torch.nn initialises them, states within (-1, 1)."""
        p, D = problem, width(problem)
        bound = D**-0.5
        length = 1 if p.pass_ == "decode" else p.T
        rows = self.gates * D
        inputs: dict[str, Any] = {"x": normal(generator, p.B, length, p.HS, p.V, dtype=p.dtype)}
        for name, shape in {"w_ih": (rows, D), "w_hh": (rows, D), "b_ih": (rows,), "b_hh": (rows,)}.items():
            inputs[name] = uniform(generator, *shape, dtype=p.dtype, low=-bound, high=bound)
        if p.initial_state or p.pass_ == "decode":
            drawn = [normal(generator, p.N, p.HS, p.V, dtype="float32").tanh() * 0.5 for _ in range(self.states)]
            made = tuple(x.to(dtypes.torch_dtype(p.state_dtype)) for x in drawn)
            inputs["state" if p.pass_ == "decode" else "initial_state"] = self.given(made)
        return inputs

    def recurrence(
        self, x, w_ih, w_hh, b_ih, b_hh, *, initial_state: State | None = None, output_final_state: bool = False
    ) -> tuple[torch.Tensor, State | None]:
        """One token at a time: x [B,T,HS,V] -> o [B,T,HS,V], and the state, [B,HS,V] each."""
        flat, heads = x.flatten(2), x.shape[2:]
        states = (torch.zeros_like(flat[:, 0]),) * self.states
        if initial_state is not None:
            states = tuple(each.flatten(1) for each in as_tuple(initial_state))
        outputs = []
        for t in range(x.shape[1]):
            states = self.step(flat[:, t], states, w_ih, w_hh, b_ih, b_hh)
            outputs.append(states[0])
        final = self.given(tuple(each.unflatten(1, heads) for each in states)) if output_final_state else None
        return torch.stack(outputs, dim=1).unflatten(2, heads), final

    def cost(self, problem: Problem, tunables: Mapping[str, Value]) -> Cost:
        """FLOPs per token: 2 gates D (D + D) of the two products, `elementwise` D; backward twice that.

        Bytes: x, weights, biases read, o written; backward the output's gradient read and the inputs' gradients written
        besides.
        """
        p, D = problem, float(width(problem))
        times = 2 if p.pass_ == "bwd" else 1
        tokens = float(p.tokens)
        parameters = self.gates * D * (2 * D + 2)
        copies = 2 if p.pass_ == "decode" else (3 if times == 2 else 2) * p.initial_state
        moved = copies * self.states * p.N * D * dtypes.BYTES[p.state_dtype]
        alg = times * tokens * D * (4 * self.gates * D + self.elementwise)
        io = p.itemsize * (times * (tokens * D + parameters) + tokens * D)
        return Cost(alg, alg, io + moved, moved, tokens * D * self.special)


def as_tuple(state: State) -> tuple[torch.Tensor, ...]:
    """A state's tensors."""
    return (state,) if isinstance(state, torch.Tensor) else tuple(state)


def width(problem: Problem) -> int:
    """Channels of the input and of the hidden state: all heads' values."""
    return problem.HS * problem.V


def defined_on(problem: Problem) -> str | None:
    """Packed sequences are not defined here: PyTorch packs them by another form."""
    if problem.layout != "dense":
        return "recurrent cells take dense layouts only"
    return None
