"""Counts of issued traffic that were taken before, by everything that may change them.

The interpreter has no cache of its own. A count depends on the sources of all kernels and adapters, on the libraries
and on the case, so its key is a hash over those.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from suite.cachefolder import cache_folder, kept
from suite.cachefolder import keep as keep_text
from suite.discovery import PACKAGES, ROOT
from suite.static.model import Issued
from suite.static.tasks import Task


def keys_of(tasks: Sequence[Task], load: Sequence[str]) -> list[str]:
    """The keys under which the issued traffic of tasks is kept."""
    roots = [task.root or str(ROOT) for task in tasks]
    sources = {root: _sources(root, load) for root in set(roots)}
    parts = [(task.case.case_id, task.arch, task.gpu, sources[root]) for task, root in zip(tasks, roots, strict=True)]
    return [hashlib.sha256("\n".join(each).encode()).hexdigest() for each in parts]


def recall(key: str) -> Issued | None:
    """A count taken before, or None."""
    text = kept(_path(key))
    if text is None:
        return None
    values = json.loads(text)
    return Issued(**{**values, "kernels": tuple(values["kernels"])})


def keep(key: str, issued: Issued) -> None:
    """Keep a count."""
    keep_text(_path(key), json.dumps(asdict(issued)))


def _sources(root: str, load: Sequence[str]) -> str:
    from suite.environment import library_versions

    files = [path for name in PACKAGES for path in sorted((Path(root) / name).rglob("*.py"))]
    found = hashlib.sha256(json.dumps(library_versions()).encode())
    for path in [*files, *map(Path, load), *sorted(Path(__file__).parent.glob("*.py"))]:
        found.update(path.read_bytes())
    return found.hexdigest()


def _path(key: str) -> Path:
    return cache_folder() / "static" / "issued" / f"{key}.json"
