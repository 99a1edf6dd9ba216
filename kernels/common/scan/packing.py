"""Checks that the scans' host code shares."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from kernels.common.scan.plan import Span
from suite.errors import UsageError


def span_of_call(x: torch.Tensor, cu_seqlens, cu_seqlens_cpu) -> Span:
    """The span of a call on x [B, T, …]. Boundaries come from the CPU's copy: the device's would have to be awaited.

    Raises UsageError where that copy is missing or B is not 1.
    """
    B, T = x.shape[:2]
    if cu_seqlens is None:
        return Span(B, T, B * T, packed=False)
    if cu_seqlens_cpu is None and cu_seqlens.device.type == "cpu":
        cu_seqlens_cpu = cu_seqlens
    if cu_seqlens_cpu is None:
        raise UsageError("cu_seqlens came without its copy on the CPU; pass cu_seqlens_cpu too")
    if B != 1:
        raise UsageError(f"cu_seqlens came with B = {B}; pack all sequences into one row")
    return Span(cu_seqlens.numel() - 1, int(cu_seqlens_cpu.diff().max()), T, packed=True)


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
