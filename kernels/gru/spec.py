"""The GRU of one layer, as torch.nn.GRU has it.

    r, z = sigmoid(W x_t + b + U h_{t-1} + b')       n = tanh(W x_t + b + r (U h_{t-1} + b'))
    h_t = (1 - z) n + z h_{t-1}

Signature: f(x, w_ih, w_hh, b_ih, b_hh, *, initial_state, output_final_state): x [B, T, HS, V] is D = HS V channels, the
input and the hidden state are of that size; w_ih, w_hh [3 D, D] and b_ih, b_hh [3 D] hold r, z, n in this order. The
state is h [N, HS, V]. H and K mean nothing here.
Source: Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product as cuDNN has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kernels.lstm.cells import DIMS, cell_cost, cell_inputs, defined_on
from suite import Cost, Operator, Problem
from suite.problem import Value

GATES = 3
# Two biases and a sum for each gate; r times a product; (1 - z) n + z h.
ELEMENTWISE = 3 * GATES + 1 + 4
SPECIAL = 3


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """Weights as torch.nn.GRU initialises them."""
    return cell_inputs(problem, generator, GATES, states=1)


def cell(x, h, w_ih, w_hh, b_ih, b_hh):
    """One token: x, h [B, D] -> h."""
    of_x = (x @ w_ih.T + b_ih).chunk(GATES, dim=-1)
    of_h = (h @ w_hh.T + b_hh).chunk(GATES, dim=-1)
    r, z = ((a + b).sigmoid() for a, b in zip(of_x[:2], of_h[:2], strict=True))
    n = (of_x[2] + r * of_h[2]).tanh()
    return (1 - z) * n + z * h


def recurrence(x, w_ih, w_hh, b_ih, b_hh, *, initial_state=None, output_final_state=False):
    """One token at a time: x [B,T,HS,V] -> o [B,T,HS,V], and h [B,HS,V]."""
    flat, heads = x.flatten(2), x.shape[2:]
    h = torch.zeros_like(flat[:, 0]) if initial_state is None else initial_state.flatten(1)
    outputs = []
    for t in range(x.shape[1]):
        h = cell(flat[:, t], h, w_ih, w_hh, b_ih, b_hh)
        outputs.append(h)
    final = h.unflatten(1, heads) if output_final_state else None
    return torch.stack(outputs, dim=1).unflatten(2, heads), final


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """12 D^2 FLOPs a token forward and 24 D^2 backward, and the cell's elementwise ones."""
    return cell_cost(problem, GATES, 1, ELEMENTWISE, SPECIAL)


gru = Operator(
    name="gru",
    tags=("recurrent",),
    paper="Cho et al. 2014, arXiv:1406.1078",
    equation="h_t = (1 - z_t) n_t + z_t h_{t-1} ; n_t = tanh(W x_t + b + r_t (U h_{t-1} + b'))",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    dims=DIMS,
    supports=defined_on,
)
