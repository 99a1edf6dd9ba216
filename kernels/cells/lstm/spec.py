"""The LSTM of one layer, as torch.nn.LSTM has it.

    i, f, o = sigmoid(W x_t + U h_{t-1} + b)      g = tanh(W x_t + U h_{t-1} + b)
    c_t = f c_{t-1} + i g                         h_t = o tanh(c_t)

Signature and shapes: kernels/cells/reference.py. The gates are i, f, g, o in this order; the state is the pair (h, c),
[N, HS, V] each.
Sources: Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000.
"""

from __future__ import annotations

from kernels.cells.reference import DIMS, Cell, defined_on
from suite import Operator

GATES = 4


def step(x, states, w_ih, w_hh, b_ih, b_hh):
    """One token: x, h, c [B, D] -> (h, c)."""
    h, c = states
    i, f, g, o = (x @ w_ih.T + b_ih + h @ w_hh.T + b_hh).chunk(GATES, dim=-1)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


# Elementwise: two biases and the sum of two products for each gate; f c + i g, o tanh(c).
CELL = Cell(step, GATES, states=2, elementwise=3 * GATES + 4, special=5)

lstm = Operator(
    name="lstm",
    tags=("recurrent",),
    paper="Hochreiter and Schmidhuber 1997; Gers et al. 2000",
    equation="c_t = f_t c_{t-1} + i_t g_t ; h_t = o_t tanh(c_t), gates of W x_t + U h_{t-1} + b",
    inputs=CELL.inputs,
    oracle=CELL.recurrence,
    cost=CELL.cost,
    dims=DIMS,
    supports=defined_on,
)
