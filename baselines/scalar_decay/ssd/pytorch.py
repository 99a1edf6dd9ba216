"""SSD in PyTorch: the forms of baselines/scalar_decay on g = dt A and u = dt v, the skip and the gate after them."""

from __future__ import annotations

import torch

from baselines.precision import widen
from baselines.scalar_decay.chunk import torch_chunk as decayed_chunk
from baselines.scalar_decay.linear_attention.chunk import chunk_flops
from baselines.scalar_decay.linear_attention.naive import square_flops
from baselines.scalar_decay.naive import naive as decayed_naive
from baselines.scalar_decay.ssd.mapping import finished, weighted
from baselines.scalar_decay.step import torch_step as decayed_step
from kernels.scalar_decay.ssd.spec import given, ssd


@ssd.implementation("naive", origin="baseline", flops_exec=square_flops)
def naive(
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
    """q, k [B,T,H,K], v [B,T,HV,V], dt [B,T,HV], A, D [HV], z [B,T,HV,V] -> (o [B,T,HV,V], S [N,HV,K,V] or None)."""
    given(D, z, skip, gated)
    o, final = decayed_naive(
        widen(q),
        k,
        weighted(widen(v), dt),
        dt * A,
        scale=1.0,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )
    return finished(o, v, D, z), final


@ssd.implementation("torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128, 256)}, flops_exec=chunk_flops)
def torch_chunk(
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
    chunk: int = 64,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q, k [B,T,H,K], v [B,T,HV,V], dt [B,T,HV], A, D [HV], z [B,T,HV,V] -> (o [B,T,HV,V], S [N,HV,K,V] or None)."""
    given(D, z, skip, gated)
    o, final = decayed_chunk(
        q,
        k,
        weighted(v, dt),
        dt * A,
        scale=1.0,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
        chunk=chunk,
    )
    return finished(o, v, D, z), final


@ssd.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
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
    """q, k [B,1,H,K], v [B,1,HV,V], dt [B,1,HV], A, D [HV], z [B,1,HV,V] -> o [B,1,HV,V].

    state [B,HV,K,V] is updated in place.
    """
    given(D, z, skip, gated)
    o = decayed_step(widen(q), k, weighted(widen(v), dt), dt * A, state=state, scale=1.0)
    return finished(o, v, D, z)
