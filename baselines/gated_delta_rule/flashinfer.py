"""The gated delta rule of FlashInfer: an adapter to flashinfer.gdn_prefill.chunk_gated_delta_rule, forward only.

The library takes packed tokens, the decay itself and not its logarithm, boundaries in int64, and heads of 128:
what is made of the inputs here belongs to the time. Its states lie in another order and are left out.
Source: Ye et al. 2025, arXiv:2501.01005; docs.flashinfer.ai.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kernels.gated_delta_rule.spec import gated_delta_rule
from suite import Problem, Requirement
from suite.problem import Value

FLASHINFER = Requirement("flashinfer.gdn_prefill", "flashinfer-python", install="pip install flashinfer-python")
HEAD_DIM = 128


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the library can not serve a problem, or None."""
    if (problem.K, problem.V) != (HEAD_DIM, HEAD_DIM):
        return f"flashinfer's chunk_gated_delta_rule takes heads of {HEAD_DIM}"
    return None


@gated_delta_rule.implementation(
    "flashinfer", origin="peer", devices={"cuda"}, dtypes=("bfloat16", "float16"), passes={"fwd"}, requires=FLASHINFER,
    supports=supports,
)  # fmt: skip
def flashinfer(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, beta: torch.Tensor, log_decay: torch.Tensor, *,
    scale: float | None = None, cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """q, k [B,T,H,128], v [B,T,HV,128], beta, log_decay [B,T,HV] -> (o [B,T,HV,128], None)."""
    from flashinfer.gdn_prefill import chunk_gated_delta_rule  # pyright: ignore[reportMissingImports]

    B, T = q.shape[:2]
    bounds = torch.arange(0, (B + 1) * T, T, device=q.device) if cu_seqlens is None else cu_seqlens.long()
    rows = [x.flatten(0, 1).contiguous() for x in (q, k, v, log_decay.float().exp(), beta.float())]
    o = chunk_gated_delta_rule(*rows, scale=scale, cu_seqlens=bounds)
    return o.unflatten(0, (B, T)).to(v.dtype), None
