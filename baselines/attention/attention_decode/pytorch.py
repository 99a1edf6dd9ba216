"""Attention over a KV cache in PyTorch: the naive form, each SDPA backend on the cache itself, SDPA on gathered pages.

Entries: torch.nn.functional.scaled_dot_product_attention, forced to one backend (`sdpa_*`) or left to choose
(`torch_paged`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from baselines.attention.attention_decode.caches import State, gathered, known_rows, visible
from baselines.attention.softmax_attention.sdpa import BACKENDS, Backend, attend
from baselines.precision import widen
from kernels.attention.attention_decode.spec import attention_decode
from kernels.common.pages import check_entries, check_lengths, check_table
from suite import Problem
from suite.problem import Value


@attention_decode.implementation("naive", origin="baseline", passes={"decode"})
def naive(
    q: torch.Tensor,
    *,
    state: State,
    block_table: torch.Tensor,
    lengths: torch.Tensor | None = None,
    page: int = 0,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,Q,H,K] -> o [B,Q,H,V] by all scores in float32; a group's queries share their rows, pages are gathered."""
    Q, K = q.shape[1], q.shape[3]
    k, v = _rows(q, state, block_table, lengths, page)
    # [B, HK, G, Q, K] against [B, HK, T, D]
    grouped = widen(q).unflatten(2, (k.shape[2], -1)).permute(0, 2, 3, 1, 4)
    kh, vh = (widen(x).transpose(1, 2) for x in (k, v))
    scores = grouped.flatten(2, 3) @ kh.transpose(-1, -2) * (K**-0.5 if scale is None else scale)
    scores = scores.unflatten(2, (-1, Q))
    seen = visible(lengths, Q, k.shape[1], q.device)
    if seen is None:
        weights = scores.softmax(-1)
    else:
        hidden = ~seen[:, None, None]
        # A query that sees nothing has no weights at all.
        weights = scores.masked_fill(hidden, float("-inf")).softmax(-1).masked_fill(hidden, 0.0)
    o = (weights.flatten(2, 3) @ vh).unflatten(2, (-1, Q))
    return o.permute(0, 3, 1, 2, 4).flatten(2, 3).to(v.dtype)


def _rows(q: torch.Tensor, state: State, table: torch.Tensor, lengths: torch.Tensor | None, page: int) -> State:
    """Keys and values [B, T, heads, D], gathered where they are paged or some rows mean nothing.

    Raises UsageError on lengths and a table that do not fit the cache.
    """
    pages, rows = state[0].shape[:2]
    if page or lengths is not None:
        check_table(state[0], table, len(q))
    if lengths is not None:
        check_lengths(state[0], lengths, len(q), table.shape[1] * rows)
    if not page and lengths is None:
        return state
    check_entries(table, lengths, pages, rows)
    known = known_rows(lengths, table.shape[1] * state[0].shape[1])
    k, v = (gathered(pool, table, known) for pool in state)
    return k, v


@attention_decode.implementation("torch_paged", origin="baseline", passes={"decode"})
def torch_paged(
    q: torch.Tensor,
    *,
    state: State,
    block_table: torch.Tensor,
    lengths: torch.Tensor | None = None,
    page: int = 0,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,Q,H,K] -> o [B,Q,H,V]: pages gathered into one padded tensor, then SDPA with a mask where one is needed."""
    k, v = _rows(q, state, block_table, lengths, page)
    seen = visible(lengths, q.shape[1], k.shape[1], q.device)
    mask = None if seen is None else seen[:, None]
    qh, kh, vh = (x.transpose(1, 2) for x in (q, k, v))
    o = F.scaled_dot_product_attention(qh, kh, vh, mask, scale=scale, enable_gqa=q.shape[2] != k.shape[2])
    return o.transpose(1, 2)


def plain(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why a problem needs a mask, which a forced backend may not take, or None where it needs none."""
    if problem.axis("ragged") or problem.axis("queries") != 1:
        return "takes one query over caches of equal length; torch_paged supports the others"
    return None


def _register(name: str, backend: Backend) -> None:
    def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
        return plain(problem, tunables) or (backend.supports(problem, tunables) if backend.supports else None)

    @attention_decode.implementation(
        f"sdpa_{name}",
        origin="baseline",
        passes={"decode"},
        devices=backend.devices,
        dtypes=backend.dtypes,
        supports=supports,
    )
    def step(q: torch.Tensor, *, state: State, block_table: torch.Tensor, scale: float | None = None) -> torch.Tensor:
        """q [B,1,H,K] over contiguous caches of one length -> o [B,1,H,V]; there is no table to read."""
        return attend(backend.choice, q, *state, causal=False, scale=scale)


for _name, _backend in BACKENDS.items():
    _register(_name, _backend)
