"""Areas: the memory of each tensor argument, and of which of them a pointer was made.

A pointer keeps the areas that it came from in its handle's attributes, through arithmetic and changes of shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

AREAS = "sanitizer.areas"
# Tensors that do not exist lie from here on, so far apart that no wrong offset of 32 bits leads from one to another.
FIRST_ADDRESS, APART = 1 << 44, 1 << 36


@dataclass(frozen=True, eq=False)
class Area:
    """Memory of one tensor argument.

    first, end: addresses of its first element and behind its last
    item:    bytes of an element
    shape:   of the tensor
    storage: address and bytes of what it is a view of; 0 bytes where it does not exist
    gaps:    for each element from the first to the last, whether the tensor has it; None: it has all
    """

    name: str
    first: int
    end: int
    item: int
    shape: tuple[int, ...]
    storage: tuple[int, int]
    gaps: np.ndarray | None = None

    @property
    def exists(self) -> bool:
        """Whether there is memory at its addresses."""
        return self.storage[1] > 0

    def has(self, addresses: np.ndarray, size: int) -> np.ndarray:
        """Of each address, whether so many bytes from there on lie inside."""
        inside = (addresses >= np.uint64(self.first)) & (addresses + np.uint64(size) <= np.uint64(self.end))
        if self.gaps is not None and inside.any():
            at = (addresses[inside].astype(np.int64) - self.first) // self.item
            inside[inside] = self.gaps[at]
        return inside

    def distance(self, address: int) -> int:
        """Bytes from the area to an address outside of it."""
        return max(self.first - address, address - self.end, 0)

    def offsets(self, addresses: np.ndarray) -> np.ndarray:
        """Offsets in elements from the tensor's first one; negative before it."""
        return (addresses.astype(np.int64) - self.first) // self.item


def area_of(name: str, x: torch.Tensor, address: int | None = None) -> Area:
    """The area of a tensor. address: where its storage is said to lie, when it does not exist."""
    item = x.element_size()
    reach = sum((size - 1) * stride for size, stride in zip(x.shape, x.stride(), strict=True)) + 1 if x.numel() else 0
    if address is not None:
        first = address + int(x.storage_offset()) * item
        return Area(name, first, first + reach * item, item, tuple(x.shape), (address, 0))
    gaps = None
    if x.numel() and reach != x.numel():
        gaps = np.zeros(reach, dtype=bool)
        steps = tuple(stride * gaps.itemsize for stride in x.stride())
        np.lib.stride_tricks.as_strided(gaps, tuple(x.shape), steps)[...] = True
    storage = x.untyped_storage()
    place = (storage.data_ptr(), storage.nbytes())
    return Area(name, x.data_ptr(), x.data_ptr() + reach * item, item, tuple(x.shape), place, gaps)


def areas_of(handle: Any) -> tuple[Area, ...]:
    """The areas that a handle's pointers came from; empty when none is known."""
    return getattr(handle, "attr", {}).get(AREAS, ())


def joined(handles: list[Any]) -> tuple[Area, ...]:
    """The areas of several handles, each once."""
    return tuple(dict.fromkeys(area for handle in handles for area in areas_of(handle)))
