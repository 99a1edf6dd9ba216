"""Standard output and error while a command runs: control sequences in other people's text are shown, never executed.

Names and reasons come from plug-ins, stored files and compilers. An escape sequence in them could move the cursor, set
the window's title or hide what was printed before, so each print of a command goes through `guarded`.

>>> with guarded():
...     print("a\\x1b[31mb")
a�[31mb
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from suite.store.text import harmless

if TYPE_CHECKING:
    from rich.console import Console


class _Guard:
    """A text stream that replaces control characters in what is written to it; all else is the stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(harmless(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """Guard sys.stdout and sys.stderr while the block lasts."""
    before = sys.stdout, sys.stderr
    for stream in before:
        # Where the terminal's encoding lacks a character, the line has a '?' there instead of ending the command.
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
    sys.stdout, sys.stderr = (each if isinstance(each, _Guard) else _Guard(each) for each in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def console(stream: TextIO) -> Console:
    """A console for rich's own drawing, which needs escape sequences: what it is given must be harmless already."""
    from rich.console import Console

    return Console(file=stream.stream if isinstance(stream, _Guard) else stream)
