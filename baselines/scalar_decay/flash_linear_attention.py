"""flash-linear-attention on scalar decays: calls that the adapters of retention, Lightning Attention-2 and SSD share.

The library takes equal heads: grouped ones are repeated before, which belongs to the time. Its kernels are in Triton,
for CUDA. Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention, fla-core 0.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

import suite
from kernels.common.heads import expand_heads
from suite import Problem
from suite.problem import Value
from suite.requirement import outside

HALVES = ("bfloat16", "float16")
# Triton with which chunk_bwd_dqkwg runs on Hopper; the library raises in between.
GATED_ON_HOPPER = "!=3.4.*,!=3.5.*,!=3.6.*,!=3.7.0"


def supports_chunk(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the library's chunked kernels cannot serve a problem, or None."""
    odd = [f"{name}{dim}" for name, dim in (("K", problem.K), ("V", problem.V)) if dim % 2]
    if problem.differentiates and odd:
        return f"the backward pass of fla's chunked kernels takes even head dimensions, not {' '.join(odd)}"
    return None


def supports_gated_chunk(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why a chunked kernel whose gates are an input cannot serve a problem, or None.

    The library raises in the backward pass where Triton compiles it wrongly, on Hopper.
    """
    found = outside("triton", GATED_ON_HOPPER)
    if found and problem.differentiates and suite.target().arch == "sm_90":
        return f"fla's gated backward is wrong on Hopper under Triton 3.4 to 3.7.0, here {found}: take 3.7.1 or later"
    return supports_chunk(problem, tunables)


def called(
    entry: Callable[..., Any], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """An entry of the library on equal heads: (o [B,T,HS,V] in v's dtype, S [N,HS,K,V] or None)."""
    heads = max(q.shape[2], v.shape[2])
    o, final = entry(*(expand_heads(x, heads) for x in (q, k, v)), **options)
    return o.to(v.dtype), final


def stepped(
    entry: Callable[..., Any], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, state: torch.Tensor, **options: Any
) -> torch.Tensor:
    """A recurrent entry on one token. The library returns a new state; copying it into `state` belongs to the cost."""
    o, final = called(entry, q, k, v, initial_state=state, output_final_state=True, **options)
    assert final is not None
    state.copy_(final)
    return o
