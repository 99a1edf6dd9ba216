"""Tables of tiles: what every family's `tiles.py` looks up in its own data, and what a compiler's fault forbids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import suite
from suite.tuning import Config

Entry = TypeVar("Entry")
# (height, work, kernel, or "" for all others)
Key = tuple[int, str, str]
# The least height that tables have.
LEAST = 64
# Tile classes for which Triton miscompiles a loop of two stages or more, if a product in it reads the sum that another
# one carries to the next iteration (triton-lang/triton#10993), or if two products add to one such sum (#10821).
ONE_STAGE = {100}


def newest(tables: Mapping[int, Entry], capability: int) -> Entry:
    """The table of the newest known architecture that is not newer than the device; of an older device, the oldest."""
    return tables[max((each for each in tables if each <= capability), default=min(tables))]


def row(tables: Mapping[int, Mapping[Key, Entry]], capability: int, height: int, work: str, kernel: str) -> Entry:
    """The row of a height and kind of work: the kernel's, else the common one. Heights: powers of 2 from LEAST on."""
    rows, height = newest(tables, capability), max(LEAST, height)
    return rows.get((height, work, kernel)) or rows[height, work, ""]


def stages_of(stages: int, *, carries: bool) -> int:
    """Stages of a loop's load pipeline on `suite.target()`: as many as wanted, or 1 where more would be miscompiled.

    carries: whether the loop carries a product's sum that its other products read, as a sweep carries its state
    """
    return 1 if carries and suite.target().tile_class in ONE_STAGE else stages


def distinct(configs: Iterable[Config], *, carries: bool) -> list[Config]:
    """Configs for tuning with the stages that a launch would have, each once, in their order."""
    found: list[Config] = []
    for config in configs:
        own = {**config, "stages": stages_of(config["stages"], carries=carries)}
        if own not in found:
            found.append(own)
    return found
