"""The gated delta rule of FlashQLA: an adapter to flash_qla.chunk_gated_delta_rule, forward and backward.

TileLang kernels for Hopper and Blackwell, in chunks of 64 and with heads of 128. The library itself decides whether to
cut a sequence into parts, for one row of tokens. Its import raises on any other GPU.
Source: the Qwen team 2026, github.com/QwenLM/FlashQLA.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

import suite
from baselines import boundaries
from kernels.delta.gated_delta_rule.spec import gated_delta_rule
from suite import Problem, Requirement
from suite.problem import Value

FLASHQLA = Requirement("flash_qla", "flash-qla", ">=0.1.1", extra="peers-wheels")
HEAD_DIM = 128
OLDEST = 90


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the library cannot serve a problem, or None."""
    if (problem.K, problem.V) != (HEAD_DIM, HEAD_DIM):
        return f"flash_qla's chunk_gated_delta_rule takes heads of {HEAD_DIM}"
    if suite.target().capability < OLDEST:
        return "flash_qla has kernels only for Hopper and Blackwell"
    return None


@gated_delta_rule.implementation(
    "flash_qla",
    origin="peer",
    devices={"cuda"},
    dtypes=("bfloat16", "float16"),
    requires=FLASHQLA,
    supports=supports,
)
def flash_qla(
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
    from flash_qla import chunk_gated_delta_rule  # pyright: ignore[reportMissingImports]

    o, final = chunk_gated_delta_rule(
        q,
        k,
        v,
        log_decay,
        beta,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=l2norm,
        cu_seqlens=None if cu_seqlens is None else boundaries.int64(cu_seqlens),
    )
    return o.to(v.dtype), final if output_final_state else None
