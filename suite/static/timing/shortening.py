"""Shortening the way that a warp takes: of a long loop some trips are walked, and the others are charged at their pace.

short = shorten(trace, loops, weights, keep=6)
short.blocks             # the way that is left, by block numbers
short.extra(times)       # cycles of what was left out, given when each of short.marks was reached
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# The first trips of a loop find its loads already under way, or its units idle: they set no pace.
UNSTEADY = 2


@dataclass(frozen=True)
class Nest:
    """A loop by block numbers: the one that it begins with, all of them, and the loops directly inside of it."""

    header: int
    body: frozenset[int]
    inner: tuple[Nest, ...] = ()


@dataclass
class Entry:
    """One entry into a loop of which trips were left out, or which has as many as are left.

    marks: places in the shortened way where the trips begin that set the pace, and where the last of them ends
    left:  trips that were left out, scaled to the length of those that set the pace
    inner: entries of inner loops within those trips
    """

    marks: tuple[int, int]
    trips: int
    left: float
    inner: list[Entry] = field(default_factory=list)

    @property
    def all_marks(self) -> set[int]:
        return set(self.marks).union(*(each.all_marks for each in self.inner))

    def extra(self, times: Mapping[int, float]) -> float:
        """Cycles of the trips that were left out."""
        began, ended = (times[mark] for mark in self.marks)
        within = sum(each.extra(times) for each in self.inner)
        return self.left * (ended - began + within) / self.trips


@dataclass
class Short:
    """A shortened way.

    blocks:  numbers of the blocks that are left
    entries: entries into loops of which trips were left out; `Entry.inner` has those within a pace too
    """

    blocks: list[int] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    @property
    def marks(self) -> set[int]:
        """The places of which `extra` must know when they were reached."""
        return set[int]().union(*(entry.all_marks for entry in self.entries))

    def extra(self, times: Mapping[int, float]) -> float:
        """Cycles of all that was left out; times: when each of `marks` was reached."""
        return sum(entry.extra(times) for entry in self.entries)


def shorten(trace: Sequence[int], nests: Sequence[Nest], weights: Mapping[int, int], keep: int) -> Short:
    """The way without the middle of its long loops.

    trace:   block numbers, from the entry to the exit
    nests:   the outermost loops
    weights: instructions of each block
    keep:    trips of a loop that are left at most, UNSTEADY + 2 at least
    """
    if keep < UNSTEADY + 2:
        raise ValueError(f"keep is {keep}; it must be at least {UNSTEADY + 2}")
    short = Short()
    _copy(trace, 0, len(trace), {nest.header: nest for nest in nests}, weights, keep, short, short.entries)
    return short


def _copy(
    trace: Sequence[int],
    place: int,
    end: int,
    nests: Mapping[int, Nest],
    weights: Mapping[int, int],
    keep: int,
    short: Short,
    entries: list[Entry],
) -> None:
    """Copy trace[place:end] into `short`; entries into loops go to `entries`."""
    while place < end:
        nest = nests.get(trace[place])
        if nest is None:
            short.blocks.append(trace[place])
            place += 1
            continue
        starts = [place]
        while (place := place + 1) < end and trace[place] in nest.body:
            if trace[place] == nest.header:
                starts.append(place)
        bounds = [*starts, place]
        inner = {each.header: each for each in nest.inner}
        trips = len(starts)
        # A loop of just `keep` trips has an entry too, of which nothing is left out: ways of the same blocks have the
        # same marks.
        walked = keep - 1 if trips >= keep else trips
        marks, found = [], list[list[Entry]]()
        for trip in range(walked):
            marks.append(len(short.blocks))
            found.append([])
            _copy_trip(trace, bounds[trip], bounds[trip + 1], inner, weights, keep, short, found[-1])
        marks.append(len(short.blocks))
        if trips >= keep:
            pace = range(UNSTEADY, walked)
            length = sum(weights[b] for b in trace[bounds[pace[0]] : bounds[walked]])
            left = sum(weights[b] for b in trace[bounds[walked] : bounds[trips - 1]])
            within = [entry for trip in pace for entry in found[trip]]
            entries.append(Entry((marks[pace[0]], marks[-1]), len(pace), left / max(1, length) * len(pace), within))
            last = list[Entry]()
            _copy_trip(trace, bounds[trips - 1], bounds[trips], inner, weights, keep, short, last)
            found.append(last)
        entries += [entry for each in found for entry in each]


def _copy_trip(
    trace: Sequence[int],
    place: int,
    end: int,
    inner: Mapping[int, Nest],
    weights: Mapping[int, int],
    keep: int,
    short: Short,
    entries: list[Entry],
) -> None:
    # The header itself is no inner loop.
    short.blocks.append(trace[place])
    _copy(trace, place + 1, end, inner, weights, keep, short, entries)
