"""The cache folder: measured ceilings, the A/A history, static profiles and compile caches, and how files get into it.

$SUBQUAD_CACHE, or ~/.cache/subquad, or a folder under the temporary directory where there is no home to write in.
"""

from __future__ import annotations

import getpass
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from suite.errors import CacheError, UsageError

VARIABLE = "SUBQUAD_CACHE"


def cache_folder() -> Path:
    """The folder, absolute; it may not be there yet. UsageError when $SUBQUAD_CACHE can be no folder."""
    named = os.environ.get(VARIABLE)
    if not named:
        return _default(os.environ.get("HOME"))
    try:
        folder = Path(named).expanduser().absolute()
    except RuntimeError as error:
        raise UsageError(f"{VARIABLE}={named}: this home folder does not exist; name another folder") from error
    with writing(folder):
        for path in (folder, *folder.parents):
            if path.exists():
                if not path.is_dir():
                    raise UsageError(f"{VARIABLE}={named}: {path} is a file; name a folder")
                break
    return folder


def keep(path: Path, text: str) -> None:
    """Write a file of the cache folder whole or not at all. CacheError when it cannot be written."""
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{os.getpid()}")
        try:
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        except OSError:
            part.unlink(missing_ok=True)
            raise


def kept(path: Path) -> str | None:
    """The text of a file of the cache folder, None where there is none. CacheError when it cannot be read."""
    with writing(path):
        return path.read_text(encoding="utf-8") if path.is_file() else None


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the disk refuses inside becomes a CacheError with the remedy."""
    try:
        yield
    except OSError as error:
        raise CacheError(
            f"cannot use {path} of the cache folder: {error.strerror}; set {VARIABLE} to a folder that can be written "
            "and has room"
        ) from error


def variables() -> dict[str, str]:
    """What a worker's environment says of caches: the same folder, and in it what Triton and PyTorch would put in the
    home that is not there, or under a user name that nobody knows.
    """
    folder = cache_folder()
    found = {VARIABLE: str(folder)}
    if not _usable(_home(os.environ.get("HOME"))):
        found |= {"TRITON_HOME": str(folder)}
    if not _usable(_home(os.environ.get("HOME"))) or not _has_user_name():
        found |= {"TORCHINDUCTOR_CACHE_DIR": str(folder / "inductor")}
    return {name: value for name, value in found.items() if name == VARIABLE or not os.environ.get(name)}


@cache
def _default(home: str | None) -> Path:
    """The folder without the variable, for a value of $HOME."""
    usual = _home(home)
    if _usable(usual):
        assert usual is not None
        return usual / ".cache" / "subquad"
    folder = Path(tempfile.gettempdir()) / f"subquad-{os.getuid()}"
    with writing(folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.is_symlink() or folder.stat().st_uid != os.getuid():
            raise UsageError(f"{folder} is another user's; set {VARIABLE} to a folder that can be written")
    why = "there is no home folder" if usual is None else f"{usual} cannot be written"
    print(f"note: {why}: caches are in {folder}; set {VARIABLE} to choose another folder", file=sys.stderr)
    return folder


def _home(home: str | None) -> Path | None:
    """The home folder; None where neither $HOME nor the user database knows one."""
    if home:
        return Path(home)
    try:
        return Path.home() if home is None else None
    except RuntimeError:
        return None


def _usable(home: Path | None) -> bool:
    """Whether the usual folder in a home can be written, or be made."""
    if home is None or not home.is_absolute():
        return False
    folder = home / ".cache" / "subquad"
    try:
        first = next(path for path in (folder, *folder.parents) if path.exists())
        # A home that is not there is not made: a service's user often has /nonexistent.
        return first.is_dir() and os.access(first, os.W_OK | os.X_OK) and home.exists()
    except OSError:
        return False


def _has_user_name() -> bool:
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError, ImportError):
        return False
