"""Decoding in flash-linear-attention: an adapter to fla-core 0.6. Its kernels are in Triton.

Entry: fla.ops.attn.decoding.attn_decoding_one_step. It takes packed caches, each ending where the next begins, and has
a block for each sequence and query head: it neither splits a sequence nor shares a group's keys.
Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from baselines import boundaries
from baselines.attention.attention_decode.caches import State
from baselines.attention.attention_decode.pytorch import plain
from baselines.fla_core import requirement
from kernels.attention.attention_decode.spec import attention_decode
from suite import Problem
from suite.problem import Value

FLA = requirement("fla.ops.attn")


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why attn_decoding_one_step cannot serve a problem, or None."""
    if plain(problem, tunables):
        return "fla's attn_decoding_one_step takes one query and caches of equal length: no ragged lengths, queries = 1"
    return None


@attention_decode.implementation(
    "fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA, supports=supports
)
def fla_step(q: torch.Tensor, *, state: State, block_table: torch.Tensor, scale: float | None = None) -> torch.Tensor:
    """q [B,1,H,K], contiguous caches of one length [B,T,HK,D] -> o [B,1,H,V]; there is no table to read."""
    from fla.ops.attn.decoding import attn_decoding_one_step  # pyright: ignore[reportMissingImports]

    B, T = state[0].shape[:2]
    bounds = boundaries.even(B, T, q.device)
    k, v = (x.flatten(0, 1)[None] for x in state)
    # The library's decorator hides the function's parameters from a type checker.
    step: Callable[..., Any] = attn_decoding_one_step
    return step(q.transpose(0, 1), k, v, scale=scale, cu_seqlens=bounds).transpose(0, 1)
