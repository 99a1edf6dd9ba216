"""Which launch configuration a kernel uses: forced while tuning, else tuned for this GPU, else from its own table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from suite.targets import target
from suite.tuning.tables import Table, path_of, read_table

Config = Mapping[str, int]

_forced: list[Mapping[str, Config]] = []
_root = [Path(__file__).resolve().parent.parent.parent]


def choice(key: str) -> Config | None:
    """The config that is forced or was tuned for a key on `suite.target()`, or None: take the table's own."""
    for forced in reversed(_forced):
        if key in forced:
            return forced[key]
    name = target().name
    table = _table(_root[0], name) if name else None
    entry = table.entries.get(key) if table else None
    return entry.config if entry else None


@contextmanager
def forcing(configs: Mapping[str, Config]) -> Iterator[None]:
    """Answer `choice` with these configs inside the block, whatever was tuned."""
    _forced.append(configs)
    try:
        yield
    finally:
        _forced.pop()


def use_root(root: Path) -> None:
    """Take tuned configs from this checkout: kernels of another revision go with that revision's tables."""
    _root[0] = root


@cache
def _table(root: Path, gpu: str) -> Table | None:
    return read_table(path_of(root, gpu))
