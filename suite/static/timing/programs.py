"""The programs of a launch, by the ways that their warps take: those that differ, and how many take each.

A path depends on the program's place in the grid where the kernel asks for it, as causal attention does. Then programs
spread over the grid stand for all, those at its corners among them.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from suite.static.timing.constants import Bank
from suite.static.timing.paths import Guess, Memory, Paths, UnknownPath

AXES = ("ctaid.x", "ctaid.y", "ctaid.z")
# Places along an axis, and programs in all, that are looked at where ways differ.
PLACES, PROGRAMS = 16, 48
Place = tuple[int, int, int]
Ways = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Program:
    """Programs that go one way, which stand for others.

    places: where in the grid they were found
    ways:   of each warp, the numbers of the blocks of instructions that it executes; one where all go the same way
    share:  how much of the grid it stands for
    """

    places: tuple[Place, ...]
    ways: Ways
    share: float


def programs_of(
    paths: Paths,
    bank: Bank,
    grid: Sequence[int],
    warps: int,
    guess: Guess | None = None,
    memory: Memory | None = None,
) -> list[Program]:
    """Programs that stand for a launch, each with the ways of its warps.

    guess:  what comparisons of data are taken to tell
    memory: what loads find, as in `Paths.trace`
    Raises UnknownPath where a way depends on what is not known before the kernel runs.
    """
    leaders = _leaders(paths, bank, grid, warps, guess, memory)
    known: dict[Place, Ways] = {}

    def ways(place: Place) -> Ways:
        if place not in known:
            # Warps that go one way in one program do so in all.
            led = {lead: tuple(paths.trace(bank, place, lead, memory, guess)) for lead in set(leaders)}
            each = tuple(led[lead] for lead in leaders)
            known[place] = each if len(set(each)) > 1 else each[:1]
        return known[place]

    places = _extremes(grid, paths.depends_on)
    if len({ways(place) for place in places}) > 1:
        places = _places(grid, paths.depends_on)
    found: dict[Ways, list[Place]] = {}
    for place in places:
        found.setdefault(ways(place), []).append(place)
    return [Program(tuple(each), ways, len(each) / len(places)) for ways, each in found.items()]


@dataclass(frozen=True)
class Guessed:
    """The programs of a launch, where a jump may depend on data.

    programs: that go the shorter way, as kernels keep the longer one for values that are rare
    longer:   that go the longer way; empty where no jump depends on data, or both ways are as long
    notes:    what had to be assumed of data and of locks
    jump:     address of the first jump that depends on data
    """

    programs: list[Program]
    longer: list[Program] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    jump: int | None = None


def guessed(paths: Paths, bank: Bank, grid: Sequence[int], warps: int, memory: Memory | None = None) -> Guessed:
    """Programs of a launch: where a jump depends on data, those for which all comparisons of data hold, or none.

    Raises UnknownPath where neither tells a way.
    """
    try:
        return Guessed(programs_of(paths, bank, grid, warps, memory=memory), notes=_of_locks(paths))
    except UnknownPath as error:
        unknown = error
    middle = tuple(size // 2 for size in grid)
    lengths = dict[bool, int]()
    for told in (True, False):
        with suppress(UnknownPath):
            way = paths.trace(bank, (middle[0], middle[1], middle[2]), memory=memory, guess=_always(told))
            lengths[told] = sum(paths.blocks[n].last - paths.blocks[n].first + 1 for n in way)
    if not lengths:
        raise unknown
    shorter = min(lengths, key=lambda told: lengths[told])
    assumed, longer = f"the shorter way was taken where {unknown}", list[Program]()
    if (longest := max(lengths.values())) > lengths[shorter]:
        assumed += f"; the longer one issues {longest / lengths[shorter]:.2f} times the instructions"
        with suppress(UnknownPath):
            longer = programs_of(paths, bank, grid, warps, _always(not shorter), memory)
    programs = programs_of(paths, bank, grid, warps, _always(shorter), memory)
    return Guessed(programs, longer, (assumed, *_of_locks(paths)), unknown.address)


def _of_locks(paths: Paths) -> tuple[str, ...]:
    told = "each lock is taken at the first try: blocks that wait for one another take longer"
    return (told,) if paths.locked else ()


def _always(told: bool) -> Guess:
    return lambda _: told


def _leaders(
    paths: Paths, bank: Bank, grid: Sequence[int], warps: int, guess: Guess | None, memory: Memory | None
) -> list[int]:
    """For each warp of a block, the first one that goes the same way in the program in the middle of the grid."""
    if "tid" not in paths.depends_on:
        return [0] * warps
    place = (grid[0] // 2, grid[1] // 2, grid[2] // 2)
    ways = [tuple(paths.trace(bank, place, warp, memory, guess)) for warp in range(warps)]
    return [ways.index(way) for way in ways]


def _axes(grid: Sequence[int], depends: frozenset[str]) -> list[int]:
    """The axes on which a path depends, as far as they have several places."""
    return [axis for axis, name in enumerate(AXES) if name in depends and grid[axis] > 1]


def _extremes(grid: Sequence[int], depends: frozenset[str]) -> list[Place]:
    """The middle of the grid, and from there both ends of each axis on which a path depends; the first and last one."""
    middle = [size // 2 for size in grid]
    axes = _axes(grid, depends)
    found = [tuple(middle)]
    for axis in axes:
        for end in (0, grid[axis] - 1):
            found.append((*middle[:axis], end, *middle[axis + 1 :]))
    for end in (0, 1):
        found.append(tuple(end * (grid[axis] - 1) if axis in axes else middle[axis] for axis in range(3)))
    return [(x, y, z) for x, y, z in dict.fromkeys(found)]


def _places(grid: Sequence[int], depends: frozenset[str]) -> list[Place]:
    """Places spread over the axes on which a path depends; the middle of the others."""
    axes = _axes(grid, depends)
    each = max(2, min(PLACES, int(PROGRAMS ** (1 / max(1, len(axes))))))
    chosen = [_spread(size, each) if axis in axes else [size // 2] for axis, size in enumerate(grid)]
    return [(x, y, z) for x, y, z in itertools.product(*chosen)]


def _spread(size: int, most: int) -> list[int]:
    if size <= most:
        return list(range(size))
    return [round(step * (size - 1) / (most - 1)) for step in range(most)]
