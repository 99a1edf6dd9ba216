"""PyTorch's FlexAttention, compiled.

Entry: torch.nn.attention.flex_attention.flex_attention under torch.compile, with a block mask where causal; torch 2.9
and later. It is compiled again for each shape, so that no case is served by a kernel made for a range of shapes. The
block mask of a length is made in the first call and kept: it is not part of the time.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.utils._python_dispatch import _disable_current_modes

from kernels.attention.softmax_attention.spec import softmax_attention
from suite import Problem
from suite.errors import Unsupported
from suite.problem import Value

MIN_DIM = 16
# Shapes that one process may compile. PyTorch's own limit is 8 and is meant for guards that fail by mistake.
MAX_SHAPES = 512


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why flex_attention cannot serve a problem, or None."""
    if min(problem.K, problem.V) < MIN_DIM:
        return f"flex_attention takes head dimensions of at least {MIN_DIM}, not K{problem.K} V{problem.V}"
    return None


@softmax_attention.implementation("flex", origin="baseline", supports=supports)
def flex(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = True, scale: float | None = None
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] -> (o [B,T,H,V], None).

    Raises Unsupported on a CPU when gradients are wanted or no C++ compiler is found.
    """
    return attend(q, k, v, _causal_mask(q.shape[1], q.device) if causal else None, scale), None


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: BlockMask | None, scale: float | None
) -> torch.Tensor:
    """o [B,T,H,V] by the compiled kernel under a block mask, or None for the whole square. Raises as `flex` does."""
    if q.device.type == "cpu":
        _require_cpu(any(x.requires_grad for x in (q, k, v)) and torch.is_grad_enabled())
    qh, kh, vh = (x.transpose(1, 2) for x in (q, k, v))
    # Under a dispatch mode torch.compile would run the uncompiled form and not say so.
    with _disable_current_modes():
        o = _compiled()(qh, kh, vh, block_mask=mask, scale=scale, enable_gqa=q.shape[2] != k.shape[2])
    return o.transpose(1, 2)


def _require_cpu(differentiates: bool) -> None:
    if differentiates:
        raise Unsupported("flex_attention has no backward pass on a CPU")
    compiler = os.environ.get("CXX", "g++")
    if not shutil.which(compiler):
        raise Unsupported(f"flex_attention on a CPU needs a C++ compiler: install {compiler}, or set CXX")


@cache
def _compiled() -> Callable[..., Any]:
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MAX_SHAPES)
    # fullgraph: past that limit it raises, where it would otherwise go on uncompiled.
    return torch.compile(flex_attention, dynamic=False, fullgraph=True)


@lru_cache(maxsize=32)
def _causal_mask(T: int, device: torch.device) -> BlockMask:
    return create_block_mask(_sees, None, None, T, T, device=str(device))


def _sees(b: torch.Tensor, h: torch.Tensor, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    return query >= key
