"""Paged caches: checks of the pages and lengths of a call.

Values on a GPU are not read: that would wait for the device.
"""

from __future__ import annotations

from typing import Any

import torch

from suite.errors import UsageError


def check_lengths(like: torch.Tensor, lengths: Any, B: int, T: int) -> None:
    """UsageError unless `lengths` is a contiguous int32 [B] beside `like`, each from 0 to T."""
    _check_tensor("lengths", lengths)
    if lengths.shape != (B,) or lengths.dtype != torch.int32:
        raise UsageError(f"lengths are {lengths.dtype} {tuple(lengths.shape)}; pass an int32 for each of {B} sequences")
    if not lengths.is_contiguous():
        raise UsageError("lengths are not contiguous, and kernels read them as they lie; pass lengths.contiguous()")
    if lengths.device.type == "cpu":
        for n, length in enumerate(lengths.tolist()):
            if not 0 <= length <= T:
                raise UsageError(f"lengths[{n}] = {length}; a cache of {T} rows has 0 to {T} tokens")
    _check_place(like, "lengths", lengths)


def check_table(like: torch.Tensor, table: Any, B: int) -> None:
    """UsageError unless `table` is a contiguous int32 [B, at least 1] beside `like`."""
    _check_tensor("block_table", table)
    shaped = table.ndim == 2 and table.shape[0] == B and table.shape[1] > 0
    if not shaped or table.dtype != torch.int32 or not table.is_contiguous():
        raise UsageError(f"block_table is {table.dtype} {tuple(table.shape)}; pass int32 [{B}, pages], contiguous")
    _check_place(like, "block_table", table)


def check_entries(table: torch.Tensor, lengths: torch.Tensor | None, pages: int, page: int) -> None:
    """UsageError if a page in use is not in the pool: a kernel would read beyond the pool.

    lengths: None where every page of the table is in use
    """
    if table.device.type != "cpu":
        return
    used = [table.shape[1] * page] * len(table) if lengths is None else lengths.tolist()
    for n, (row, length) in enumerate(zip(table.tolist(), used, strict=True)):
        for i, entry in enumerate(row[: -(-length // page)]):
            if not 0 <= entry < pages:
                raise UsageError(f"block_table[{n}, {i}] = {entry}; the pool has the pages 0 to {pages - 1}")


def _check_tensor(name: str, x: Any) -> None:
    if not isinstance(x, torch.Tensor) or x.layout != torch.strided:
        raise UsageError(f"{name} is {_kind(x)}; it must be a dense tensor")


def _kind(x: Any) -> str:
    return f"a {x.layout} tensor" if isinstance(x, torch.Tensor) else f"a {type(x).__name__}"


def _check_place(like: torch.Tensor, name: str, x: torch.Tensor) -> None:
    if x.device != like.device:
        raise UsageError(f"{name} is on {x.device}, the others on {like.device}; move it there")
