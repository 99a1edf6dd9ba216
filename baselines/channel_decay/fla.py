"""What the adapters to flash-linear-attention's channel decays share: its limits, equal heads.

fla-core 0.6 takes equal heads for q, k, v and gates, and fp32 states: grouped heads are repeated and states converted
before in PyTorch, which belongs to the time. Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from kernels.common.heads import expand_heads
from suite import Problem
from suite.problem import Value

HALVES = ("bfloat16", "float16")


def supports_chunk(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why a chunk kernel cannot serve a problem, or None."""
    odd = [f"{name}{dim}" for name, dim in (("K", problem.K), ("V", problem.V)) if dim % 2]
    if problem.differentiates and odd:
        return f"the backward pass of fla's chunk kernels takes even head dimensions, not {' '.join(odd)}"
    if problem.K > 256:
        return f"fla's chunk kernels hold at most 256 channels, not K{problem.K}"
    return None


def call(
    entry: Callable[..., Any],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *gates: torch.Tensor,
    initial_state: torch.Tensor | None,
    output_final_state: bool,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """entry(q, k, v, *gates) with equal heads and an fp32 state -> (o in v's dtype, the final state in its dtype)."""
    heads = max(q.shape[2], v.shape[2])
    q, k, wide = (expand_heads(x, heads) for x in (q, k, v))
    start = None if initial_state is None else initial_state.float()
    o, final = entry(q, k, wide, *gates, initial_state=start, output_final_state=output_final_state, **options)
    if final is not None and initial_state is not None:
        final = final.to(initial_state.dtype)
    return o.to(v.dtype), final


def step(
    entry: Callable[..., Any],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *gates: torch.Tensor,
    state: torch.Tensor,
    **options: Any,
) -> torch.Tensor:
    """One token by a recurrent entry; the library returns a new state, and copying it back belongs to the step."""
    o, final = call(entry, q, k, v, *gates, initial_state=state, output_final_state=True, **options)
    assert final is not None
    state.copy_(final)
    return o
