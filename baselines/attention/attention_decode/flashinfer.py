"""FlashInfer over a paged KV cache: an adapter to flashinfer.decode.BatchDecodeWithPagedKVCacheWrapper. CUDA only.

The library plans on the CPU which part of which sequence each block takes. A serving engine plans once a step for all
layers of a model, so a plan is kept here as long as lengths, table and shapes stay what they were: it is not part of
the time. Source: Ye et al. 2025, arXiv:2501.01005; docs.flashinfer.ai.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from baselines.attention.attention_decode.caches import State, known_rows
from baselines.attention.softmax_attention.flash_attention import HALVES
from baselines.attention.softmax_attention.shapes import same_dims
from kernels.attention.attention_decode.spec import attention_decode
from suite import Problem, Requirement
from suite.measuring.timers import LARGEST_ROTATION
from suite.problem import Value

FLASHINFER = Requirement("flashinfer.decode", "flashinfer-python", ">=0.6", extra="peers-wheels")
HEAD_DIMS = (64, 128, 256)
WORKSPACE = 128 * 2**20
# Plans that are kept: a timer may call with so many sets of inputs in turns.
KEPT = LARGEST_ROTATION


@dataclass(frozen=True)
class Plan:
    """A plan, and what it was made for. It holds those tensors, so that no others can take their place in memory."""

    table: torch.Tensor
    lengths: torch.Tensor
    made_for: tuple[Any, ...]
    wrapper: Any


_plans: list[Plan] = []


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the library cannot serve a problem, or None."""
    if not problem.axis("page"):
        return "flashinfer's batch decode takes paged caches; try --axis page=16"
    if problem.axis("queries") != 1:
        return "flashinfer's batch decode takes one query per sequence"
    if problem.K not in HEAD_DIMS:
        return f"flashinfer's batch decode takes heads of {', '.join(map(str, HEAD_DIMS))}, not K{problem.K}"
    return same_dims(problem, tunables)


@attention_decode.implementation(
    "flashinfer",
    origin="peer",
    passes={"decode"},
    devices={"cuda"},
    dtypes=HALVES,
    requires=FLASHINFER,
    supports=supports,
    tunables={"tensor_cores": (True, False)},
)
def flashinfer(
    q: torch.Tensor,
    *,
    state: State,
    block_table: torch.Tensor,
    lengths: torch.Tensor,
    page: int,
    scale: float | None = None,
    tensor_cores: bool = True,
) -> torch.Tensor:
    """q [B,1,H,D], pools [pages,page,HK,D] -> o [B,1,H,D]; tensor_cores: its kernel for groups of query heads."""
    # A plan copies the table's pages: it serves one content of the table and of the lengths.
    contents = (block_table._version, lengths._version)
    made_for = (*contents, q.shape, q.dtype, state[0].shape, page, scale, tensor_cores)
    for plan in _plans:
        if plan.table is block_table and plan.lengths is lengths and plan.made_for == made_for:
            return plan.wrapper.run(q[:, 0], state)[:, None]
    wrapper = _plan(q, state[0], block_table, lengths, scale, tensor_cores)
    _plans[:] = [*_plans, Plan(block_table, lengths, made_for, wrapper)][-KEPT:]
    return wrapper.run(q[:, 0], state)[:, None]


@functools.cache
def _workspace(device: torch.device) -> torch.Tensor:
    """What the calls of all plans write in turn, zeros at first: partial results of split sequences."""
    return torch.zeros(WORKSPACE, dtype=torch.uint8, device=device)


def _plan(
    q: torch.Tensor,
    pool: torch.Tensor,
    table: torch.Tensor,
    lengths: torch.Tensor,
    scale: float | None,
    tensor_cores: bool,
) -> Any:
    from flashinfer.decode import BatchDecodeWithPagedKVCacheWrapper  # pyright: ignore[reportMissingImports]

    page, heads = pool.shape[1:3]
    counts = (lengths + page - 1) // page
    starts = torch.zeros(len(lengths) + 1, dtype=torch.int32, device=lengths.device)
    starts[1:] = counts.cumsum(0)
    used = known_rows(counts, table.shape[1])
    last = lengths - (counts - 1) * page
    wrapper = BatchDecodeWithPagedKVCacheWrapper(_workspace(q.device), "NHD", use_tensor_cores=tensor_cores)
    wrapper.plan(
        starts,
        table[used],
        last.int(),
        q.shape[2],
        heads,
        q.shape[3],
        page,
        q_data_type=q.dtype,
        sm_scale=scale,
    )
    return wrapper
