"""Sliding-window attention, causal or to both sides, dilated or not: a one-dimensional neighbourhood of each token.

    o_t = sum_j softmax_j(s q_t . k_j) v_j      j = t - i d,   0 <= i < w where causal, |i| < w to both sides

w is `window`, d `dilation`, s `scale`, 1/sqrt(K) by default. The window counts the token itself, and is cut off where
the sequence ends: it is not moved inwards there, as NATTEN's is. H is a multiple of HK = HV (GQA).
Sources: Beltagy et al. 2020 (Longformer), arXiv:2004.05150; Hassani et al. 2023 (NATTEN), arXiv:2204.07143.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from kernels.attention.reference import attend, defined_on, sequence_cost
from kernels.common.heads import expand_heads
from kernels.common.packed import spans
from suite import Axis, Cost, Operator, Problem
from suite.draw import qkv
from suite.problem import Value

# Those that models use, and short ones whose edges do not fall on the edges of tiles.
WINDOWS = (1024, 1, 7, 13, 64, 100, 128, 256, 512, 2048, 4096, 8192)
DILATIONS = (1, 2, 3, 4, 8, 16)


def windowed_attention(q, k, v, *, causal=True, window=1024, dilation=1, scale=None, cu_seqlens=None):
    """One token at a time: q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,H,V], None)."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    k, v = (expand_heads(x, q.shape[2]) for x in (k, v))
    outputs = []
    for first, end in spans(q.shape[1], cu_seqlens):
        for t in range(first, end):
            behind = min(window - 1, (t - first) // dilation)
            ahead = 0 if causal else min(window - 1, (end - 1 - t) // dilation)
            seen = slice(t - behind * dilation, t + ahead * dilation + 1, dilation)
            outputs.append(attend(q[:, t] * scale, k[:, seen], v[:, seen]))
    return torch.stack(outputs, dim=1) if outputs else v, None


def pairs(problem: Problem) -> float:
    """(query, key) pairs of one head over all sequences."""
    window, dilation = int(problem.axis("window")), int(problem.axis("dilation"))
    return float(
        sum(
            count * _band(-(-(n - residue) // dilation), window, bool(problem.axis("causal")))
            for n, count in problem.lengths.items()
            for residue in range(min(n, dilation))
        )
    )


def _band(length: int, window: int, causal: bool) -> int:
    w = min(window, length)
    behind = w * length - w * (w - 1) // 2
    return behind if causal else 2 * behind - length


def cost(problem: Problem, tunables: Mapping[str, Value]) -> Cost:
    """FLOPs of the pairs in the window; see `sequence_cost`."""
    return sequence_cost(problem, pairs(problem))


sliding_window_attention = Operator(
    name="sliding_window_attention",
    tags=("window", "sparse"),
    paper="Beltagy et al. 2020, arXiv:2004.05150",
    equation="o_t = sum_i softmax_i(q_t . k_{t-id} / sqrt(K)) v_{t-id}, 0 <= i < w",
    inputs=qkv,
    oracle=windowed_attention,
    cost=cost,
    axes=(
        Axis("causal", (True, False), "whether token t sees only tokens up to t"),
        Axis("window", WINDOWS, "tokens that a token sees on a side, itself included"),
        Axis("dilation", DILATIONS, "distance of the tokens that it sees"),
    ),
    passes=("fwd", "bwd", "fwdbwd"),
    stateful=False,
    supports=defined_on,
)
