"""The GRU in PyTorch: torch.gru (cuDNN on a GPU), a loop over tokens, and a decode step.

The weights come as separate tensors, as every other operator's inputs do: cuDNN gathers them into one buffer in each
call, which belongs to the time. The state enters and leaves torch.gru in the dtype of the inputs.
Sources: Cho et al. 2014, arXiv:1406.1078; Chetlur et al. 2014, arXiv:1410.0759 (cuDNN).
"""

from __future__ import annotations

import torch

from baselines.precision import widen
from kernels.gru.spec import cell, gru

Sequence = tuple[torch.Tensor, torch.Tensor | None]


@gru.implementation("torch", origin="baseline")
def torch_gru(
    x: torch.Tensor, w_ih: torch.Tensor, w_hh: torch.Tensor, b_ih: torch.Tensor, b_hh: torch.Tensor, *,
    initial_state: torch.Tensor | None = None, output_final_state: bool = False,
) -> Sequence:  # fmt: skip
    """x [B,T,HS,V] -> (o [B,T,HS,V], h [B,HS,V]), weights as in the operator's spec."""
    flat = x.flatten(2)
    state = flat.new_zeros(flat.shape[0], flat.shape[2]) if initial_state is None else initial_state.flatten(1)
    o, h = torch.gru(
        flat, state.to(x.dtype)[None], (w_ih, w_hh, b_ih, b_hh), True, 1, 0.0, torch.is_grad_enabled(), False, True
    )
    return o.unflatten(2, x.shape[2:]), _like(h[0].unflatten(1, x.shape[2:]), initial_state, output_final_state)


@gru.implementation("naive", origin="baseline")
def naive(
    x: torch.Tensor, w_ih: torch.Tensor, w_hh: torch.Tensor, b_ih: torch.Tensor, b_hh: torch.Tensor, *,
    initial_state: torch.Tensor | None = None, output_final_state: bool = False,
) -> Sequence:  # fmt: skip
    """As `torch`, the cell in PyTorch operations, all of it in float32."""
    flat, weights = widen(x.flatten(2)), [widen(w) for w in (w_ih, w_hh, b_ih, b_hh)]
    h = flat.new_zeros(flat.shape[0], flat.shape[2]) if initial_state is None else widen(initial_state.flatten(1))
    outputs = []
    for t in range(x.shape[1]):
        h = cell(flat[:, t], h, *weights)
        outputs.append(h.to(x.dtype))
    o = torch.stack(outputs, dim=1).unflatten(2, x.shape[2:])
    return o, _like(h.unflatten(1, x.shape[2:]), initial_state, output_final_state)


@gru.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
    x: torch.Tensor, w_ih: torch.Tensor, w_hh: torch.Tensor, b_ih: torch.Tensor, b_hh: torch.Tensor, *,
    state: torch.Tensor,
) -> torch.Tensor:  # fmt: skip
    """x [B,1,HS,V] -> o [B,1,HS,V]; h is updated in place, by torch.gru on one token."""
    o, final = torch_gru(x, w_ih, w_hh, b_ih, b_hh, initial_state=state, output_final_state=True)
    assert final is not None
    state.copy_(final)
    return o


def _like(final: torch.Tensor, initial_state: torch.Tensor | None, wanted: bool) -> torch.Tensor | None:
    if not wanted:
        return None
    return final if initial_state is None else final.to(initial_state.dtype)
