"""The files of a run, and the error if a path is not a run."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from suite.errors import StoreError

RECORDS = "records.jsonl"
ENVIRONMENT = "environment.json"
LOCK = ".lock"
PLAN = "plan.json"
AnyPath = str | PathLike[str]


def run_folder(run: AnyPath) -> Path:
    """The path as that of an existing run; StoreError says what is there instead and what to do."""
    path = Path(run)
    try:
        if path.is_dir():
            return _complete(path)
        if path.exists():
            raise StoreError(f"{path} is a file, not a run; give the folder that holds {RECORDS}")
    except OSError as error:
        raise StoreError(f"{path} cannot be looked at: {_why(error)}") from error
    raise StoreError(f"no run at {path}; `subquad bench --out {path}` writes one")


def _complete(path: Path) -> Path:
    lacking = [name for name in (ENVIRONMENT, RECORDS) if not (path / name).is_file()]
    if len(lacking) == 2:
        raise StoreError(f"{path} is not a run: it has no {RECORDS}; `subquad bench --out {path}` writes one")
    if lacking:
        raise StoreError(f"{path} is an incomplete run: it has no {lacking[0]}; restore it, or measure again")
    return path


def unreadable(path: Path, error: OSError) -> StoreError:
    """The error for a file that cannot be read."""
    return StoreError(f"cannot read {path}: {_why(error)}; check its permissions")


def unwritable(path: Path, error: OSError) -> StoreError:
    """The error for a file or folder that cannot be written."""
    return StoreError(f"cannot write {path}: {_why(error)}; choose another place with --out")


def _why(error: OSError) -> str:
    return error.strerror or str(error)
