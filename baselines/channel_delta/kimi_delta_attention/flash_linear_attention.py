"""Kimi Delta Attention of flash-linear-attention: adapters to chunk_kda and fused_recurrent_kda of fla-core 0.6.

Both take more value heads than heads of q and k as they are, gates as log decays, and states in float32. The recurrent
one has no backward pass.
Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch

from baselines.fla_core import requirement
from baselines.scalar_decay.flash_linear_attention import HALVES
from baselines.scalar_decay.flash_linear_attention import supports_chunk as supports_any_chunk
from kernels.channel_delta.kimi_delta_attention.spec import kimi_delta_attention
from suite import Problem
from suite.problem import Value

FLA = requirement("fla.ops.kda")


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the recurrent entry cannot serve a problem, or None."""
    if problem.K > 256:
        return f"fla's KDA takes K up to 256, not {problem.K}"
    if problem.state_dtype != "float32" and (problem.initial_state or problem.pass_ == "decode"):
        return f"fla's KDA takes states in float32, not {problem.state_dtype}"
    return None


def supports_chunk(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why chunk_kda cannot serve a problem, or None."""
    return supports(problem, tunables) or supports_any_chunk(problem, tunables)


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@kimi_delta_attention.implementation(
    "fla_chunk", origin="peer", devices={"cuda", "interpret"}, dtypes=HALVES, requires=FLA, supports=supports_chunk
)
def fla_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    beta: torch.Tensor,
    *,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Shapes as in the specification; in chunks of 64."""
    from fla.ops.kda import chunk_kda  # pyright: ignore[reportMissingImports]

    entry = cast(Callable[..., Any], chunk_kda)
    return entry(
        q,
        k,
        v,
        g=log_decay,
        beta=beta,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=l2norm,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


@kimi_delta_attention.implementation(
    "fla_fused_recurrent", origin="peer", devices={"cuda", "interpret"}, requires=FLA, passes={"fwd"}, supports=supports
)
def fla_fused_recurrent(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    beta: torch.Tensor,
    *,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Shapes as in the specification; one token at a time."""
    from fla.ops.kda import fused_recurrent_kda  # pyright: ignore[reportMissingImports]

    entry = cast(Callable[..., Any], fused_recurrent_kda)
    return entry(
        q,
        k,
        v,
        g=log_decay,
        beta=beta,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=l2norm,
        cu_seqlens=cu_seqlens,
    )


@kimi_delta_attention.implementation(
    "fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA, supports=supports
)
def fla_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    beta: torch.Tensor,
    *,
    state: torch.Tensor,
    l2norm: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """One token -> o [B,1,HV,V] by fused_recurrent_kda; copying its new state into `state` belongs to the cost."""
    o, final = fla_fused_recurrent(
        q, k, v, log_decay, beta, l2norm=l2norm, scale=scale, initial_state=state, output_final_state=True
    )
    assert final is not None
    state.copy_(final)
    return o
