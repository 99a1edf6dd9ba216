"""Another revision's files in a folder of their own, without touching the working tree."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suite import git
from suite.discovery import ROOT


def commit_of(revision: str, root: Path = ROOT) -> str:
    """The full commit of a revision; UsageError when there is none of that name."""
    return git.commit_of(revision, root)


@contextmanager
def files_of(revision: str, root: Path = ROOT) -> Iterator[Path]:
    """A folder with the files of a revision, removed at the end. UsageError when there is no such revision."""
    with tempfile.TemporaryDirectory(prefix="subquad-") as folder:
        git.export(revision, root, Path(folder))
        yield Path(folder).resolve()


def in_base(path: str, root: Path, base: Path) -> str | None:
    """A plug-in as the base has it: one inside this tree comes from the base too, and is left out where it is new."""
    place = Path(path).resolve()
    if not place.is_relative_to(root):
        return str(place)
    earlier = base / place.relative_to(root)
    return str(earlier) if earlier.is_file() else None
