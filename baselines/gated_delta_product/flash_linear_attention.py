"""Products of gated delta steps of flash-linear-attention: an adapter to chunk_gated_delta_product of fla-core 0.6.

The library takes equal heads and the steps of a token as rows: q and k are repeated before, which belongs to the time.
It has no recurrent entry. Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

# The library's decorators and defaults hide what its entries take.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import torch

from baselines.scalar_decay.flash_linear_attention import HALVES, refuse_gated_backward, requirement, supports_chunk
from kernels.common.heads import expand_heads
from kernels.gated_delta_product.spec import gated_delta_product

FLA = requirement("fla.ops.gated_delta_product")


@gated_delta_product.implementation(
    "fla_chunk", origin="peer", devices={"cuda"}, dtypes=HALVES, requires=FLA, supports=supports_chunk
)
def fla_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    steps: int = 2,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Shapes as in the specification; in chunks of 64."""
    from fla.ops.gated_delta_product import chunk_gated_delta_product  # pyright: ignore[reportMissingImports]

    refuse_gated_backward(q, k, v, beta, log_decay)
    heads = v.shape[3]
    q, k = expand_heads(q, heads), expand_heads(k.flatten(1, 2), heads)
    return chunk_gated_delta_product(
        q,
        k,
        v.flatten(1, 2),
        log_decay,
        beta.flatten(1, 2),
        steps,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        use_qk_l2norm_in_kernel=l2norm,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )
