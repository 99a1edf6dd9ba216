"""The gated delta rule in PyTorch: naive, in chunks, and a decode step. See baselines/delta/pytorch.py."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch

from baselines.delta.pytorch import Result, chunk_flops, chunked, step
from kernels.gated_delta_rule.spec import gated_delta_rule
from suite import Problem
from suite.problem import Value


def _rows(problem: Problem) -> list[int]:
    """Steps of each sequence."""
    bounds = problem.cu_seqlens
    return [problem.T] * problem.B if bounds is None else [end - first for first, end in pairwise(bounds)]


def square_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs with each sequence as one chunk."""
    p = problem
    return chunk_flops(_rows(p), p.HS, p.K, p.V, None, p.pass_)


def tile_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs on full chunks."""
    p = problem
    return chunk_flops(_rows(p), p.HS, p.K, p.V, int(tunables["chunk"]), p.pass_)


@gated_delta_rule.implementation("naive", origin="baseline", flops_exec=square_flops)
def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> Result:
    """Shapes as in the specification; by one T x T solve in float32."""
    return chunked(
        q,
        k,
        v,
        beta,
        log_decay,
        chunk=None,
        l2norm=l2norm,
        scale=scale,
        initial_state=initial_state,
        wide=True,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


@gated_delta_rule.implementation(
    "torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128)}, flops_exec=tile_flops
)
def torch_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    chunk: int = 64,
    l2norm: bool = False,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> Result:
    """Shapes as in the specification; solves for all chunks at once."""
    return chunked(
        q,
        k,
        v,
        beta,
        log_decay,
        chunk=chunk,
        l2norm=l2norm,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


@gated_delta_rule.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    beta: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    state: torch.Tensor,
    l2norm: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """One token -> o [B,1,HV,V]; state [B,HV,K,V] is updated in place."""
    return step(q, k, v, beta, log_decay, state=state, l2norm=l2norm, scale=scale)
