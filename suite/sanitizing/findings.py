"""Findings: what a kernel does wrong, with kernel, program, tensor, offsets and the line of its source."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import triton

_NOT_THE_KERNELS = tuple(f"{Path(file).parent}/" for file in (triton.__file__, __file__))
# How many calls of device functions a place names.
MOST_CALLS = 3
# After so many different findings the rest is counted only.
MOST = 50


@dataclass(frozen=True)
class Finding:
    """One fault, as it was first met.

    kind:   `out of bounds`, `masked lanes`, `race`, `missing barrier`, `order`, `misaligned`, `overflow` or `grid`
    kernel: the kernel's name
    tensor: the name of the kernel's argument; empty where no tensor has part in it
    place:  FILE:LINE of the kernel's source, then those of its callers; empty where no line is known
    text:   all of it in a sentence
    """

    kind: str
    kernel: str
    tensor: str
    place: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" + (f" ({self.place})" if self.place else "")


class Findings:
    """Findings of a run, each kind once for a kernel, a tensor, a line and what it does there."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, ...], Finding] = {}

    def add(self, kind: str, kernel: str, tensor: str, text: str, place: str, does: str = "") -> None:
        """does: what sets two findings of a line apart: it reads, it writes"""
        key = (kind, kernel, tensor, place, does)
        if key not in self._found and len(self._found) < MOST:
            self._found[key] = Finding(kind, kernel, tensor, place, text)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self._found.values())

    def __len__(self) -> int:
        return len(self._found)


def place_in_kernel() -> str:
    """FILE:LINE of the kernel's statement that is being interpreted, then where it was called from."""
    frame, places = sys._getframe(1), list[str]()
    while frame is not None and len(places) < MOST_CALLS:
        file = frame.f_code.co_filename
        if file.startswith(_NOT_THE_KERNELS[1]) and places:
            break
        if not file.startswith((*_NOT_THE_KERNELS, "<")) and "/numpy/" not in file:
            places.append(f"{_short(file)}:{frame.f_lineno}")
        frame = frame.f_back
    return ", called at ".join(places)


@cache
def _short(file: str) -> str:
    """A file's path from the working folder, where it lies inside."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file
