"""Taylor features of Based in flash-linear-attention: adapters to fla-core 0.6. Its kernels are in Triton.

Entries: fla.ops.based.parallel_based, quadratic, and fused_chunk_based, which keeps the state of the full second-order
features and takes K up to 16. Both make 1 + s + s^2/2 of s = q . k / sqrt(K) on chip: they serve the map `taylor`,
causal, on whole sequences without states. They divide by their normaliser in PyTorch.
Source: Arora et al. 2024, arXiv:2402.18668; github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from baselines.fla_core import requirement
from baselines.scalar_decay.linear_attention.flash_linear_attention import HALVES
from kernels.attention.softmax_attention.spec import pairs
from kernels.common.heads import expand_heads
from kernels.feature_maps.taylor_attention.spec import fused_flops
from kernels.scalar_decay.linear_attention.spec import linear_attention, map_of
from suite import Problem
from suite.problem import Value

BASED = requirement("fla.ops.based")


def _limit(entry: str, widest: int, problem: Problem) -> str | None:
    if map_of(problem).name != "taylor":
        return f"fla's {entry} supports only Taylor features: set feature_map to taylor"
    return f"fla's {entry} takes K up to {widest}, not {problem.K}" if widest < problem.K else None


def supports_parallel(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why parallel_based cannot serve a problem, or None."""
    return _limit("parallel_based", 128, problem)


def supports_fused_chunk(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why fused_chunk_based cannot serve a problem, or None: between its bounds, V is the width of a Triton block."""
    if 16 < problem.V < 32:
        return f"fla's fused_chunk_based takes V up to 16 and from 32 on, not {problem.V}"
    return _limit("fused_chunk_based", 16, problem)


def parallel_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of parallel_based's products, the causal half alone."""
    p = problem
    return pairs(p) * p.HS * fused_flops(p.pass_, p.K, p.V)


def call_based(entry: Callable[..., Any], q, k, v, *, inner: float, normalised: bool) -> torch.Tensor:
    """o [B,T,HS,V] of weights 1 + s + s^2/2, s = inner q . k, over q, k, v with their heads repeated to HS."""
    heads = max(q.shape[2], v.shape[2])
    q, k, v = (expand_heads(x, heads).contiguous() for x in (q, k, v))
    return entry(q, k, v, scale=inner, use_norm=normalised)


def _taylor(entry: Callable[..., Any], q, k, v, feature_map: str, normalised: bool, scale: float | None):
    assert feature_map == "taylor"
    inner = q.shape[-1] ** -0.5
    o = call_based(entry, q, k, v, inner=inner, normalised=normalised)
    # The operator's own scale multiplies what is inside here; a quotient does not have it.
    return (o if normalised else o * (inner if scale is None else scale)), None


# float32 is left out: tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@linear_attention.implementation(
    "fla_parallel_based",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=HALVES,
    requires=BASED,
    supports=supports_parallel,
    flops_exec=parallel_flops,
)
def fla_parallel_based(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    feature_map: str = "taylor",
    normalised: bool = False,
    scale: float | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], None): all pairs, weights on chip."""
    from fla.ops.based import parallel_based  # pyright: ignore[reportMissingImports]

    return _taylor(parallel_based, q, k, v, feature_map, normalised, scale)


@linear_attention.implementation(
    "fla_fused_chunk_based",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=HALVES,
    requires=BASED,
    supports=supports_fused_chunk,
)
def fla_fused_chunk_based(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    feature_map: str = "taylor",
    normalised: bool = False,
    scale: float | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], None): chunks of 16 tokens, the state on chip."""
    from fla.ops.based import fused_chunk_based  # pyright: ignore[reportMissingImports]

    return _taylor(fused_chunk_based, q, k, v, feature_map, normalised, scale)
