"""Gated linear attention in PyTorch, as baselines/channel_decay/forms.py has it: naive, chunkwise, one token at a time.

Source: Yang et al. 2024, arXiv:2312.06635.
"""

from __future__ import annotations

import torch

from baselines.channel_decay import forms
from kernels.channel_decay.gated_linear_attention.spec import gated_linear_attention


@gated_linear_attention.implementation("naive", origin="baseline", flops_exec=forms.square_flops)
def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> forms.Result:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [B,T,HS,K] -> (o [B,T,HS,V], S [N,HS,K,V] or None)."""
    return forms.naive(
        q,
        k,
        v,
        log_decay,
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


@gated_linear_attention.implementation(
    "torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128, 256)}, flops_exec=forms.chunk_flops
)
def torch_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    chunk: int = 64,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> forms.Result:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [B,T,HS,K] -> (o [B,T,HS,V], S [N,HS,K,V] or None)."""
    return forms.chunked(
        q,
        k,
        v,
        log_decay,
        scale=q.shape[-1] ** -0.5 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
        chunk=chunk,
    )


@gated_linear_attention.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    state: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], log_decay [B,1,HS,K] -> o [B,1,HS,V]; S [B,HS,K,V] in place."""
    factor = q.shape[-1] ** -0.5 if scale is None else scale
    return forms.step(q, k, v, log_decay, state=state, scale=factor)
