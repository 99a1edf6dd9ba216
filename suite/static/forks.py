"""Which way a kernel takes where data decide: counted in Triton's interpreter, on drawn inputs at a small shape.

Machine code tells two ways, and the source lines that only the longer one executes. The interpreter tells how often
one of those lines is executed after the line at which the ways part.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

from suite.static.model import Launch, Profile
from suite.static.timing.lines import short

# Of each line at which ways part, the lines of the longer ways: "kernels/delta/forward.py:91".
Forks = Mapping[str, Sequence[str]]


def telling(profile: Profile) -> dict[str, tuple[str, ...]]:
    """The forks of a profile's launches, those that part at one line joined."""
    found: dict[str, set[str]] = {}
    for launch in profile.launches:
        if launch.fork:
            found.setdefault(launch.fork.at, set()).update(launch.fork.longer)
    return {at: tuple(sorted(found[at])) for at in sorted(found)}


@contextmanager
def ways_taken(forks: Forks) -> Iterator[dict[str, tuple[int, int]]]:
    """Count inside the block, in Python code of this thread, of each fork by its line: how often the line was reached,
    and how often a line of the longer way was executed before it was reached again. What is not reached is left out."""
    counter = _Counter(forks)
    found = dict[str, tuple[int, int]]()
    former = sys.gettrace()
    if forks:
        sys.settrace(counter.entered)
    try:
        yield found
    finally:
        if forks:
            sys.settrace(former)
        found |= {at: (reached, counter.longer[at]) for at, reached in counter.reached.items() if reached}


class _Counter:
    """Functions for sys.settrace that watch the files of some forks."""

    def __init__(self, forks: Forks) -> None:
        self.reached, self.longer = dict.fromkeys(forks, 0), dict.fromkeys(forks, 0)
        # The forks whose longer way a line belongs to; those that were reached and not decided yet.
        self._ways: dict[str, list[str]] = {}
        for at, lines in forks.items():
            for line in lines:
                self._ways.setdefault(line, []).append(at)
        self._open = set[str]()
        self._files = {line.rpartition(":")[0] for line in (*forks, *self._ways)}
        self._names = dict[str, str]()

    def entered(self, frame: FrameType, event: str, _: Any) -> Any:
        path = frame.f_code.co_filename
        if path not in self._names:
            self._names[path] = short(path)
        return self._within if self._names[path] in self._files else None

    def _within(self, frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            line = f"{self._names[frame.f_code.co_filename]}:{frame.f_lineno}"
            for at in self._ways.get(line, ()):
                if at in self._open:
                    self._open.discard(at)
                    self.longer[at] += 1
            if line in self.reached:
                self.reached[line] += 1
                self._open.add(line)
        return self._within


def taken(profile: Profile) -> Profile:
    """The profile, its predictions those of the ways that the interpreter took; unchanged where it did not run."""
    if profile.issued is None or profile.issued.reason:
        return profile
    launches = [_decided(launch, profile.issued.ways, profile.issued.shape) for launch in profile.launches]
    return replace(profile, launches=tuple(launches))


def _decided(launch: Launch, ways: Mapping[str, tuple[int, int]], shape: str) -> Launch:
    fork, shorter = launch.fork, launch.predicted
    if fork is None or fork.at not in ways or shorter is None or shorter.ms is None or fork.predicted.ms is None:
        return launch
    reached, longer = ways[fork.at]
    share = longer / reached
    told = (
        f"where {fork.at} depends on data, {share:.0%} take the longer way, as in the interpreter on drawn inputs at "
        f"{shape}"
    )
    mainly = fork.predicted if share > 0.5 else shorter
    ms = (1 - share) * shorter.ms + share * fork.predicted.ms
    notes = [note for note in shorter.notes if not note.startswith("the shorter way was taken")]
    return replace(launch, predicted=replace(mainly, ms=ms, notes=(told, *notes)), fork=None)
