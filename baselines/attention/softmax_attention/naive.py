"""Naive: softmax attention by the full matrix of scores, multiplied in float32.

    P = softmax(s Q K^T + mask)        O = P V

The T x T scores of every head lie in memory, masked ones too. Source: Vaswani et al. 2017, arXiv:1706.03762.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch

from baselines.precision import widen
from kernels.attention.softmax_attention.spec import softmax_attention
from kernels.common.heads import expand_heads
from kernels.common.packed import host_copy, spans
from suite import Problem
from suite.problem import Value


def square_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of the full square, masked scores included.

    A pair and head costs 2 (K + V) forward and 2 (2K + 2V) backward, where the stored scores are not computed again.
    """
    p = problem
    square = sum(n * n * count for n, count in p.lengths.items()) * p.H
    passes = {"fwd": ["fwd"], "bwd": ["bwd"], "fwdbwd": ["fwd", "bwd"]}[p.pass_]
    width = {"fwd": p.K + p.V, "bwd": 2 * p.K + 2 * p.V}
    return sum(2.0 * square * width[each] for each in passes)


@softmax_attention.implementation("naive", origin="baseline", flops_exec=square_flops)
def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = True,
    scale: float | None = None,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,H,V], None); one packed sequence after the other."""

    def future(T: int) -> torch.Tensor | None:
        return torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1) if causal else None

    return by_squares(q, k, v, future, scale, host_copy(cu_seqlens, cu_seqlens_cpu, q)), None


def by_squares(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    hidden: Callable[[int], torch.Tensor | None],
    scale: float | None,
    bounds: torch.Tensor | None,
) -> torch.Tensor:
    """o [B,T,H,V] by each sequence's whole square of scores; hidden(T) [T,T] tells which do not count, None: all do."""
    outputs = [
        _square(q[:, first:end], k[:, first:end], v[:, first:end], hidden(end - first), scale)
        for first, end in spans(q.shape[1], bounds)
    ]
    return torch.cat(outputs, dim=1)


def _square(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, hidden: torch.Tensor | None, scale: float | None
) -> torch.Tensor:
    s = q.shape[-1] ** -0.5 if scale is None else scale
    # [B, H, T, D]
    qh, kh, vh = (widen(expand_heads(x, q.shape[2])).transpose(1, 2) for x in (q, k, v))
    scores = qh @ kh.transpose(-1, -2) * s
    if hidden is not None:
        scores = scores.masked_fill(hidden, float("-inf"))
    return (scores.softmax(-1) @ vh).transpose(1, 2).to(v.dtype)
