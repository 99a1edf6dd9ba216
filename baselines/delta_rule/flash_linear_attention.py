"""The delta rule of flash-linear-attention: adapters to its chunked and recurrent entries of fla-core 0.6.

The library takes equal heads: q and k are repeated before, which belongs to the time.
Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

import torch

from baselines.scalar_decay.flash_linear_attention import HALVES, called, requirement, supports_chunk
from kernels.delta_rule.spec import delta_rule

FLA = requirement("fla.ops.delta_rule")


@delta_rule.implementation(
    "fla_chunk", origin="peer", devices={"cuda"}, dtypes=HALVES, requires=FLA, supports=supports_chunk
)
def fla_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
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
    from fla.ops.delta_rule import chunk_delta_rule  # pyright: ignore[reportMissingImports]

    return called(
        chunk_delta_rule,
        q,
        k,
        v,
        beta=beta,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=l2norm,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


@delta_rule.implementation("fla_fused_recurrent", origin="peer", devices={"cuda"}, requires=FLA)
def fla_fused_recurrent(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    *,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Shapes as in the specification; one token at a time."""
    from fla.ops.delta_rule import fused_recurrent_delta_rule  # pyright: ignore[reportMissingImports]

    return called(
        fused_recurrent_delta_rule,
        q,
        k,
        v,
        beta=beta,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=l2norm,
        cu_seqlens=cu_seqlens,
    )


@delta_rule.implementation("fla_step", origin="peer", passes={"decode"}, devices={"cuda"}, requires=FLA)
def fla_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    *,
    state: torch.Tensor,
    l2norm: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """One token -> o [B,1,HV,V] by fused_recurrent_delta_rule; its new state is copied into `state`."""
    from fla.ops.delta_rule import fused_recurrent_delta_rule  # pyright: ignore[reportMissingImports]

    o, final = called(
        fused_recurrent_delta_rule,
        q,
        k,
        v,
        beta=beta,
        scale=scale,
        initial_state=state,
        output_final_state=True,
        use_qk_l2norm_in_kernel=l2norm,
    )
    assert final is not None
    state.copy_(final)
    return o
