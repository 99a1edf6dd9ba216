"""The delta rule with a scalar gate in PyTorch: one triangular solve per chunk (WY form), and one token at a time.

With a chunk's start state S, G the cumulative log decay, L = tril(K K^T . e^(G_i - G_j), -1) and b = beta:

    R = (I + L diag(b))^{-1} (V - e^G K S)        O = s (e^G Q S + tril(Q K^T . e^(G_i - G_j)) b R)
    S <- e^Gc S + (e^(Gc - G) K)^T b R

Both parts of R, (I + L diag(b))^{-1} V and (I + L diag(b))^{-1} e^G K, come for all chunks at once; a loop over chunks
carries the state. A chunk that holds the whole sequence is the naive form. n steps per token are n rows each.
Sources: Yang et al. 2024, arXiv:2406.06484, section 3; Yang et al. 2024, arXiv:2412.06464.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F

from baselines.precision import widen
from kernels.common.heads import expand_heads
from kernels.common.packed import apart, host_copy, per_sequence
from kernels.delta.reference import unit, with_steps
from suite import Problem
from suite.errors import UsageError
from suite.problem import Value

Result = tuple[torch.Tensor, torch.Tensor | None]
CHUNKS = (64, 32, 128)
# e^-110 is 0 in float32; differences of sums of -inf would be NaN.
LEAST_LOG = -110.0


def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor | None = None,
    *,
    steps: int | None = None,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> Result:
    """torch_chunk with each sequence as one chunk, and all products in float32."""
    return torch_chunk(
        q,
        k,
        v,
        beta,
        log_decay,
        steps=steps,
        l2norm=l2norm,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
        chunk=None,
        wide=True,
    )


def torch_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor | None = None,
    *,
    steps: int | None = None,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
    chunk: int | None = CHUNKS[0],
    wide: bool = False,
) -> Result:
    """q [B,T,H,K], k [B,T,n,H,K], v [B,T,n,HV,V], beta [B,T,n,HV], log_decay [B,T,HV] -> o [B,T,HV,V], S [N,HV,K,V].

    The dimension of n = `steps` may be left out where it is 1. chunk counts steps, None takes the sequence as one;
    packed sequences are run one after the other. Products are in the inputs' dtype unless `wide`; the solve and states
    are in float32. Raises UsageError where k has another number of steps.
    """
    _check_steps(k, steps)
    gates = (beta,) if log_decay is None else (beta, log_decay)
    options: dict[str, Any] = {
        "chunk": chunk,
        "l2norm": l2norm,
        "scale": scale,
        "wide": wide,
        "initial_state": initial_state,
        "output_final_state": output_final_state,
    }
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, q)
    if not apart(q, bounds):
        return _dense(q, k, v, *gates, **options)
    o, final = per_sequence(_dense, q, k, v, *gates, cu_seqlens=bounds, **options)
    assert not isinstance(final, tuple)
    return o, final


def _check_steps(k: torch.Tensor, steps: int | None) -> None:
    found = 1 if k.ndim == 4 else k.shape[2]
    if steps not in (None, found):
        raise UsageError(f"steps = {steps} where k is {tuple(k.shape)}; give steps = {found}")


def _dense(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor | None = None,
    *,
    chunk: int | None,
    l2norm: bool,
    scale: float | None,
    initial_state: torch.Tensor | None,
    output_final_state: bool,
    wide: bool,
) -> Result:
    dtype, T = v.dtype, q.shape[1]
    q, k, v, b, g = _rows(q, k, v, beta, log_decay, l2norm, wide)
    rows = q.shape[1]
    C = min(chunk or rows, rows)
    q, k, v, b, g = (_split(x, C) for x in (q, k, v, b, g))
    s = q.shape[-1] ** -0.5 if scale is None else scale
    G = g.cumsum(-1)
    difference = G[..., :, None] - G[..., None, :]
    # The upper triangle would overflow, and its gradient with it.
    decay = difference.masked_fill(torch.ones_like(difference, dtype=torch.bool).triu(1), -torch.inf).exp()
    N = widen(k @ k.mT).mul(decay).tril(-1) * b[..., None, :]
    both = torch.cat([widen(v), widen(k) * G.exp()[..., None]], dim=-1)
    eye = torch.eye(C, dtype=N.dtype, device=N.device)
    R_v, R_k = torch.linalg.solve_triangular(N + eye, both, upper=False, unitriangular=True).split(
        (v.shape[-1], k.shape[-1]), dim=-1
    )
    scores = (widen(q @ k.mT) * decay).to(v.dtype)
    reads, R_k = (q * G.exp()[..., None]).to(v.dtype), R_k.to(v.dtype)
    writes, total = (k * (G[..., -1:] - G).exp()[..., None]).to(v.dtype), G[..., -1].exp()[..., None, None]
    S = R_v.new_zeros(*R_v.shape[:1], R_v.shape[2], k.shape[-1], v.shape[-1])
    S = S if initial_state is None else widen(initial_state)
    outputs = []
    for c in range(R_v.shape[1]):
        state = S.to(v.dtype)
        w = ((R_v[:, c] - widen(R_k[:, c] @ state)) * b[:, c, :, :, None]).to(v.dtype)
        outputs.append(widen(reads[:, c] @ state) + widen(scores[:, c] @ w))
        S = total[:, c] * S + widen(writes[:, c].mT @ w)
    o = (s * torch.stack(outputs, dim=1)).transpose(2, 3).flatten(1, 2)[:, :rows]
    final_dtype = S.dtype if initial_state is None else initial_state.dtype
    return o[:, rows // T - 1 :: rows // T].to(dtype), (S.to(final_dtype) if output_final_state else None)


def _rows(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor | None,
    l2norm: bool,
    wide: bool,
) -> tuple[torch.Tensor, ...]:
    """q, k, v with equal heads, beta and the log decay in float32, a row a step; rows between are 0."""
    k, v, beta = with_steps(k, v, beta)
    n, heads = k.shape[2], v.shape[3]
    if l2norm:
        q, k = unit(widen(q)).to(q.dtype), unit(widen(k)).to(k.dtype)
    if wide:
        q, k, v = widen(q), widen(k), widen(v)
    g = torch.zeros_like(beta[:, :, 0]) if log_decay is None else log_decay
    g = F.pad(widen(g).clamp(min=LEAST_LOG)[:, :, None], (0, 0, 0, n - 1)).flatten(1, 2)
    q = F.pad(q[:, :, None], (0, 0, 0, 0, n - 1, 0)).flatten(1, 2)
    k, v, beta = (x.flatten(1, 2) for x in (k, v, beta))
    return expand_heads(q, heads), expand_heads(k, heads), v, widen(beta), g


def _split(x: torch.Tensor, C: int) -> torch.Tensor:
    """[B, rows, HV, …] -> [B, chunks, HV, C, …], the last chunk padded with zeros."""
    padded = F.pad(x, (0, 0) * (x.ndim - 2) + (0, -x.shape[1] % C))
    return padded.unflatten(1, (-1, C)).transpose(2, 3).contiguous()


def torch_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor | None = None,
    *,
    state: torch.Tensor,
    steps: int | None = None,
    l2norm: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """One token with its steps: shapes as above with T = 1 -> o [B,1,HV,V]; `state` [B,HV,K,V] is updated in place."""
    _check_steps(k, steps)
    dtype, s = v.dtype, q.shape[-1] ** -0.5 if scale is None else scale
    q, k, v, b, g = (x.transpose(1, 2) for x in _rows(q, k, v, beta, log_decay, l2norm, wide=True))
    if log_decay is not None:
        state.mul_(g[:, :, 0].exp()[..., None, None])
    for i in range(k.shape[2]):
        residual = (v[:, :, i] - (k[:, :, i, None] @ widen(state)).squeeze(2)) * b[:, :, i, None]
        # addcmul_ reads and writes the state once, without an outer product in memory.
        state.addcmul_(k[:, :, i, :, None].to(state.dtype), residual[:, :, None].to(state.dtype))
    return (s * (q[:, :, -1:] @ widen(state))).transpose(1, 2).to(dtype)


def square_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs with each sequence as one chunk."""
    return _flops(problem, None)


def tile_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs on full chunks."""
    return _flops(problem, int(tunables["chunk"]))


def _flops(problem: Problem, chunk: int | None) -> float:
    """FLOPs on full C x C tiles, the last chunk of each sequence padded; a backward pass is twice a forward one.

    A row and head costs 6KV, 4CK for the products of keys and queries, C (K + V) for the solve, 2CV for the scores.
    """
    p, steps = problem, int(dict(problem.axes).get("steps", 1))
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]
    bounds = p.cu_seqlens
    tokens = [p.T] * p.B if bounds is None else [b - a for a, b in pairwise(bounds) if b > a]
    sizes = [(n * steps, min(chunk or n * steps, n * steps)) for n in tokens]
    tiles = [(-(-n // C) * C, C) for n, C in sizes]
    return factor * p.HS * sum(n * (6.0 * p.K * p.V + C * (5 * p.K + 3 * p.V)) for n, C in tiles)
