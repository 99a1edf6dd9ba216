"""Checks that the scans' host code shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kernels.common.arguments import check_given, check_states
from kernels.common.packed import packing
from kernels.scan.plan import Span
from suite.errors import UsageError


def span_of_call(x: torch.Tensor, cu_seqlens, cu_seqlens_cpu) -> Span:
    """The span of a call on x [B, T, …]. Boundaries are read on the CPU: a device's would wait.

    Raises UsageError on boundaries that cannot be served.
    """
    sequences, longest, some_empty = packing(cu_seqlens, cu_seqlens_cpu, x)
    return Span(sequences, longest, x.shape[0] * x.shape[1], cu_seqlens is not None, some_empty)


def check_start(name: str, state: torch.Tensor | None, expected: Sequence[int], like: torch.Tensor) -> None:
    """UsageError unless a state is None or has the expected shape, lies beside `like`, and its dtype is served."""
    check_states(like, {name: state})
    if state is not None and tuple(state.shape) != tuple(expected):
        raise UsageError(f"{name} is {tuple(state.shape)}; it must be {tuple(expected)}")


def check_in_place(name: str, x: torch.Tensor, expected: Sequence[int], like: torch.Tensor) -> None:
    """The same of a state that is updated in place: it must be contiguous."""
    check_given(**{name: x})
    check_start(name, x, expected, like)
    if not x.is_contiguous():
        raise UsageError(f"{name} is not contiguous; it is updated in place, so pass a contiguous tensor")
