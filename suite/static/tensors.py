"""Tensors among the arguments of a launch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch


def tensors_in(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Tensors among a launch's arguments, those of tuples and of tensor descriptors too."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, tuple | list):
            yield from tensors_in(value)
        elif isinstance(base := getattr(value, "base", None), torch.Tensor):
            yield base
