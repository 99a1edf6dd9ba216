"""The allocation tracker: memory that host code allocates, and what its eager PyTorch operations read and write.

A dispatch mode sees every operation on meta tensors. Storages are known by the order of their first sight, so that a
tensor that a later launch reads again is recognised, and a freed one is not kept alive by being watched.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

# Operations that move no data: they allocate, or relabel memory.
_SILENT = {"empty", "empty_like", "empty_strided", "empty_permuted", "new_empty", "new_empty_strided", "set_", "detach"}
# Operations that write their result without reading what was there.
_FILLING = {
    "zero_",
    "fill_",
    "zeros",
    "ones",
    "full",
    "zeros_like",
    "ones_like",
    "full_like",
    "new_zeros",
    "new_full",
    "new_ones",
    "arange",
}
DEVICE = "meta"


def extent(tensor: torch.Tensor) -> int:
    """Bytes of a tensor's distinct elements: a dimension of stride 0 counts once."""
    elements = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= size if stride or not size else 1
    return elements * tensor.element_size()


def distinct(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    """The tensors that name different memory: one that is given twice is kept once."""
    found: dict[tuple[Any, ...], torch.Tensor] = {}
    for x in tensors:
        key = (x.untyped_storage()._cdata, x.storage_offset(), tuple(x.shape), x.stride())
        found.setdefault(key, x)
    return list(found.values())


@dataclass
class Count:
    """A running count of bytes; `peak` is the highest `live`."""

    total: int = 0
    live: int = 0
    peak: int = 0

    def add(self, size: int) -> None:
        self.total += size
        self.live += size
        self.peak = max(self.peak, self.live)

    def remove(self, size: int) -> None:
        self.live -= size


class AllocationTracker(TorchDispatchMode):
    """Counts allocations, eager traffic, and which storages each step touches.

    touches: one entry a launch or eager operation: {storage number: bytes}
    outside: numbers of the storages that existed before the call
    """

    def __init__(self) -> None:
        super().__init__()
        self.memory = Count()
        self.eager_bytes = 0
        self.eager_ops = 0
        self.touches: list[dict[int, int]] = []
        self.sizes: dict[int, int] = {}
        self.outside: set[int] = set()
        self._numbers: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def touch(self, tensors: Iterable[torch.Tensor]) -> int:
        """Note one step over these tensors; returns the bytes of the distinct ones."""
        entry = self.touched(tensors)
        self.touches.append(entry)
        return sum(entry.values())

    def touched(self, tensors: Iterable[torch.Tensor]) -> dict[int, int]:
        """Bytes of the distinct ones of these tensors, by the number of their storage."""
        entry: dict[int, int] = {}
        for x in distinct(tensors):
            number = self.number(x)
            entry[number] = min(entry.get(number, 0) + extent(x), self.sizes[number])
        return entry

    def number(self, tensor: torch.Tensor, allocated: bool = False) -> int:
        """The number of a tensor's storage; one not seen before came from outside, unless it was just allocated."""
        storage = tensor.untyped_storage()
        if storage in self._numbers:
            return self._numbers[storage]
        number = self._numbers[storage] = len(self.sizes)
        self.sizes[number] = storage.nbytes()
        if allocated:
            self.memory.add(storage.nbytes())
            weakref.finalize(storage, self.memory.remove, storage.nbytes())
        else:
            self.outside.add(number)
        return number

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = list(_on_device((args, kwargs)))
        for x in given:
            self.number(x)
        out = func(*args, **kwargs)
        made = list(_on_device(out))
        for x in made:
            self.number(x, allocated=True)
        if made or given:
            self._eager(func, args, kwargs, made)
        return out

    def _eager(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], made: list[torch.Tensor]) -> None:
        name = func._schema.name.partition("::")[2]
        if name in _SILENT or _is_view(func):
            return
        written = _mutated(func, args, kwargs) or made
        read = [] if name in _FILLING else list(_on_device((args, kwargs)))
        if name == "copy_" or any(argument.is_out for argument in func._schema.arguments):
            read = [x for x in read if not any(x is each for each in written)]
        # The entry takes reads and writes of one storage together; the count of bytes takes both.
        self.touch([*read, *written])
        self.eager_bytes += sum(map(extent, distinct(read))) + sum(map(extent, distinct(written)))
        self.eager_ops += 1


def _on_device(tree: Any) -> Iterator[torch.Tensor]:
    return (x for x in tree_leaves(tree) if isinstance(x, torch.Tensor) and x.device.type == DEVICE)


def _is_view(func: Any) -> bool:
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


def _mutated(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[torch.Tensor]:
    """The arguments that the operation writes in place."""
    named = {a.name: value for a, value in zip(func._schema.arguments, args, strict=False)} | kwargs
    writes = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return list(_on_device([named.get(name) for name in writes]))
