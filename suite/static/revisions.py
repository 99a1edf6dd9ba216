"""Another revision's files in a folder of their own, without touching the working tree."""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from suite.discovery import ROOT
from suite.errors import UsageError


def commit_of(revision: str, root: Path = ROOT) -> str:
    """The full commit of a revision; UsageError when there is none of that name."""
    done = _git(root, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    if done.returncode:
        raise UsageError(f"no revision '{revision}' in {root}; name a commit, branch or tag of this repository")
    return done.stdout.decode().strip()


@contextmanager
def files_of(revision: str, root: Path = ROOT) -> Iterator[Path]:
    """A folder with the files of a revision, removed at the end. UsageError when there is no such revision."""
    commit = commit_of(revision, root)
    done = _git(root, "archive", "--format=tar", commit)
    if done.returncode:
        raise UsageError(f"git can not archive {revision}: {done.stderr.decode(errors='replace').strip()}")
    with tempfile.TemporaryDirectory(prefix="subquad-") as folder:
        with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        yield Path(folder).resolve()


def _git(root: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    try:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True)
    except FileNotFoundError as error:
        raise UsageError("git is not installed, and another revision is read with it") from error
