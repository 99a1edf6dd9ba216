"""The gated delta rule of FlashInfer: an adapter to flashinfer.gdn_prefill.chunk_gated_delta_rule, forward only.

The library takes packed tokens, the decay itself and not its logarithm, gates in float32, and heads of 128: what is
made of the inputs here belongs to the time, but for the boundaries in int64. Its states are float32 [N,H,V,K], the
transpose of ours. 0.7.4 has kernels for Ampere, Hopper and Blackwell, 0.6.0 for Hopper; up to 0.7.0 it takes the flag
that normalises q and k without heeding it. Source: Ye et al. 2025, arXiv:2501.01005; docs.flashinfer.ai.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from baselines import boundaries
from kernels.delta.gated_delta_rule.spec import gated_delta_rule
from suite import Problem, Requirement
from suite.problem import Value
from suite.requirement import outside

FLASHINFER = Requirement("flashinfer.gdn_prefill", "flashinfer-python", ">=0.6", extra="peers-wheels")
HEAD_DIM = 128
NORMALISING = ">=0.7.1"


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the library cannot serve a problem, or None."""
    if (problem.K, problem.V) != (HEAD_DIM, HEAD_DIM):
        return f"flashinfer's chunk_gated_delta_rule takes heads of {HEAD_DIM}"
    if problem.axis("l2norm") and (found := outside("flashinfer-python", NORMALISING)):
        return f"flashinfer {found} does not heed use_qk_l2norm_in_kernel: take {NORMALISING}"
    return None


@gated_delta_rule.implementation(
    "flashinfer",
    origin="peer",
    devices={"cuda"},
    dtypes=("bfloat16", "float16"),
    passes={"fwd"},
    requires=FLASHINFER,
    supports=supports,
)
def flashinfer(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q, k [B,T,H,128], v [B,T,HV,128], beta, log_decay [B,T,HV] -> (o [B,T,HV,128], state [N,HV,128,128] or None)."""
    from flashinfer.gdn_prefill import chunk_gated_delta_rule  # pyright: ignore[reportMissingImports]

    B, T = q.shape[:2]
    bounds = boundaries.even(B, T, q.device) if cu_seqlens is None else boundaries.int64(cu_seqlens)
    rows = [x.flatten(0, 1).contiguous() for x in (q, k, v, log_decay.float().exp(), beta.float())]
    start = None if initial_state is None else initial_state.float().transpose(-1, -2).contiguous()
    states = (len(bounds) - 1, v.shape[2], v.shape[3], k.shape[3])
    ends = q.new_empty(states, dtype=torch.float32) if output_final_state else None
    found = chunk_gated_delta_rule(
        *rows,
        scale=scale,
        initial_state=start,
        output_final_state=output_final_state,
        cu_seqlens=bounds,
        use_qk_l2norm_in_kernel=l2norm,
        output_state=ends,
    )
    if ends is None:
        return found.unflatten(0, (B, T)).to(v.dtype), None
    final = ends.transpose(-1, -2)
    return found[0].unflatten(0, (B, T)).to(v.dtype), final if initial_state is None else final.to(initial_state.dtype)
