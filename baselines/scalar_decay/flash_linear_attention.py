"""flash-linear-attention on scalar decays: calls that the adapters of retention, Lightning Attention-2 and SSD share.

The library takes equal heads: grouped ones are repeated before, which belongs to the time. Its kernels are in Triton,
for CUDA. Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention, fla-core 0.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch

import suite
from kernels.common.heads import expand_heads
from suite import Problem, Requirement
from suite.errors import Unsupported
from suite.problem import Value

HALVES = ("bfloat16", "float16")


def requirement(module: str) -> Requirement:
    """fla-core 0.6 with one of its modules."""
    return Requirement(module, "fla-core", ">=0.6,<0.7", "pip install 'fla-core>=0.6,<0.7' einops")


def supports_chunk(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the library's chunked kernels can not serve a problem, or None."""
    odd = [f"{name}{dim}" for name, dim in (("K", problem.K), ("V", problem.V)) if dim % 2]
    if problem.differentiates and odd:
        return f"the backward pass of fla's chunked kernels takes even head dimensions, not {' '.join(odd)}"
    return None


def called(entry: Callable[..., Any], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor,
           **options: Any) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """An entry of the library on equal heads: (o [B,T,HS,V] in v's dtype, S [N,HS,K,V] or None)."""
    heads = max(q.shape[2], v.shape[2])
    o, final = entry(*(expand_heads(x, heads) for x in (q, k, v)), **options)
    return o.to(v.dtype), final


def stepped(entry: Callable[..., Any], q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, state: torch.Tensor,
            **options: Any) -> torch.Tensor:  # fmt: skip
    """A recurrent entry on one token. The library returns a new state; copying it into `state` belongs to the cost."""
    o, final = called(entry, q, k, v, initial_state=state, output_final_state=True, **options)
    assert final is not None
    state.copy_(final)
    return o


def refuse_gated_backward(*tensors: torch.Tensor) -> None:
    """Unsupported where the library's gated backward pass would raise: Hopper, Triton 3.4 up to 3.7.0, no TileLang."""
    if not (torch.is_grad_enabled() and any(x.requires_grad for x in tensors)):
        return
    triton = tuple(int(part) for part in version("triton").split("+")[0].split(".")[:3])
    if suite.target().arch == "sm_90" and (3, 4, 0) <= triton < (3, 7, 1) and find_spec("tilelang") is None:
        raise Unsupported(
            "fla's gated backward pass is wrong on Hopper under Triton 3.4 to 3.7.0 and raises: take 3.7.1 or later"
        )
