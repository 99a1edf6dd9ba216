"""RWKV-6 in PyTorch: naive, chunkwise and one token at a time, as baselines/channel_decay/forms.py has them.

Source: Peng et al. 2024, arXiv:2404.05892.
"""

from __future__ import annotations

import torch

from baselines.channel_decay import forms
from kernels.channel_decay.rwkv6.spec import rwkv6


@rwkv6.implementation("naive", origin="baseline", flops_exec=forms.square_flops)
def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    u: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> forms.Result:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [B,T,HS,K], u [HS,K] -> (o [B,T,HS,V], S or None)."""
    return forms.naive(
        q,
        k,
        v,
        log_decay,
        u=u,
        scale=1.0 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


@rwkv6.implementation(
    "torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128, 256)}, flops_exec=forms.chunk_flops
)
def torch_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    u: torch.Tensor,
    *,
    chunk: int = 64,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> forms.Result:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [B,T,HS,K], u [HS,K] -> (o [B,T,HS,V], S or None)."""
    return forms.chunked(
        q,
        k,
        v,
        log_decay,
        u=u,
        scale=1.0 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
        chunk=chunk,
    )


@rwkv6.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    u: torch.Tensor,
    *,
    state: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], log_decay [B,1,HS,K], u [HS,K] -> o [B,1,HS,V]; S in place."""
    factor = 1.0 if scale is None else scale
    return forms.step(q, k, v, log_decay, u=u, state=state, scale=factor)
