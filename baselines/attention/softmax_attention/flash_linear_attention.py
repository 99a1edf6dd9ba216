"""Softmax attention of flash-linear-attention: an adapter to fla-core 0.6. Its kernels are in Triton.

Entry: fla.ops.attn.parallel_attn, causal only; q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] as everywhere here.
Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from baselines.fla_core import requirement
from kernels.attention.softmax_attention.spec import softmax_attention
from suite import Problem
from suite.problem import Value

FLA = requirement("fla.ops.attn")
HALVES = ("bfloat16", "float16")
MAX_DIM = 256


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why parallel_attn cannot serve a problem, or None."""
    if problem.K > MAX_DIM:
        return f"fla's parallel_attn takes keys of at most {MAX_DIM}, not K{problem.K}"
    return None


def call(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    """o [B,T,H,V] by parallel_attn."""
    from fla.ops.attn import parallel_attn  # pyright: ignore[reportMissingImports]

    return parallel_attn(q, k, v, **options)


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@softmax_attention.implementation(
    "fla_parallel", origin="peer", devices={"cuda", "interpret"}, dtypes=HALVES, requires=FLA, supports=supports
)
def fla_parallel(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    scale: float | None = None,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] -> (o [B,T,H,V], None), causal.

    It has no parameter for boundaries on the CPU: a packed call waits for the device to read them.
    """
    return call(q, k, v, scale=scale, cu_seqlens=cu_seqlens), None
