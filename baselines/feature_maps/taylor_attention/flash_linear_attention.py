"""TaylorShift attention by Based's kernel in flash-linear-attention: an adapter to fla-core 0.6.

fla.ops.based.parallel_based is the direct order, causal. Norms, temperatures and the output's scale are done around it
in PyTorch, and belong to the time.
Source: Arora et al. 2024, arXiv:2402.18668; github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from baselines.feature_maps.taylor_attention.pytorch import normalised_rows, output_scale
from baselines.scalar_decay.linear_attention.based import BASED, call_based
from baselines.scalar_decay.linear_attention.flash_linear_attention import HALVES
from kernels.feature_maps.taylor_attention.spec import fused_exec, taylor_attention
from suite import Problem
from suite.problem import Value

WIDEST = 128


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why parallel_based cannot serve a problem, or None."""
    return f"fla's parallel_based takes K up to {WIDEST}, not {problem.K}" if problem.K > WIDEST else None


@taylor_attention.implementation(
    "fla_parallel_based",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=HALVES,
    requires=BASED,
    supports=supports,
    flops_exec=fused_exec,
)
def fla_parallel_based(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, temperature: torch.Tensor
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V], temperature [H] -> (o [B,T,H,V], None), causal."""
    from fla.ops.based import parallel_based  # pyright: ignore[reportMissingImports]

    qn, kn = normalised_rows(q, k, temperature)
    o = call_based(parallel_based, qn.to(q.dtype), kn.to(k.dtype), v, inner=1.0, normalised=True).float()
    return (o * output_scale(o, q.shape[-1], True, None)).to(v.dtype), None
