"""Naive: softmax attention by the full matrix of scores, multiplied in float32.

    P = softmax(s Q K^T + mask)        O = P V

The T x T scores of every head lie in memory, masked ones too. Source: Vaswani et al. 2017, arXiv:1706.03762.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from baselines.precision import widen
from baselines.softmax_attention.shapes import Cache, append
from kernels.common.heads import expand_heads
from kernels.common.packed import spans
from kernels.softmax_attention.spec import pairs, softmax_attention
from suite import Problem
from suite.problem import Value


def square_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of the full square, masked scores included.

    A pair and head costs 2 (K + V) forward and 2 (2K + 2V) backward, where the stored scores are not computed again.
    """
    p = problem
    square = pairs(softmax_attention.complete(p, {"causal": False})) * p.H
    passes = {"fwd": ["fwd"], "bwd": ["bwd"], "fwdbwd": ["fwd", "bwd"]}[p.pass_]
    width = {"fwd": p.K + p.V, "bwd": 2 * p.K + 2 * p.V}
    return sum(2.0 * square * width[each] for each in passes)


@softmax_attention.implementation("naive", origin="baseline", flops_exec=square_flops)
def naive(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = True, scale: float | None = None,
    cu_seqlens: torch.Tensor | None = None, cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,H,V], None); one packed sequence after the other."""
    bounds = cu_seqlens if cu_seqlens_cpu is None else cu_seqlens_cpu
    outputs = [
        _whole(q[:, first:end], k[:, first:end], v[:, first:end], causal, scale)
        for first, end in spans(q.shape[1], bounds)
    ]
    return torch.cat(outputs, dim=1), None


def _whole(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, scale: float | None) -> torch.Tensor:
    T, s = q.shape[1], q.shape[-1] ** -0.5 if scale is None else scale
    # [B, H, T, D]
    qh, kh, vh = (widen(expand_heads(x, q.shape[2])).transpose(1, 2) for x in (q, k, v))
    scores = qh @ kh.transpose(-1, -2) * s
    if causal:
        future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    return (scores.softmax(-1) @ vh).transpose(1, 2).to(v.dtype)


@softmax_attention.implementation("naive_step", origin="baseline", passes={"decode"})
def naive_step(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, state: Cache,
               scale: float | None = None) -> torch.Tensor:  # fmt: skip
    """One query over the cache in float32: q [B,1,H,K] -> o [B,1,H,V]; the queries of a group share their rows."""
    k_cache, v_cache = append(state, k, v)
    s = q.shape[-1] ** -0.5 if scale is None else scale
    group = q.shape[2] // k.shape[2]
    # [B, HK, group, K] against [B, HK, T, D]
    qh = widen(q).transpose(1, 2).reshape(q.shape[0], k.shape[2], group, q.shape[-1])
    kh, vh = (widen(x).transpose(1, 2) for x in (k_cache, v_cache))
    scores = qh @ kh.transpose(-1, -2) * s
    o = scores.softmax(-1) @ vh
    return o.reshape(q.shape[0], 1, q.shape[2], v.shape[-1]).to(v.dtype)
