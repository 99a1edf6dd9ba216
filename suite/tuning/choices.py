"""Which config a kernel uses: forced, else tuned on this GPU, else chosen by predicted time, else the family's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from suite.targets import target
from suite.tuning.chosen import ChosenTable, read_chosen, tables_for
from suite.tuning.tables import Table, path_of, read_table

Config = Mapping[str, int]

_forced: list[Mapping[str, Config | None]] = []
_root = [Path(__file__).resolve().parent.parent.parent]


def choice(key: str) -> Config | None:
    """The config for a key on `suite.target()`, or None: take the family's own.

    What is forced comes first, then what was tuned on this GPU, then what was chosen by predicted time for its
    architecture and the installed Triton.
    """
    for forced in reversed(_forced):
        if key in forced:
            return forced[key]
    device = target()
    tuned = _tuned(_root[0], device.name) if device.name else None
    if tuned and key in tuned.entries:
        return tuned.entries[key].config
    entry = next((table.entries[key] for table in _chosen(_root[0], device.arch) if key in table.entries), None)
    return (entry.config or None) if entry else None


@contextmanager
def forcing(configs: Mapping[str, Config | None]) -> Iterator[None]:
    """Answer `choice` with these configs inside the block, whatever the tables have; None is the family's own."""
    _forced.append(configs)
    try:
        yield
    finally:
        _forced.pop()


def use_root(root: Path) -> None:
    """Take configs from this checkout: kernels of another revision go with that revision's tables."""
    _root[0] = root


@cache
def _tuned(root: Path, gpu: str) -> Table | None:
    return read_table(path_of(root, gpu))


@cache
def _chosen(root: Path, arch: str) -> list[ChosenTable]:
    return [table for path in tables_for(root, arch) if (table := read_chosen(path))]
