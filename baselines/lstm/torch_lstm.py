"""The LSTM in PyTorch: torch.lstm (cuDNN on a GPU), a loop over tokens, and a decode step.

The weights come as separate tensors, as every other operator's inputs do: cuDNN gathers them into one buffer in each
call, which belongs to the time. The state enters and leaves torch.lstm in the dtype of the inputs.
Sources: Hochreiter and Schmidhuber 1997; Chetlur et al. 2014, arXiv:1410.0759 (cuDNN).
"""

from __future__ import annotations

import torch

from baselines.precision import widen
from kernels.lstm.spec import cell, lstm

State = tuple[torch.Tensor, ...]
Sequence = tuple[torch.Tensor, State | None]


@lstm.implementation("torch", origin="baseline")
def torch_lstm(
    x: torch.Tensor, w_ih: torch.Tensor, w_hh: torch.Tensor, b_ih: torch.Tensor, b_hh: torch.Tensor, *,
    initial_state: State | None = None, output_final_state: bool = False,
) -> Sequence:  # fmt: skip
    """x [B,T,HS,V] -> (o [B,T,HS,V], (h, c) [B,HS,V] each), weights as in the operator's spec."""
    flat = x.flatten(2)
    zeros = flat.new_zeros(1, flat.shape[0], flat.shape[2])
    state = (zeros, zeros) if initial_state is None else tuple(s.flatten(1).to(x.dtype)[None] for s in initial_state)
    o, h, c = torch.lstm(flat, state, (w_ih, w_hh, b_ih, b_hh), True, 1, 0.0, torch.is_grad_enabled(), False, True)
    final = tuple(s[0].unflatten(1, x.shape[2:]) for s in (h, c))
    return o.unflatten(2, x.shape[2:]), _like(final, initial_state) if output_final_state else None


@lstm.implementation("naive", origin="baseline")
def naive(
    x: torch.Tensor, w_ih: torch.Tensor, w_hh: torch.Tensor, b_ih: torch.Tensor, b_hh: torch.Tensor, *,
    initial_state: State | None = None, output_final_state: bool = False,
) -> Sequence:  # fmt: skip
    """As `torch`, the cell in PyTorch operations, all of it in float32."""
    flat, weights = widen(x.flatten(2)), [widen(w) for w in (w_ih, w_hh, b_ih, b_hh)]
    zeros = flat.new_zeros(flat.shape[0], flat.shape[2])
    h, c = (zeros, zeros) if initial_state is None else (widen(s.flatten(1)) for s in initial_state)
    outputs = []
    for t in range(x.shape[1]):
        h, c = cell(flat[:, t], h, c, *weights)
        outputs.append(h.to(x.dtype))
    final = tuple(s.unflatten(1, x.shape[2:]) for s in (h, c))
    o = torch.stack(outputs, dim=1).unflatten(2, x.shape[2:])
    return o, _like(final, initial_state) if output_final_state else None


@lstm.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
    x: torch.Tensor, w_ih: torch.Tensor, w_hh: torch.Tensor, b_ih: torch.Tensor, b_hh: torch.Tensor, *, state: State,
) -> torch.Tensor:  # fmt: skip
    """x [B,1,HS,V] -> o [B,1,HS,V]; the pair (h, c) is updated in place, by torch.lstm on one token."""
    o, final = torch_lstm(x, w_ih, w_hh, b_ih, b_hh, initial_state=state, output_final_state=True)
    assert final is not None
    for mine, new in zip(state, final, strict=True):
        mine.copy_(new)
    return o


def _like(final: State, initial_state: State | None) -> State:
    return final if initial_state is None else tuple(s.to(initial_state[0].dtype) for s in final)
