"""The LSTM of one layer, as torch.nn.LSTM has it.

    i, f, o = sigmoid(W x_t + U h_{t-1} + b)      g = tanh(W x_t + U h_{t-1} + b)
    c_t = f c_{t-1} + i g                         h_t = o tanh(c_t)

Signature: f(x, w_ih, w_hh, b_ih, b_hh, *, initial_state, output_final_state): x [B, T, HS, V] is D = HS V channels, the
input and the hidden state are of that size; w_ih, w_hh [4 D, D] and b_ih, b_hh [4 D] hold the gates i, f, g, o in this
order. The state is the pair (h, c), [N, HS, V] each. H and K mean nothing here.
Sources: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from kernels.lstm.cells import DIMS, cell_cost, cell_inputs, defined_on
from suite import Cost, Operator, Problem
from suite.problem import Value

GATES = 4
# Two biases and the sum of two products for each gate; f c + i g, o tanh(c).
ELEMENTWISE = 3 * GATES + 4
SPECIAL = 5


def make_inputs(problem: Problem, generator: torch.Generator) -> dict[str, Any]:
    """Weights as torch.nn.LSTM initialises them."""
    return cell_inputs(problem, generator, GATES, states=2)


def cell(x, h, c, w_ih, w_hh, b_ih, b_hh):
    """One token: x, h, c [B, D] -> (h, c)."""
    i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(GATES, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def recurrence(x, w_ih, w_hh, b_ih, b_hh, *, initial_state=None, output_final_state=False):
    """One token at a time: x [B,T,HS,V] -> o [B,T,HS,V], and (h, c) [B,HS,V]."""
    flat, heads = x.flatten(2), x.shape[2:]
    zeros = torch.zeros_like(flat[:, 0])
    h, c = (zeros, zeros) if initial_state is None else (each.flatten(1) for each in initial_state)
    outputs = []
    for t in range(x.shape[1]):
        h, c = cell(flat[:, t], h, c, w_ih, w_hh, b_ih, b_hh)
        outputs.append(h)
    final = tuple(each.unflatten(1, heads) for each in (h, c)) if output_final_state else None
    return torch.stack(outputs, dim=1).unflatten(2, heads), final


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """16 D^2 FLOPs a token forward and 32 D^2 backward, and the cell's elementwise ones."""
    return cell_cost(problem, GATES, 2, ELEMENTWISE, SPECIAL)


lstm = Operator(
    name="lstm",
    tags=("recurrent",),
    paper="Hochreiter and Schmidhuber 1997; Gers et al. 2000",
    equation="c_t = f_t c_{t-1} + i_t g_t ; h_t = o_t tanh(c_t), gates of W x_t + U h_{t-1} + b",
    inputs=make_inputs,
    oracle=recurrence,
    cost=cost,
    dims=DIMS,
    supports=defined_on,
)
