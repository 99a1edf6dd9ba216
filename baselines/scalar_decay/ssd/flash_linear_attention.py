"""SSD by flash-linear-attention: adapters to chunk_simple_gla and fused_recurrent_simple_gla of fla-core 0.6.

They are given g = dt A and u = dt v, and the skip and the gate z come after them, all in PyTorch, which belongs to the
time.
"""

from __future__ import annotations

import torch

from baselines.fla_core import requirement
from baselines.scalar_decay.flash_linear_attention import HALVES, called, stepped, supports_gated_chunk
from baselines.scalar_decay.ssd.mapping import finished, weighted
from kernels.scalar_decay.ssd.spec import given, ssd

FLA = requirement("fla.ops.simple_gla")


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@ssd.implementation(
    "fla_chunk",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=HALVES,
    requires=FLA,
    supports=supports_gated_chunk,
)
def fla_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    *,
    skip: bool | None = None,
    gated: bool | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q, k [B,T,H,K], v [B,T,HV,V], dt [B,T,HV], A, D [HV], z [B,T,HV,V] -> (o [B,T,HV,V], S [N,HV,K,V] or None).

    In chunks of 64 tokens.
    """
    from fla.ops.simple_gla import chunk_simple_gla  # pyright: ignore[reportMissingImports]

    given(D, z, skip, gated)
    o, final = called(
        chunk_simple_gla,
        q,
        k,
        weighted(v, dt),
        g=dt * A,
        scale=1.0,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )
    return finished(o, v, D, z), final


@ssd.implementation("fla_fused_recurrent", origin="peer", devices={"cuda", "interpret"}, requires=FLA)
def fla_fused_recurrent(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    *,
    skip: bool | None = None,
    gated: bool | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q, k [B,T,H,K], v [B,T,HV,V], dt [B,T,HV], A, D [HV], z [B,T,HV,V] -> (o [B,T,HV,V], S [N,HV,K,V] or None)."""
    from fla.ops.simple_gla import fused_recurrent_simple_gla  # pyright: ignore[reportMissingImports]

    given(D, z, skip, gated)
    o, final = called(
        fused_recurrent_simple_gla,
        q,
        k,
        weighted(v, dt),
        g=dt * A,
        scale=1.0,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )
    return finished(o, v, D, z), final


@ssd.implementation("fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA)
def fla_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    *,
    state: torch.Tensor,
    skip: bool | None = None,
    gated: bool | None = None,
) -> torch.Tensor:
    """q, k [B,1,H,K], v [B,1,HV,V], dt [B,1,HV], A, D [HV], z [B,1,HV,V] -> o [B,1,HV,V]; `state` is updated."""
    from fla.ops.simple_gla import fused_recurrent_simple_gla  # pyright: ignore[reportMissingImports]

    given(D, z, skip, gated)
    o = stepped(fused_recurrent_simple_gla, q, k, weighted(v, dt), state, g=dt * A, scale=1.0)
    return finished(o, v, D, z)
