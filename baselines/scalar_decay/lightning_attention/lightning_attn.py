"""Lightning Attention-2 by its authors: an adapter to the package lightning-attn 0.0.5, kernels in Triton for CUDA.

lightning_attn_func takes [B,H,T,D], slopes >= 0, the negated log decays, and no scale; it keeps no state. Transposing
and scaling belong to the time. Source: Qin et al. 2024, github.com/OpenNLPLab/lightning-attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import torch

from kernels.common.heads import expand_heads
from kernels.scalar_decay.lightning_attention.spec import lightning_attention
from suite import Problem, Requirement
from suite.problem import Value

PACKAGE = Requirement("lightning_attn", "lightning-attn", ">=0.0.5,<0.1", extra="peers-wheels")
DIMS = (32, 64, 128)


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why lightning_attn_func cannot serve a problem, or None."""
    if problem.K not in DIMS or problem.V not in DIMS:
        return f"lightning_attn_func takes head dimensions {', '.join(map(str, DIMS))}, not K{problem.K} V{problem.V}"
    return None


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@lightning_attention.implementation(
    "lightning_attn",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=("bfloat16", "float16"),
    requires=PACKAGE,
    supports=supports,
)
def lightning_attn(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, log_decay: torch.Tensor, *, scale: float | None = None
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [HS] -> (o [B,T,HS,V], None), in chunks of 64 tokens."""
    entry = import_module("lightning_attn.ops").lightning_attn_func

    heads = max(q.shape[2], v.shape[2])
    q = q * (q.shape[-1] ** -0.5 if scale is None else scale)
    qt, kt, vt = (expand_heads(x, heads).transpose(1, 2) for x in (q, k, v))
    return entry(qt, kt, vt, -log_decay).transpose(1, 2), None
