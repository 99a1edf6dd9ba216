"""The GRU of one layer, as torch.nn.GRU has it.

    r, z = sigmoid(W x_t + b + U h_{t-1} + b')       n = tanh(W x_t + b + r (U h_{t-1} + b'))
    h_t = (1 - z) n + z h_{t-1}

Signature and shapes: kernels/cells/reference.py. The gates are r, z, n in this order; the state is h [N, HS, V].
Source: Cho et al. 2014, arXiv:1406.1078, with the reset gate after the product as cuDNN has it.
"""

from __future__ import annotations

from kernels.cells.reference import DIMS, Cell, defined_on
from suite import Operator

GATES = 3


def step(x, states, w_ih, w_hh, b_ih, b_hh):
    """One token: x, h [B, D] -> (h,)."""
    (h,) = states
    of_x = (x @ w_ih.T + b_ih).chunk(GATES, dim=-1)
    of_h = (h @ w_hh.T + b_hh).chunk(GATES, dim=-1)
    r, z = ((a + b).sigmoid() for a, b in zip(of_x[:2], of_h[:2], strict=True))
    n = (of_x[2] + r * of_h[2]).tanh()
    return ((1 - z) * n + z * h,)


# Elementwise: two biases and a sum for each gate; r times a product; (1 - z) n + z h.
CELL = Cell(step, GATES, states=1, elementwise=3 * GATES + 1 + 4, special=3)

gru = Operator(
    name="gru",
    tags=("recurrent",),
    paper="Cho et al. 2014, arXiv:1406.1078",
    equation="h_t = (1 - z_t) n_t + z_t h_{t-1} ; n_t = tanh(W x_t + b + r_t (U h_{t-1} + b'))",
    inputs=CELL.inputs,
    oracle=CELL.recurrence,
    cost=CELL.cost,
    dims=DIMS,
    supports=defined_on,
)
