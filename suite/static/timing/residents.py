"""Which memory the L2 cache still holds: a launch's data cross the memory bus unless they were touched shortly before.

The cache is taken as one that drops what was touched longest ago, by whole storages. A call begins with nothing in it,
as the harness flushes the cache between two calls.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

# Of the cache, what the data of a launch finds room in: the rest is taken by what passes through.
SHARE = 0.7


class Residents:
    """The cache's content over the launches of one call."""

    def __init__(self, size: int) -> None:
        self._room = SHARE * size
        self._held: OrderedDict[int, int] = OrderedDict()

    def missing(self, touched: Mapping[int, int]) -> int:
        """Bytes of a launch that cross the memory bus: by storage, what it touches beyond what is held."""
        whole = sum(touched.values())
        held = 0 if whole > self._room else sum(min(self._held.get(each, 0), size) for each, size in touched.items())
        return whole - held

    def touch(self, touched: Mapping[int, int]) -> None:
        """Note that a launch or an eager operation touched these storages."""
        for number, size in touched.items():
            self._held[number] = max(size, self._held.pop(number, 0))
        while sum(self._held.values()) > self._room and len(self._held) > 1:
            self._held.popitem(last=False)
