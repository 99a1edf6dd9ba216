"""The errors a user can meet, each with the exit code that the command line returns for it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum
from typing import TypeVar


class Exit(IntEnum):
    """Exit codes of `gate`, `compare --fail`, `static --base`; `bench`, `check`, `doctor` use PASS and REGRESSION."""

    PASS = 0
    REGRESSION = 1
    USAGE = 2
    INCONCLUSIVE = 3
    INCOMPARABLE = 4


# When several hold, the first of these is returned.
PRECEDENCE = (Exit.USAGE, Exit.INCOMPARABLE, Exit.REGRESSION, Exit.INCONCLUSIVE, Exit.PASS)


# How many known names an error lists.
LISTED = 12


class SubquadError(Exception):
    """Something the user can mend: the message is one line that names the thing and the remedy."""

    exit_code = Exit.USAGE


class UsageError(SubquadError):
    """A flag, name, size or preset that cannot be served."""


class CacheError(UsageError):
    """The cache folder cannot be written or read: no fault of the code that was to be compiled or measured."""


class StoreError(SubquadError):
    """A run folder or results file that is missing, damaged, in use, or newer than this reader."""


class DiscoveryError(SubquadError):
    """A package, plug-in or entry point that could not be loaded, or two things under one name."""


class PluginError(SubquadError):
    """Code that an operator or implementation brought raised, or returned what it may not; file and line are named."""


class IncomparableError(SubquadError):
    """Two sides that may not be compared: other machines, or a revision whose code does not load."""

    exit_code = Exit.INCOMPARABLE


class Unsupported(Exception):
    """Raised by an implementation that finds, when called, that it cannot serve a problem; its message says why."""


_Raised = TypeVar("_Raised", bound=BaseException)
_SPOILS = "subquad_spoils"


def spoiling(error: _Raised) -> _Raised:
    """An exception, marked: the process that raises it can measure nothing any more."""
    vars(error)[_SPOILS] = True
    return error


def spoils(error: BaseException) -> bool:
    """Whether the process that raised this can measure nothing any more."""
    return _SPOILS in vars(error)


class OracleFailed(Exception):
    """Raised where the oracle has no answer, so that nothing is known of an implementation; its message says why."""


class WorkOnOtherStream(Exception):
    """Raised by a timer that finds work where it cannot see it, on another stream; its message says how much."""


def worst(codes: Iterable[Exit]) -> Exit:
    """The code to return when several hold."""
    held = set(codes)
    return next((code for code in PRECEDENCE if code in held), Exit.PASS)


def unknown(kind: str, name: object, known: Iterable[str]) -> UsageError:
    """An error for an unknown name, with the nearest known one, or the first LISTED where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    left = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    hint = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(names[:LISTED]) or 'none'}{left}"
    return UsageError(f"unknown {kind} '{name}'; {hint}")
