"""Kimi Delta Attention in PyTorch: naive (one chunk as long as the sequence), chunked, and the decode step.

Source: Kimi Team 2025, arXiv:2510.26692.
"""

from __future__ import annotations

import torch

from baselines.channel_delta.parallel import chunk_flops, run, square_flops
from baselines.precision import widen
from kernels.channel_delta.kimi_delta_attention.spec import kimi_delta_attention
from kernels.common.heads import expand_heads
from kernels.common.packed import apart, host_copy, per_sequence
from kernels.delta.reference import unit


@kimi_delta_attention.implementation("naive", origin="baseline", flops_exec=square_flops(dplr=False))
def naive(
    q,
    k,
    v,
    log_decay,
    beta,
    *,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
):
    """q, k [B,T,H,K], v [B,T,HV,V], log_decay [B,T,HV,K], beta [B,T,HV] -> (o [B,T,HV,V], S [N,HV,K,V]).

    The T x T scores of every head lie in memory; products are in float32.
    """
    return _call(
        q,
        k,
        v,
        log_decay,
        beta,
        l2norm,
        scale,
        initial_state,
        output_final_state,
        host_copy(cu_seqlens, cu_seqlens_cpu, q),
        1 << 30,
        widen(v[:0]).dtype,
    )


@kimi_delta_attention.implementation(
    "torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128)}, flops_exec=chunk_flops(dplr=False)
)
def torch_chunk(
    q,
    k,
    v,
    log_decay,
    beta,
    *,
    chunk: int = 64,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
):
    """q, k [B,T,H,K], v [B,T,HV,V], log_decay [B,T,HV,K], beta [B,T,HV] -> (o [B,T,HV,V], S [N,HV,K,V]).

    Products of a chunk's tokens are made for all chunks at once, in the dtype of v; packed sequences run one after the
    other.
    """
    return _call(
        q,
        k,
        v,
        log_decay,
        beta,
        l2norm,
        scale,
        initial_state,
        output_final_state,
        host_copy(cu_seqlens, cu_seqlens_cpu, q),
        chunk,
        v.dtype,
    )


def _call(q, k, v, log_decay, beta, l2norm, scale, initial_state, output_final_state, bounds, chunk, dtype):
    if l2norm:
        q, k = unit(widen(q)), unit(widen(k))
    options = {"scale": q.shape[-1] ** -0.5 if scale is None else scale, "chunk": chunk, "dtype": dtype}
    if not apart(q, bounds):
        return run(
            q, k, v, log_decay, beta=beta, initial_state=initial_state, output_final_state=output_final_state, **options
        )
    return per_sequence(
        _one,
        q,
        k,
        v,
        log_decay,
        beta,
        cu_seqlens=bounds,
        initial_state=initial_state,
        output_final_state=output_final_state,
        **options,
    )


def _one(q, k, v, log_decay, beta, **options):
    return run(q, k, v, log_decay, beta=beta, **options)


@kimi_delta_attention.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(q, k, v, log_decay, beta, *, state: torch.Tensor, l2norm: bool = False, scale: float | None = None):
    """q, k [B,1,H,K], v [B,1,HV,V], log_decay [B,1,HV,K], beta [B,1,HV] -> o [B,1,HV,V]; the state is updated."""
    heads, dtype = v.shape[2], v.dtype
    q, k, v, g, beta = (widen(x) for x in (q, k, v, log_decay, beta))
    if l2norm:
        q, k = unit(q), unit(k)
    q, k = (expand_heads(x, heads)[:, 0] for x in (q * (q.shape[-1] ** -0.5 if scale is None else scale), k))
    S = widen(state) * g[:, 0, ..., None].exp()
    u = beta[:, 0, :, None] * (v[:, 0] - (k[..., None, :] @ S).squeeze(-2))
    S = S + k[..., None] * u[..., None, :]
    state.copy_(S)
    return (q[..., None, :] @ S).squeeze(-2)[:, None].to(dtype)
