"""Baselines of a recurrent cell in PyTorch: the library's layer (cuDNN on a GPU), a loop over tokens, a decode step.

The weights come as separate tensors, as every other operator's inputs do: cuDNN gathers them into one buffer in each
call, which belongs to the time. The state enters and leaves the layer in the dtype of the inputs.
Source: Chetlur et al. 2014, arXiv:1410.0759 (cuDNN).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from baselines.precision import widen
from kernels.cells.reference import Cell, State, as_tuple
from suite import Operator

Sequence = tuple[torch.Tensor, State | None]


def register(operator: Operator, cell: Cell, layer: Callable[..., Any]) -> None:
    """Register `torch`, `naive` and `torch_step` of an operator; layer is torch.lstm or torch.gru."""

    @operator.implementation("torch", origin="baseline")
    def by_layer(
        x: torch.Tensor,
        w_ih: torch.Tensor,
        w_hh: torch.Tensor,
        b_ih: torch.Tensor,
        b_hh: torch.Tensor,
        *,
        initial_state: State | None = None,
        output_final_state: bool = False,
    ) -> Sequence:
        """x [B,T,HS,V] -> (o [B,T,HS,V], the state, [B,HS,V] each), weights as in the operator's spec."""
        flat = x.flatten(2)
        states = (flat.new_zeros(1, flat.shape[0], flat.shape[2]),) * cell.states
        if initial_state is not None:
            states = tuple(each.flatten(1).to(x.dtype)[None] for each in as_tuple(initial_state))
        weights = (w_ih, w_hh, b_ih, b_hh)
        o, *final = layer(flat, cell.given(states), weights, True, 1, 0.0, torch.is_grad_enabled(), False, True)
        final = tuple(each[0].unflatten(1, x.shape[2:]) for each in final)
        return o.unflatten(2, x.shape[2:]), _like(cell.given(final), initial_state) if output_final_state else None

    @operator.implementation("naive", origin="baseline")
    def naive(
        x: torch.Tensor,
        w_ih: torch.Tensor,
        w_hh: torch.Tensor,
        b_ih: torch.Tensor,
        b_hh: torch.Tensor,
        *,
        initial_state: State | None = None,
        output_final_state: bool = False,
    ) -> Sequence:
        """As `torch`, one token at a time in PyTorch operations, all of it in float32."""
        wide = None if initial_state is None else cell.given(tuple(widen(each) for each in as_tuple(initial_state)))
        o, final = cell.recurrence(
            *(widen(each) for each in (x, w_ih, w_hh, b_ih, b_hh)),
            initial_state=wide,
            output_final_state=output_final_state,
        )
        return o.to(x.dtype), None if final is None else _like(final, initial_state)

    @operator.implementation("torch_step", origin="baseline", passes={"decode"})
    def torch_step(
        x: torch.Tensor,
        w_ih: torch.Tensor,
        w_hh: torch.Tensor,
        b_ih: torch.Tensor,
        b_hh: torch.Tensor,
        *,
        state: State,
    ) -> torch.Tensor:
        """x [B,1,HS,V] -> o [B,1,HS,V]; the state is updated in place, by the layer on one token."""
        o, final = by_layer(x, w_ih, w_hh, b_ih, b_hh, initial_state=state, output_final_state=True)
        assert final is not None
        for mine, new in zip(as_tuple(state), as_tuple(final), strict=True):
            mine.copy_(new)
        return o


def _like(final: State, initial_state: State | None) -> State:
    """The final state in the initial one's dtype, where there is one."""
    if initial_state is None:
        return final
    dtype = as_tuple(initial_state)[0].dtype
    return final.to(dtype) if isinstance(final, torch.Tensor) else tuple(each.to(dtype) for each in final)
