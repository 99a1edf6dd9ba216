"""git: the commit of a checkout, or the reason why it has none, in one line with the remedy.

Example::

    head_of(ROOT)   # Head(commit='1612383…-dirty', why='')
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import NamedTuple

from suite.errors import UsageError

# A status of a large checkout on a network disk takes seconds.
TIMEOUT_S = 60.0


class Head(NamedTuple):
    """commit: what is checked out, with `-dirty` when files differ from it; empty where `why` says why not."""

    commit: str
    why: str


class GitError(Exception):
    """git cannot answer; the message says why, and the remedy."""


def head_of(root: Path) -> Head:
    """The commit of a checkout, or why it is not known."""
    try:
        commit = ask(root, "rev-parse", "--verify", "HEAD^{commit}")
        changed = ask(root, "status", "--porcelain", "--untracked-files=no")
    except GitError as error:
        return Head("", str(error))
    return Head(commit + ("-dirty" if changed else ""), "")


def commit_of(revision: str, root: Path) -> str:
    """The full commit of a revision. UsageError when there is none of that name, or git cannot say."""
    try:
        ask(root, "rev-parse", "--git-dir")
        try:
            return ask(root, "rev-parse", "--verify", f"{revision}^{{commit}}")
        except GitError:
            raise UsageError(_unknown(revision, root)) from None
    except GitError as error:
        raise UsageError(f"revision '{revision}' is read with git: {error}") from error


def export(revision: str, root: Path, folder: Path) -> None:
    """Write the files of a revision into a folder, leaving working tree and index alone. UsageError when git can't.

    Where root is a folder inside a repository, what is written is that folder.
    """
    commit = commit_of(revision, root)
    index = {"GIT_INDEX_FILE": str(folder / ".subquad-index")}
    try:
        top, part = ask(root, "rev-parse", "--show-toplevel"), ask(root, "rev-parse", "--show-prefix")
        ask(Path(top), "read-tree", f"{commit}:{part}", **index)
        ask(Path(top), "checkout-index", "--all", f"--prefix={folder}/", **index)
    except GitError as error:
        raise UsageError(f"git cannot write the files of {revision}: {error}") from error
    finally:
        Path(index["GIT_INDEX_FILE"]).unlink(missing_ok=True)


def ask(root: Path, *words: str, **variables: str) -> str:
    """What git prints in a folder; GitError when it cannot be run, or refuses."""
    if not root.is_dir():
        raise GitError(f"{root} is not a folder")
    # The reasons are read, so they are in one language.
    environment = {**os.environ, "LC_ALL": "C", "LANGUAGE": "", **variables}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            check=False,
            timeout=TIMEOUT_S,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise GitError("git is not installed; install it") from error
    except OSError as error:
        raise GitError(f"git does not run: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise GitError(f"git {words[0]} did not end within {TIMEOUT_S:.0f} s in {root}") from error
    if done.returncode:
        raise GitError(_reason(root, done.stderr))
    return done.stdout.strip()


def _reason(root: Path, said: str) -> str:
    """Why git refused, and what to do, as one line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    remedy = next((line for line in lines if line.startswith("git config --global --add safe.directory")), "")
    if remedy:
        return f"{root} is owned by another user, and git does not read it; run `{remedy}`"
    if "not a git repository" in said:
        return f"{root} is in no git repository; take a checkout made by `git clone`"
    if "Needed a single revision" in said:
        return f"the repository of {root} has no commit yet; make one by `git commit`"
    return (lines[0] if lines else "git said nothing").removeprefix("fatal: ")


def _unknown(revision: str, root: Path) -> str:
    if ask(root, "rev-parse", "--is-shallow-repository") == "true":
        return (
            f"no revision '{revision}' in {root}, which is a shallow clone: `git fetch --unshallow` brings its "
            "history, in GitHub's checkout action `fetch-depth: 0`"
        )
    if not ask(root, "for-each-ref", "--count=1"):
        return f"no revision '{revision}' in {root}: the repository has no commit yet; make one by `git commit`"
    return f"no revision '{revision}' in {root}; name a commit, branch or tag of this repository"
