"""Packed sequences: several sequences in one row of tokens, their boundaries in cu_seqlens."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch


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
