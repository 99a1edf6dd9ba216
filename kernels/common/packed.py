"""Packed sequences: several sequences in one row of tokens, their boundaries in cu_seqlens."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch

from suite.errors import UsageError


def packing(cu_seqlens: torch.Tensor | None, cu_seqlens_cpu: torch.Tensor | None, B: int, T: int) -> tuple[int, int]:
    """Sequences and tokens of the longest, from the CPU's copy: reading the device's would wait for the device.

    Raises UsageError where that copy is missing or B is not 1.
    """
    if cu_seqlens is None:
        return B, T
    if cu_seqlens_cpu is None and cu_seqlens.device.type == "cpu":
        cu_seqlens_cpu = cu_seqlens
    if cu_seqlens_cpu is None:
        raise UsageError("cu_seqlens came without its copy on the CPU; pass cu_seqlens_cpu too")
    if B != 1:
        raise UsageError(f"cu_seqlens came with B = {B}; pack all sequences into one row")
    return cu_seqlens.numel() - 1, int(cu_seqlens_cpu.diff().max())


def spans(T: int, cu_seqlens: torch.Tensor | None) -> list[tuple[int, int]]:
    """(first, end) of each sequence: all of T when cu_seqlens is None. cu_seqlens is read on the CPU."""
    if cu_seqlens is None:
        return [(0, T)]
    ends = cu_seqlens.tolist()
    return list(pairwise(ends))


def per_sequence(oracle, *tokens, cu_seqlens, initial_state=None, output_final_state=False,
                 **options) -> tuple[torch.Tensor, Any]:  # fmt: skip
    """Run a one-sequence oracle on each packed sequence (B = 1) and join outputs and states along their first axes.

    tokens: q, k, v and gates, each [1, T, ...]; a state is a tensor or a tuple of tensors whose first dimension counts
    the sequences.
    """
    outputs, states = [], []
    for n, (first, end) in enumerate(spans(tokens[0].shape[1], cu_seqlens)):
        part = [x[:, first:end] for x in tokens]
        state = _each(lambda x, n=n: x[n : n + 1], initial_state)
        o, final = oracle(*part, initial_state=state, output_final_state=output_final_state, **options)
        outputs.append(o)
        states.append(final)
    if not output_final_state:
        return torch.cat(outputs, dim=1), None
    if isinstance(states[0], tuple):
        return torch.cat(outputs, dim=1), tuple(torch.cat(parts) for parts in zip(*states, strict=True))
    return torch.cat(outputs, dim=1), torch.cat(states)


def _each(fn, state):
    if state is None:
        return None
    return tuple(fn(x) for x in state) if isinstance(state, tuple) else fn(state)
