"""Caches as plain PyTorch needs them: one padded tensor, and which of its rows each query sees."""

from __future__ import annotations

import torch

State = tuple[torch.Tensor, torch.Tensor]


def gathered(pool: torch.Tensor, table: torch.Tensor, known: torch.Tensor | None) -> torch.Tensor:
    """A pool's pages [pages, page, heads, D] in the order of a table [B, P] -> [B, P page, heads, D], a copy.

    Rows that are not `known` [B, P page] become 0: what lies there means nothing, and may be NaN.
    """
    rows = pool[table.long()].flatten(1, 2)
    return rows if known is None else rows.masked_fill_(~known[:, :, None, None], 0.0)


def known_rows(lengths: torch.Tensor | None, rows: int) -> torch.Tensor | None:
    """Which rows of each sequence hold tokens [B, rows]; None where all do."""
    if lengths is None:
        return None
    return torch.arange(rows, device=lengths.device) < lengths[:, None]


def visible(lengths: torch.Tensor | None, queries: int, rows: int, device: torch.device) -> torch.Tensor | None:
    """Which rows each query sees [B or 1, queries, rows]: query i those before L - Q + 1 + i. None: all see all."""
    if lengths is None and queries == 1:
        return None
    ends = torch.tensor([rows], device=device) if lengths is None else lengths
    ends = ends[:, None] - queries + 1 + torch.arange(queries, device=device)
    return torch.arange(rows, device=device) < ends[:, :, None]
