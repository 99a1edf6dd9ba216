"""FlashAttention 2 and 4: adapters to the packages flash-attn and flash-attn-4. Both run on CUDA only.

FlashAttention 2: flash_attn.flash_attn_func and flash_attn_varlen_func, versions 2.7 to 2.8.
FlashAttention 4: flash_attn.cute.flash_attn_func, the 4.0 betas, kernels in CuTe DSL. Beta 36 has a forward pass for
sm_80 to sm_120 and a backward pass for sm_90 to sm_120. On sm_100 it takes heads up to 128, and the pairs 192 with 128
and 256 with 256. What it has no kernel for it says by an assertion, which makes the case `unsupported`.
Tensors are [B,T,H,D] as everywhere here. Sources: Dao 2023, arXiv:2307.08691; github.com/Dao-AILab/flash-attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

import suite
from baselines.attention.softmax_attention.shapes import same_dims
from kernels.attention.softmax_attention.spec import softmax_attention
from suite import Problem, Requirement
from suite.problem import Value

HALVES = ("bfloat16", "float16")
MAX_DIM = 256
ALIGNMENT = 8
# Compute capability 8.x.
AMPERE = 8
# The compiled extension: `flash_attn` alone is there with flash-attn-4, too.
FLASH_2 = Requirement(
    "flash_attn_2_cuda",
    "flash-attn",
    ">=2.7,<3",
    "pip install --no-build-isolation 'flash-attn>=2.7,<3', which needs torch and, without a prebuilt wheel, nvcc",
    extra="flash",
)
FLASH_4 = Requirement("flash_attn.cute", "flash-attn-4", ">=4.0.0b4,<5", extra="peers-wheels")


def supports_2(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why FlashAttention 2 cannot serve a problem, or None."""
    if problem.K > MAX_DIM:
        return f"flash-attn 2 takes head dimensions up to {MAX_DIM}, not K{problem.K}"
    return same_dims(problem, tunables)


def supports_4(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why FlashAttention 4 cannot serve a problem, or None."""
    if problem.differentiates and suite.target().capability // 10 == AMPERE:
        return f"flash-attn-4 has no backward pass on {suite.target().arch}, only from sm_90 on"
    for name, dim in (("K", problem.K), ("V", problem.V)):
        if dim % ALIGNMENT or dim > MAX_DIM:
            return f"flash-attn-4 takes multiples of {ALIGNMENT} up to {MAX_DIM} as head dimensions, not {name}{dim}"
    return None


@softmax_attention.implementation(
    "flash_attn_2",
    origin="peer",
    devices={"cuda"},
    dtypes=HALVES,
    requires=FLASH_2,
    supports=supports_2,
    deterministic=False,
)
def flash_attn_2(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    causal: bool = True,
    scale: float | None = None,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k, v [B,T,HK,K] -> (o [B,T,H,K], None); packed sequences by flash_attn_varlen_func.

    Its backward pass adds dq atomically, so gradients differ between runs in their last bits.
    """
    return call_2(q, k, v, cu_seqlens, cu_seqlens_cpu, softmax_scale=scale, causal=causal), None


def call_2(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    cu_seqlens_cpu: torch.Tensor | None,
    **options: Any,
) -> torch.Tensor:
    """o [B,T,H,K] by flash_attn_func, or by flash_attn_varlen_func where sequences are packed."""
    from flash_attn import flash_attn_func, flash_attn_varlen_func  # pyright: ignore[reportMissingImports]

    if cu_seqlens is None:
        return flash_attn_func(q, k, v, **options)
    longest = int((cu_seqlens if cu_seqlens_cpu is None else cu_seqlens_cpu).diff().max())
    o = flash_attn_varlen_func(
        q[0],
        k[0],
        v[0],
        cu_seqlens_q=cu_seqlens,
        cu_seqlens_k=cu_seqlens,
        max_seqlen_q=longest,
        max_seqlen_k=longest,
        **options,
    )
    return o[None]


@softmax_attention.implementation(
    "flash_attn_4",
    origin="peer",
    devices={"cuda"},
    dtypes=HALVES,
    requires=FLASH_4,
    supports=supports_4,
    deterministic=False,
)
def flash_attn_4(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, causal: bool = True, scale: float | None = None
) -> tuple[torch.Tensor, None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] -> (o [B,T,H,V], None). Its backward pass adds dq atomically."""
    return call_4(q, k, v, softmax_scale=scale, causal=causal), None


def call_4(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, **options: Any) -> torch.Tensor:
    """o [B,T,H,V] by flash_attn.cute."""
    from flash_attn.cute import flash_attn_func  # pyright: ignore[reportMissingImports]

    return flash_attn_func(q, k, v, **options)[0]
