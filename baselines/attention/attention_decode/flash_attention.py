"""FlashAttention 2 over a KV cache: an adapter to flash_attn.flash_attn_with_kvcache, versions 2.7 to 2.8. CUDA only.

It splits each sequence by a heuristic of its own (FlashDecoding) and aligns a causal mask at the last token, as here.
Source: Dao 2023, arXiv:2307.08691; github.com/Dao-AILab/flash-attention.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from baselines.attention.attention_decode.caches import State
from baselines.attention.softmax_attention.flash_attention import FLASH_2, HALVES, supports_2
from kernels.attention.attention_decode.spec import attention_decode
from suite import Problem
from suite.problem import Value

PAGE = 256


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why FlashAttention 2 cannot serve a problem, or None."""
    page = int(problem.axis("page"))
    if page % PAGE:
        return f"flash-attn 2 takes pages of a multiple of {PAGE} rows, not {page}"
    return supports_2(problem, tunables)


@attention_decode.implementation(
    "flash_attn_2",
    origin="peer",
    passes={"decode"},
    devices={"cuda"},
    dtypes=HALVES,
    requires=FLASH_2,
    supports=supports,
)
def flash_attn_2(
    q: torch.Tensor,
    *,
    state: State,
    block_table: torch.Tensor,
    lengths: torch.Tensor | None = None,
    page: int = 0,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,Q,H,K], caches [B,T,HK,K] or pools of pages [pages,256,HK,K] -> o [B,Q,H,K]."""
    from flash_attn import flash_attn_with_kvcache  # pyright: ignore[reportMissingImports]

    return flash_attn_with_kvcache(
        q,
        *state,
        cache_seqlens=lengths,
        block_table=block_table if page else None,
        softmax_scale=scale,
        causal=q.shape[1] > 1,
    )
