"""What an exception of an implementation means: the status and reason of its record."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from suite.errors import Escaped, Unsupported

if TYPE_CHECKING:
    from suite.registry import Implementation

# Statuses that make `bench` and `check` exit 1.
FAILURES = frozenset({"incorrect", "implausible", "crashed", "error", "compile_error", "timeout"})
REASON_LENGTH = 2000
# A CUDA error after which the context answers nothing but errors: the worker that met it must end.
STICKY = (
    "illegal memory access",
    "device-side assert",
    "unspecified launch failure",
    "misaligned address",
    "illegal instruction",
)
# How a library says by an assertion or a NotImplementedError that it has no kernel for what it was asked.
REFUSAL = re.compile(
    r"\bunsupported\b|\bnot (yet |currently )?(support|implement)|n't support|\bonly\b.*\bsupport|"
    r"\bsupport(ed|s)?\b.*\bonly\b", re.IGNORECASE,
)  # fmt: skip


def classify(error: BaseException, implementation: Implementation | None = None) -> tuple[str, str]:
    """(status, reason) of an exception raised by an implementation; without one, nothing is taken for a refusal."""
    kind, text = type(error).__name__, f"{type(error).__name__}: {error}"[:REASON_LENGTH]
    if isinstance(error, Unsupported):
        return "unsupported", str(error)[:REASON_LENGTH]
    if isinstance(error, Escaped):
        return "incorrect", str(error)[:REASON_LENGTH]
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or _cpu_allocator(error):
        return "oom", text
    if kind == "OutOfResources":
        return "over_limit", text
    if kind in (
        "CompilationError",
        "PTXASError",
        "InductorError",
        "UnsupportedLanguageConstruct",
        "CompileTimeAssertionFailure",
    ):
        return "compile_error", text
    if implementation is not None and _refuses(error, implementation):
        assert implementation.requires is not None
        return "unsupported", f"{implementation.requires.distribution}: {error}"[:REASON_LENGTH]
    return "error", text


def _refuses(error: BaseException, implementation: Implementation) -> bool:
    """Whether a peer's library says that it has no kernel, in its forward or, through autograd, its backward pass."""
    if implementation.origin != "peer" or implementation.requires is None:
        return False
    library = implementation.requires.module.partition(".")[0]
    refusal = isinstance(error, (AssertionError, NotImplementedError)) and REFUSAL.search(str(error))
    return bool(refusal) and library in _packages(error)


def _packages(error: BaseException) -> Iterator[str]:
    """The packages whose code an exception passed through."""
    step = error.__traceback__
    while step is not None:
        yield str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        step = step.tb_next


def _cpu_allocator(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_sticky(reason: str) -> bool:
    """Whether a CUDA error leaves this process unable to go on."""
    return any(words in reason for words in STICKY)
