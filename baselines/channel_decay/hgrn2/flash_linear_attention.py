"""HGRN-2 of flash-linear-attention: adapters to fla-core 0.6. Its kernels are in Triton.

Entries: fla.ops.gla.chunk_gla and fused_recurrent_gla, as in the library's own layer; the keys 1 - exp(g) are made
eagerly before, as there, and belong to the time. baselines/channel_decay/fla.py says what is done around each call.
"""

from __future__ import annotations

import torch

from baselines.channel_decay import fla
from baselines.fla_core import requirement
from kernels.channel_decay.hgrn2.spec import hgrn2, keys

FLA = requirement("fla.ops.gla")


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@hgrn2.implementation(
    "fla_chunk",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=fla.HALVES,
    requires=FLA,
    supports=fla.supports_chunk,
)
def fla_chunk(
    q: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As the operator's specification has them -> (o, final state or None), in chunks of 64 tokens."""
    from fla.ops.gla import chunk_gla  # pyright: ignore[reportMissingImports]

    return fla.call(
        chunk_gla,
        q,
        keys(log_decay),
        v,
        log_decay,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


@hgrn2.implementation("fla_fused_recurrent", origin="peer", devices={"cuda", "interpret"}, requires=FLA)
def fla_fused_recurrent(
    q: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As the operator's specification has them -> (o, final state or None), one token at a time."""
    from fla.ops.gla import fused_recurrent_gla  # pyright: ignore[reportMissingImports]

    return fla.call(
        fused_recurrent_gla,
        q,
        keys(log_decay),
        v,
        gk=log_decay,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


@hgrn2.implementation("fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA)
def fla_step(
    q: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    state: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """One token by fused_recurrent_gla -> o [B,1,HS,V]; the new state is copied into `state`."""
    from fla.ops.gla import fused_recurrent_gla  # pyright: ignore[reportMissingImports]

    return fla.step(fused_recurrent_gla, q, keys(log_decay), v, gk=log_decay, state=state, scale=scale)
