"""RWKV-7 in PyTorch: naive (one chunk as long as the sequence), chunked, and the decode step.

Source: Peng et al. 2025, arXiv:2503.14456.
"""

from __future__ import annotations

import torch

from baselines.channel_delta.parallel import chunk_flops, run, square_flops
from baselines.precision import widen
from kernels.channel_delta.rwkv7.spec import rwkv7
from kernels.common.heads import expand_heads
from kernels.common.packed import apart, host_copy, per_sequence


@rwkv7.implementation("naive", origin="baseline", flops_exec=square_flops(dplr=True))
def naive(
    q,
    k,
    v,
    log_decay,
    a,
    b,
    *,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
):
    """q, k [B,T,H,K], v [B,T,HV,V], log_decay, a, b [B,T,HV,K] -> (o [B,T,HV,V], S [N,HV,K,V]).

    The T x T scores of every head lie in memory; products are in float32.
    """
    return _call(
        q,
        k,
        v,
        log_decay,
        a,
        b,
        scale,
        initial_state,
        output_final_state,
        host_copy(cu_seqlens, cu_seqlens_cpu, q),
        1 << 30,
        widen(v[:0]).dtype,
    )


@rwkv7.implementation(
    "torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128)}, flops_exec=chunk_flops(dplr=True)
)
def torch_chunk(
    q,
    k,
    v,
    log_decay,
    a,
    b,
    *,
    chunk: int = 64,
    scale: float | None = None,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
):
    """q, k [B,T,H,K], v [B,T,HV,V], log_decay, a, b [B,T,HV,K] -> (o [B,T,HV,V], S [N,HV,K,V]).

    Products of a chunk's tokens are made for all chunks at once, in the dtype of v; packed sequences run one after the
    other.
    """
    return _call(
        q,
        k,
        v,
        log_decay,
        a,
        b,
        scale,
        initial_state,
        output_final_state,
        host_copy(cu_seqlens, cu_seqlens_cpu, q),
        chunk,
        v.dtype,
    )


def _call(q, k, v, log_decay, a, b, scale, initial_state, output_final_state, bounds, chunk, dtype):
    options = {"scale": 1.0 if scale is None else scale, "chunk": chunk, "dtype": dtype}
    if not apart(q, bounds):
        return _one(
            q, k, v, log_decay, a, b, initial_state=initial_state, output_final_state=output_final_state, **options
        )
    return per_sequence(
        _one,
        q,
        k,
        v,
        log_decay,
        a,
        b,
        cu_seqlens=bounds,
        initial_state=initial_state,
        output_final_state=output_final_state,
        **options,
    )


def _one(q, k, v, log_decay, a, b, **options):
    return run(q, k, v, log_decay, a=a, b=b, **options)


@rwkv7.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(q, k, v, log_decay, a, b, *, state: torch.Tensor, scale: float | None = None):
    """q, k [B,1,H,K], v [B,1,HV,V], log_decay, a, b [B,1,HV,K] -> o [B,1,HV,V]; the state is updated in place."""
    heads, dtype = v.shape[2], v.dtype
    q, k, v, g, a, b = (widen(x) for x in (q, k, v, log_decay, a, b))
    q, k = (expand_heads(x, heads)[:, 0] for x in (q * (1.0 if scale is None else scale), k))
    S = widen(state)
    u = a[:, 0, :, None, :] @ S
    S = S * g[:, 0, ..., None].exp() + b[:, 0, ..., None] * u + k[..., None] * v[:, 0, :, None, :]
    state.copy_(S)
    return (q[..., None, :] @ S).squeeze(-2)[:, None].to(dtype)
