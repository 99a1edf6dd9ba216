"""Checks that the scans' host code shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kernels.common.packed import packing
from kernels.common.scan.plan import Span
from suite.errors import UsageError


def span_of_call(x: torch.Tensor, cu_seqlens, cu_seqlens_cpu) -> Span:
    """The span of a call on x [B, T, …]. Boundaries come from the CPU's copy: the device's would have to be awaited.

    Raises UsageError on boundaries that can not be served.
    """
    sequences, longest, some_empty = packing(cu_seqlens, cu_seqlens_cpu, x)
    return Span(sequences, longest, x.shape[0] * x.shape[1], cu_seqlens is not None, some_empty)


def check_shape(name: str, x: torch.Tensor | None, expected: Sequence[int], dtype: torch.dtype | None = None) -> None:
    """UsageError unless x is None or has the expected shape (and dtype, where given)."""
    if x is None:
        return
    if tuple(x.shape) != tuple(expected):
        raise UsageError(f"{name} is {tuple(x.shape)}; it has to be {tuple(expected)}")
    if dtype is not None and x.dtype != dtype:
        raise UsageError(f"{name} is {x.dtype}; it has to be {dtype}, as the others are")


def check_in_place(name: str, x: torch.Tensor, expected: Sequence[int]) -> None:
    """UsageError unless x has the expected shape and is contiguous, as what is updated in place must be."""
    check_shape(name, x, expected)
    if not x.is_contiguous():
        raise UsageError(f"{name} is not contiguous; it is updated in place, so pass a contiguous tensor")
