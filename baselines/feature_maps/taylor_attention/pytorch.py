"""TaylorShift attention in PyTorch, in both orders: all T x T weights, or features and one state.

Products of the direct order are in float32. Those of the efficient order are in the dtype of the inputs, as tensor
cores want them, with states summed in float32: they are linear attention's, on normalised q and k with Taylor features.
Source: Nauen et al. 2024, arXiv:2403.02920, algorithm 1 and equation 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F

from baselines.precision import widen
from baselines.scalar_decay.linear_attention.chunk import torch_chunk
from kernels.common.heads import expand_heads
from kernels.common.packed import host_copy, spans
from kernels.feature_maps.taylor_attention.spec import features_exec, pair_flops, taylor_attention
from suite import Problem
from suite.problem import Value


def normalised_rows(q: torch.Tensor, k: torch.Tensor, temperature: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """tau q / |q| and k / |k|, in float32 or wider: x is their product."""
    q, k = (F.normalize(widen(x), dim=-1) for x in (q, k))
    return q * temperature.to(q.dtype)[:, None], k


def output_scale(like: torch.Tensor, K: int, causal: bool, cu_seqlens: torch.Tensor | None) -> torch.Tensor:
    """sqrt(n_t / K) [T, 1, 1] for the n_t keys that a token sees."""
    seen = [
        torch.arange(1, b - a + 1) if causal else torch.full((b - a,), b - a)
        for a, b in spans(like.shape[1], cu_seqlens)
    ]
    return (torch.cat(seen).to(like.device, like.dtype) / K).sqrt()[:, None, None]


def square_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of the full square, masked weights included; backward each product becomes two."""
    p, bounds = problem, problem.cu_seqlens
    lengths = [p.T] * p.B if bounds is None else [b - a for a, b in pairwise(bounds)]
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]
    return factor * float(sum(T * T for T in lengths)) * p.H * pair_flops(p.K, p.V)


@taylor_attention.implementation("naive", origin="baseline", flops_exec=square_flops)
def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    temperature: torch.Tensor,
    causal: bool = True,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """The direct order: q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V], temperature [H] -> (o [B,T,H,V], None)."""
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, q)
    outputs = []
    qn, kn = normalised_rows(q, k, temperature)
    qn, kn, vn = (expand_heads(x, q.shape[2]).transpose(1, 2) for x in (qn, kn, widen(v)))
    for first, end in spans(q.shape[1], bounds):
        x = qn[:, :, first:end] @ kn[:, :, first:end].transpose(-1, -2)
        a = 1 + x * (1 + x / 2)
        a = a.tril() if causal else a
        outputs.append((a @ vn[:, :, first:end] / a.sum(-1, keepdim=True)).transpose(1, 2))
    o = torch.cat(outputs, dim=1)
    return (o * output_scale(o, q.shape[-1], causal, bounds)).to(v.dtype), None


def features_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of the features and the states, and of the chunk x chunk products where causal; twice that backward."""
    return features_exec(problem, int(tunables["chunk"]))


@taylor_attention.implementation(
    "torch_efficient", origin="baseline", tunables={"chunk": (256, 64, 128)}, flops_exec=features_flops
)
def torch_efficient(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    temperature: torch.Tensor,
    causal: bool = True,
    chunk: int = 256,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """The efficient order: q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V], temperature [H] -> (o [B,T,H,V], None).

    Causal, a chunk keeps a state of F V elements: chunks are longer than linear attention's.
    """
    K = q.shape[-1]
    # The features divide each row by K^(1/4).
    qn, kn = (x * K**0.25 for x in normalised_rows(q, k, temperature))
    o, _ = torch_chunk(
        qn.to(q.dtype),
        kn.to(k.dtype),
        v,
        feature_map="taylor",
        normalised=True,
        causal=causal,
        scale=1.0,
        chunk=chunk,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, q)
    return (widen(o) * output_scale(widen(o), K, causal, bounds)).to(v.dtype), None
