"""The programs of a launch, by the ways that their warps take: those that differ, and how many take each.

A path depends on the program's place in the grid where the kernel asks for it, as causal attention does. Then programs
spread over the grid stand for all, those at its corners among them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from suite.static.timing.constants import Bank
from suite.static.timing.paths import Guess, Paths, UnknownPath

AXES = ("ctaid.x", "ctaid.y", "ctaid.z")
# Places along an axis, and programs in all, that are looked at.
PLACES, PROGRAMS = 16, 48


@dataclass(frozen=True)
class Program:
    """Programs that go one way, which stand for others.

    places: where in the grid they were found
    ways:   of each warp, the numbers of the blocks of instructions that it executes; one where all go the same way
    share:  how much of the grid it stands for
    """

    places: tuple[tuple[int, int, int], ...]
    ways: tuple[tuple[int, ...], ...]
    share: float


def programs_of(paths: Paths, bank: Bank, grid: Sequence[int], warps: int, guess: Guess | None = None) -> list[Program]:
    """Programs that stand for a launch, each with the ways of its warps.

    guess: what comparisons of data are taken to tell
    Raises UnknownPath where a way depends on what is not known before the kernel runs.
    """
    places = _places(grid, paths.depends_on)
    numbers = range(warps) if "tid" in paths.depends_on else (0,)
    found: dict[tuple[tuple[int, ...], ...], list[tuple[int, int, int]]] = {}
    for place in places:
        ways = tuple(tuple(paths.trace(bank, ctaid=place, warp=warp, guess=guess)) for warp in numbers)
        found.setdefault(ways if len(set(ways)) > 1 else ways[:1], []).append(place)
    return [Program(tuple(each), ways, len(each) / len(places)) for ways, each in found.items()]


def guessed(paths: Paths, bank: Bank, grid: Sequence[int], warps: int) -> tuple[list[Program], str]:
    """Programs of a launch, and what had to be assumed of data, "" where nothing had to be.

    Where a jump depends on data, all comparisons of data are taken to hold, or all not to: the shorter of both ways is
    taken, as kernels keep the longer one for values that are rare.
    Raises UnknownPath where neither tells a way.
    """
    try:
        return programs_of(paths, bank, grid, warps), ""
    except UnknownPath as error:
        unknown = error
    found = list[list[Program]]()
    for told in (True, False):
        with suppress(UnknownPath):
            found.append(programs_of(paths, bank, grid, warps, lambda _, told=told: told))
    if not found:
        raise unknown
    lengths = [_length(paths, each) for each in found]
    note = f"the shorter way was taken where {unknown}"
    if max(lengths) > min(lengths):
        note += f"; the longer one issues {max(lengths) / min(lengths):.2f} times the instructions"
    return found[lengths.index(min(lengths))], note


def _length(paths: Paths, programs: Sequence[Program]) -> float:
    """Instructions that a warp issues, the mean over programs."""
    sizes = [block.last - block.first + 1 for block in paths.blocks]
    return sum(
        program.share * sum(sizes[number] for way in program.ways for number in way) / len(program.ways)
        for program in programs
    )


def _places(grid: Sequence[int], depends: frozenset[str]) -> list[tuple[int, int, int]]:
    """Places spread over the axes on which a path depends; the middle of the others."""
    axes = [size for name, size in zip(AXES, grid, strict=True) if name in depends and size > 1]
    each = max(2, min(PLACES, int(PROGRAMS ** (1 / max(1, len(axes))))))
    chosen = [_spread(size, each) if name in depends else [size // 2] for name, size in zip(AXES, grid, strict=True)]
    return [(x, y, z) for x, y, z in itertools.product(*chosen)]


def _spread(size: int, most: int) -> list[int]:
    if size <= most:
        return list(range(size))
    return [round(step * (size - 1) / (most - 1)) for step in range(most)]
