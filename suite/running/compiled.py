"""One Triton cache folder per run, so that "cold" and "warm" in a record refer to this run.

On a GPU the folder is filled before the first case (suite/static/ahead.py), or before the run by `subquad compile`.
It stands in the cache folder under the run's path: `--resume` finds what was compiled before. A run that is complete
needs it no more. A TRITON_CACHE_DIR that the user set is taken instead, and left alone.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from suite.cachefolder import cache_folder, writing

VARIABLE = "TRITON_CACHE_DIR"


@dataclass
class CompileCache:
    """variables: for workers; keep: whether the folder outlives the block."""

    variables: dict[str, str] = field(default_factory=dict)
    keep: bool = True


@contextmanager
def compile_cache(run: Path) -> Iterator[CompileCache]:
    """The compile cache of a run folder; it is removed at the end unless `keep` is set or something was raised."""
    folder = folder_of(run)
    if not folder:
        yield CompileCache()
        return
    with writing(Path(folder)):
        Path(folder).mkdir(parents=True, exist_ok=True)
    cache = CompileCache({VARIABLE: folder})
    yield cache
    if not cache.keep:
        shutil.rmtree(folder, ignore_errors=True)


def folder_of(run: Path) -> str:
    """The compile cache of a run, stored or yet to be made; "" where the user set one for all runs."""
    if os.environ.get(VARIABLE):
        return ""
    name = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
    return str(cache_folder() / "triton" / name)
