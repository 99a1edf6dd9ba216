"""Files of tuned configs, one per GPU: kernels/tuned/<gpu>.json. Light: host code of kernels reads them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from suite.errors import StoreError

SCHEMA = 2
# The schemas that are read, and what fields of theirs are called now: a base revision comes with tables of its own.
FORMER: dict[int, dict[str, str]] = {1: {"launch": "config"}, SCHEMA: {}}
FOLDER = Path("kernels") / "tuned"


@dataclass(frozen=True)
class Tuned:
    """What tuning one kernel at one key found.

    config:      the fastest candidate that was right
    ms:          its time; default_ms: that of the table's config
    runner_up:   the second fastest, and its time; None when only one candidate was right
    tried:       candidates timed; refused: what the others ended with, by status
    case_id:     the case it was timed in, by `timer`; commit and versions of the code it holds for
    """

    config: dict[str, int]
    ms: float
    default_ms: float | None
    runner_up: dict[str, int] | None = None
    runner_up_ms: float | None = None
    tried: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    case_id: str = ""
    timer: str = ""
    commit: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass
class Table:
    """All tuned configs of one GPU."""

    gpu: str
    arch: str
    entries: dict[str, Tuned] = field(default_factory=dict)


def path_of(root: Path, gpu: str) -> Path:
    """Where the table of a GPU lies: "NVIDIA H200" -> kernels/tuned/nvidia-h200.json."""
    return root / FOLDER / f"{re.sub(r'[^a-z0-9]+', '-', gpu.lower()).strip('-') or 'unnamed'}.json"


def read_table(path: Path) -> Table | None:
    """The table in a file, or None where there is no file. StoreError when it is damaged or newer."""
    try:
        found = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}); restore it, or delete it and tune again") from error
    try:
        former = FORMER.get(found["schema"])
        if former is None:
            raise StoreError(f"{path} has schema {found['schema']}, this suite reads {SCHEMA}; tune again")
        entries = {
            key: Tuned(**{str(former.get(name, name)): value for name, value in entry.items()})
            for key, entry in found["entries"].items()
        }
        return Table(found["gpu"], found["arch"], entries)
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} is not a table of tuned configs ({error}); delete it and run `subquad tune`"
        ) from error


def write_table(path: Path, table: Table) -> None:
    """Replace the file in one step, keys sorted so that a diff shows what tuning changed."""
    entries: Mapping[str, Any] = {key: asdict(table.entries[key]) for key in sorted(table.entries)}
    text = json.dumps({"schema": SCHEMA, "gpu": table.gpu, "arch": table.arch, "entries": entries}, indent=1)
    replace_text(path, text + "\n")


def replace_text(path: Path, text: str) -> None:
    """Write a table's file in one step. StoreError where the folder does not take it."""
    beside = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}; name another place with --out") from error
