"""What an exception of an implementation means: the status and reason of its record."""

from __future__ import annotations

from suite.errors import Escaped, Unsupported

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


def classify(error: BaseException) -> tuple[str, str]:
    """(status, reason) of an exception raised by an implementation."""
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
    return "error", text


def _cpu_allocator(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def is_sticky(reason: str) -> bool:
    """Whether a CUDA error leaves this process unable to go on."""
    return any(words in reason for words in STICKY)
