"""One Triton cache folder per run, so that "cold" and "warm" in a record refer to this run.

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
    if os.environ.get(VARIABLE):
        yield CompileCache()
        return
    name = hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
    folder = cache_folder() / "triton" / name
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    cache = CompileCache({VARIABLE: str(folder)})
    yield cache
    if not cache.keep:
        shutil.rmtree(folder, ignore_errors=True)
