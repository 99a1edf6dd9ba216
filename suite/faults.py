"""What an exception of an implementation means: the status and reason of its record, with file and line.

Example::

    with blamed("cost", "running_mean", "mine.py:9"):
        cost = operator.cost(problem, tunables)
"""

from __future__ import annotations

import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

from suite.errors import OracleFailed, PluginError, Unsupported, WorkOnOtherStream

if TYPE_CHECKING:
    from suite.requirement import Requirement

    class Implementation(Protocol):
        """What is asked of an implementation here: suite.registry has the class."""

        @property
        def origin(self) -> str: ...

        @property
        def requires(self) -> Requirement | None: ...


# Statuses that make `bench` and `check` exit 1.
FAILURES = frozenset({"incorrect", "implausible", "crashed", "error", "compile_error", "timeout", "unchecked"})
REASON_LENGTH = 2000
# What CUDA and its libraries say when memory is gone. torch's own allocator raises OutOfMemoryError instead.
OUT_OF_MEMORY = re.compile(
    r"CUDA[^:]*: out of memory|CU(BLAS|BLASLT|SOLVER|SPARSE|FFT|RAND)_STATUS_ALLOC(ATION)?_FAILED|"
    r"CUDNN_STATUS_ALLOC_FAILED|cudaErrorMemoryAllocation|CUDA_ERROR_OUT_OF_MEMORY|can't allocate memory"
)
# How a library says by an assertion or a NotImplementedError that it has no kernel for what it was asked.
REFUSAL = re.compile(
    r"\bunsupported\b|\bnot (yet |currently )?(support|implement)|n't support|\bonly\b.*\bsupport|"
    r"\bsupport(ed|s)?\b.*\bonly\b",
    re.IGNORECASE,
)


def classify(error: BaseException, implementation: Implementation | None = None) -> tuple[str, str]:
    """(status, reason) of an exception raised by an implementation; without one, nothing is taken for a refusal."""
    kind, text = type(error).__name__, said(_chain(error)[-1])[:REASON_LENGTH]
    if isinstance(error, PluginError):
        return "error", text_of(error)[:REASON_LENGTH]
    if isinstance(error, Unsupported):
        return "unsupported", text_of(error)[:REASON_LENGTH]
    if isinstance(error, WorkOnOtherStream):
        return "incorrect", text_of(error)[:REASON_LENGTH]
    if isinstance(error, OracleFailed):
        return "unchecked", text_of(error)[:REASON_LENGTH]
    if isinstance(error, MemoryError) or kind == "OutOfMemoryError" or _out_of_memory(error):
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
        return "unsupported", f"{implementation.requires.distribution}: {text_of(error)}"[:REASON_LENGTH]
    place = place_of(error)
    return "error", f"{text} ({place})" if place else text


@contextmanager
def staying() -> Iterator[None]:
    """What somebody's code does inside to the whole process is undone or refused.

    `os._exit` raises SystemExit: it would end a bench or a gate with an exit code of its own, in silence. Standard
    output and error are afterwards what they were.
    """
    leave, pid = os._exit, os.getpid()
    streams = sys.stdout, sys.stderr
    inside = True

    def refused(code: int) -> NoReturn:
        # A forked child may leave, and so may who kept this function for later.
        if os.getpid() != pid or not inside:
            leave(code)
        raise SystemExit(code)

    os._exit = refused
    try:
        yield
    finally:
        inside = False
        os._exit = leave
        sys.stdout, sys.stderr = streams


@contextmanager
def blamed(what: str, owner: str, place: str) -> Iterator[None]:
    """Every call of code that an operator or implementation brought stands in such a block.

    what:  which of its functions
    owner: OPERATOR or OPERATOR/IMPLEMENTATION
    place: where it was registered, told when no frame of its own is known
    Raises PluginError for what is raised inside, with file and line. What has a status of its own (no memory, not
    supported) passes through, and so does Ctrl-C, told where it came.
    """
    try:
        with staying():
            yield
    except PluginError:
        raise
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(f"in {what} of {owner} ({place_of(error) or place})") from error
    except BaseException as error:
        if classify(error)[0] != "error":
            raise
        text = said(error)[:REASON_LENGTH]
        raise PluginError(f"{what} of {owner} raises {text} ({place_of(error) or place})") from error


def returned(what: str, owner: str, place: str, value: object, wanted: str) -> PluginError:
    """The error of a function that returned what it may not."""
    told = " ".join(repr(value).split())
    told = told if len(told) <= 80 else f"{told[:77]}..."
    return PluginError(f"{what} of {owner} returned {told} ({place}); it must return {wanted}")


def said(error: BaseException) -> str:
    """`TypeError: what it says`."""
    return f"{type(error).__name__}: {text_of(error)}"


def text_of(error: BaseException) -> str:
    """What an exception says, without its class; of somebody's class that fails at it, which error it fails with."""
    try:
        return str(error)
    except Exception as failure:
        return f"its text raises {type(failure).__name__}"


def place_of(error: BaseException) -> str:
    """FILE:LINE of the innermost frame that is neither the suite's nor a library's; empty when there is none.

    Where all is a library's, as in an installed plug-in, it is the frame that the suite called.
    """
    outer = [each for each in traceback.extract_tb(error.__traceback__) if _foreign(each.filename)]
    for each in reversed(_chain(error)):
        frames = [frame for frame in traceback.extract_tb(each.__traceback__) if _foreign(frame.filename)]
        if own := [frame for frame in frames if not frame.filename.startswith(_libraries())]:
            return f"{own[-1].filename}:{own[-1].lineno}"
    return f"{outer[0].filename}:{outer[0].lineno}" if outer else ""


def _chain(error: BaseException) -> list[BaseException]:
    """An exception, and those inside of it that Triton's interpreter raised in a kernel and in what that calls."""
    found = [error]
    while type(found[-1]).__name__ == "InterpreterError" and found[-1].__cause__ is not None:
        found.append(found[-1].__cause__)
    return found


def place_of_code(fn: object, otherwise: str) -> str:
    """FILE:LINE where a function is defined, or `otherwise` where Python does not know."""
    code = getattr(fn, "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else otherwise


def _foreign(filename: str) -> bool:
    return not filename.startswith(("<", f"{Path(__file__).parent}/"))


def is_a_librarys(filename: str) -> bool:
    """Whether a file is the suite's own, or of an installed library."""
    return not _foreign(filename) or filename.startswith(_libraries())


@cache
def _libraries() -> tuple[str, ...]:
    return tuple(f"{sysconfig.get_path(name)}/" for name in ("stdlib", "platstdlib", "purelib", "platlib"))


def _refuses(error: BaseException, implementation: Implementation) -> bool:
    """Whether a peer's library says that it has no kernel, in its forward or, through autograd, its backward pass."""
    if implementation.origin != "peer" or implementation.requires is None:
        return False
    library = implementation.requires.module.partition(".")[0]
    refusal = isinstance(error, (AssertionError, NotImplementedError)) and REFUSAL.search(text_of(error))
    return bool(refusal) and library in _packages(error)


def _packages(error: BaseException) -> Iterator[str]:
    """The packages whose code an exception passed through."""
    step = error.__traceback__
    while step is not None:
        yield str(step.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        step = step.tb_next


def _out_of_memory(error: BaseException) -> bool:
    return isinstance(error, RuntimeError) and OUT_OF_MEMORY.search(text_of(error)) is not None
