"""RWKV-7 of flash-linear-attention: adapters to chunk_rwkv7 and fused_recurrent_rwkv7 of fla-core 0.6.

Both take equal heads: q and k are repeated before, which belongs to the time. chunk_rwkv7 is told that gates are at
least -1, as the model's are (above -exp(-0.5)): only then it takes chunks of 64 and tensor cores. The recurrent one
has no backward pass. Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from baselines.fla_core import requirement
from baselines.scalar_decay.flash_linear_attention import HALVES, supports_chunk
from kernels.channel_delta.rwkv7.spec import rwkv7
from kernels.common.heads import expand_heads

FLA = requirement("fla.ops.rwkv7")
LOWER_BOUND = -1.0


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@rwkv7.implementation(
    "fla_chunk", origin="peer", devices={"cuda", "interpret"}, dtypes=HALVES, requires=FLA, supports=supports_chunk
)
def fla_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Shapes as in the specification; in chunks of 64."""
    from fla.ops.rwkv7 import chunk_rwkv7  # pyright: ignore[reportMissingImports]

    q, k = (expand_heads(x, v.shape[2]) for x in (q, k))
    entry: Callable[..., Any] = chunk_rwkv7
    return entry(
        q,
        log_decay,
        k,
        v,
        a,
        b,
        scale=1.0 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
        lower_bound=LOWER_BOUND,
    )


@rwkv7.implementation("fla_fused_recurrent", origin="peer", devices={"cuda", "interpret"}, requires=FLA, passes={"fwd"})
def fla_fused_recurrent(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Shapes as in the specification; one token at a time."""
    from fla.ops.rwkv7 import fused_recurrent_rwkv7  # pyright: ignore[reportMissingImports]

    q, k = (expand_heads(x, v.shape[2]) for x in (q, k))
    entry: Callable[..., Any] = fused_recurrent_rwkv7
    return entry(
        q,
        log_decay,
        k,
        v,
        a,
        b,
        scale=1.0 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


@rwkv7.implementation("fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA)
def fla_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    state: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """One token -> o [B,1,HV,V] by fused_recurrent_rwkv7; copying its new state into `state` belongs to the cost."""
    o, final = fla_fused_recurrent(q, k, v, log_decay, a, b, scale=scale, initial_state=state, output_final_state=True)
    assert final is not None
    state.copy_(final)
    return o
