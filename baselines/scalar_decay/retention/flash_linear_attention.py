"""Retention of flash-linear-attention: adapters to chunk_retention and fused_recurrent_retention of fla-core 0.6.

The library computes the paper's decays from the number of heads in each call; log_decay, which holds the same, is not
used.
"""

from __future__ import annotations

import torch

from baselines.fla_core import requirement
from baselines.scalar_decay.flash_linear_attention import HALVES, called, stepped, supports_chunk
from kernels.scalar_decay.retention.spec import retention

FLA = requirement("fla.ops.retention")


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@retention.implementation(
    "fla_chunk",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=HALVES,
    requires=FLA,
    supports=supports_chunk,
    own_head_constants=True,
)
def fla_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], S [N,HS,K,V] or None), in chunks of 64 tokens.

    chunk_retention has no parameter for boundaries on the CPU: a packed call waits for the device to read them.
    """
    from fla.ops.retention import chunk_retention  # pyright: ignore[reportMissingImports]

    return called(
        chunk_retention,
        q,
        k,
        v,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


@retention.implementation(
    "fla_fused_recurrent", origin="peer", devices={"cuda", "interpret"}, requires=FLA, own_head_constants=True
)
def fla_fused_recurrent(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], S [N,HS,K,V] or None), one token at a time."""
    from fla.ops.retention import fused_recurrent_retention  # pyright: ignore[reportMissingImports]

    return called(
        fused_recurrent_retention,
        q,
        k,
        v,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


@retention.implementation(
    "fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA, own_head_constants=True
)
def fla_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    state: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V] by fused_recurrent_retention; `state` is updated."""
    from fla.ops.retention import fused_recurrent_retention  # pyright: ignore[reportMissingImports]

    return stepped(fused_recurrent_retention, q, k, v, state, scale=scale)
