"""Files of configs chosen by predicted time: kernels/tiles/<arch>-triton-<version>.json, and baselines/tiles/ of peers.

Light: host code of kernels reads them. What the file of a compiler lacks, or the compiler has none, comes from that of
the newest older one.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from suite.errors import StoreError
from suite.tuning.tables import replace_text

SCHEMA = 1
FOLDER, PEERS = Path("kernels") / "tiles", Path("baselines") / "tiles"
Version = tuple[int, int]


@dataclass(frozen=True)
class Chosen:
    """The config of one key.

    config: the one with the least predicted time; empty where the family's own is kept
    us:     predicted time of each case that was looked at with it, in microseconds, by case_id; of a peer's kernel that
            of the launch
    own_us: the same with the family's own config, or the first one of a peer's list
    tried:  how many configs were predicted
    """

    config: dict[str, int]
    us: dict[str, float]
    own_us: dict[str, float]
    tried: int


@dataclass
class ChosenTable:
    """The configs of an architecture under one compiler; gpu: that for which they were predicted."""

    arch: str
    gpu: str
    triton: str
    entries: dict[str, Chosen] = field(default_factory=dict)


def path_for(root: Path, arch: str, triton: str, folder: Path = FOLDER) -> Path:
    """Where the table of a compiler lies: "3.6.0" of sm_90 -> kernels/tiles/sm_90-triton-3.6.json."""
    return root / folder / f"{arch}-triton-{'.'.join(map(str, _version(triton)))}.json"


def tables_for(root: Path, arch: str, folder: Path = FOLDER) -> list[Path]:
    """The files that the installed Triton takes its configs from, the first one that has a key first.

    Its own, then those of older compilers, the newest first; those of newer ones last.
    """
    if not (installed := installed_triton()):
        return []
    found = {_of_file(path): path for path in (root / folder).glob(f"{arch}-triton-*.json")}
    older = [each for each in found if each <= _version(installed)]
    newer = [each for each in found if each > _version(installed)]
    return [found[each] for each in (*sorted(older, reverse=True), *sorted(newer))]


def is_own(path: Path) -> bool:
    """Whether a table is that of the installed Triton."""
    return _of_file(path) == _version(installed_triton())


@cache
def installed_triton() -> str:
    """The version of the installed Triton, "" without one."""
    try:
        return importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        return ""


def read_chosen(path: Path) -> ChosenTable | None:
    """The table in a file, or None where there is no file. StoreError where it is damaged or newer."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); restore it, or delete it and run `make tiles`") from error
    try:
        if found["schema"] != SCHEMA:
            raise StoreError(f"{path} has schema {found['schema']}, this suite reads {SCHEMA}; run `make tiles`")
        entries = {key: Chosen(**entry) for key, entry in found["entries"].items()}
        return ChosenTable(found["arch"], found["gpu"], found["triton"], entries)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} is not a table of chosen configs ({error}); delete it and run `make tiles`"
        ) from error


def write_chosen(path: Path, table: ChosenTable) -> None:
    """Replace the file in one step, keys sorted so that a diff shows what changed."""
    entries: Mapping[str, Any] = {key: asdict(table.entries[key]) for key in sorted(table.entries)}
    found = {"schema": SCHEMA, "arch": table.arch, "gpu": table.gpu, "triton": table.triton, "entries": entries}
    replace_text(path, json.dumps(found, indent=1) + "\n")


def _of_file(path: Path) -> Version:
    return _version(path.stem.rpartition("-")[2])


def _version(text: str) -> Version:
    """Major and minor version: (3, 6) for "3.6.0+git1"."""
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)
