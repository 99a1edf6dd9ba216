"""Races: of each address, who wrote and who read it last in a launch, and between which barriers.

Programs of one launch run in any order, so none may touch what another writes. Threads of one program run in any order
between two barriers, so no thread may touch there what another writes. Which thread has which element of a block is the
compiler's choice: two accesses count as one thread's where blocks of the same shape have an address in the same place,
and the block has an element for each thread. A smaller one is held by several warps at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RACE, BARRIER = "race", "missing barrier"


@dataclass(frozen=True)
class Clash:
    """Two accesses whose order nothing fixes.

    kind:  RACE between programs, or BARRIER within one
    does:  in words, with {other} where the other program's name belongs
    other: number of the other program
    first: position of the first such access among those that were noted
    """

    kind: str
    does: str
    other: int
    first: int


class Shadow:
    """The accesses of a launch to one storage; programs are numbered from 1, and so are spans between barriers."""

    def __init__(self, size: int) -> None:
        self.writer, self.write_span = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self.reader, self.read_span = np.zeros(size, np.int32), np.zeros(size, np.int32)
        self.write_thread, self.read_thread = np.zeros(size, np.int64), np.zeros(size, np.int64)
        # Whether more than one program, or thread in the span, has read it.
        self.read_by_more = np.zeros(size, bool)
        # Whether the last one to write did it by an atomic operation, and whether several programs did.
        self.atomic, self.changed_by_more = np.zeros(size, bool), np.zeros(size, bool)

    def read(self, at: np.ndarray, threads: np.ndarray, program: int, span: int) -> Clash | None:
        """Note a read of the addresses `at`, each by a thread of threads_of. Returns what clashes, or None."""
        found = self._met(at, self._written_by_other(at, program), self.writer, "reads", "writes")
        if found is None:
            mine = (self.writer[at] == program) & (self.write_span[at] == span)
            found = self._within(mine & ~_same(threads, self.write_thread[at]), program, "reads what it wrote")
        again = (self.reader[at] != 0) & (self.reader[at] != program)
        others = (self.read_span[at] == span) & ~_same(threads, self.read_thread[at])
        self.read_by_more[at] |= again
        noted = np.where(others & (self.reader[at] == program), -1, threads)
        self.read_thread[at] = noted
        # Several elements of one block may lie at one address.
        self.read_thread[at[self.read_thread[at] != noted]] = -1
        self.reader[at], self.read_span[at] = program, span
        return found

    def write(self, at: np.ndarray, threads: np.ndarray, program: int, span: int, changed: np.ndarray) -> Clash | None:
        """Note a write. changed: of each address, whether the value there is another one now."""
        other = (self.reader[at] != 0) & ((self.reader[at] != program) | self.read_by_more[at]) & changed
        found = self._met(at, self._written_by_other(at, program) & changed, self.writer, "writes", "writes too")
        found = found or self._met(at, other, self.reader, "writes", "reads")
        if found is None:
            read = (self.reader[at] == program) & (self.read_span[at] == span)
            read &= ~_same(threads, self.read_thread[at])
            found = self._within(read, program, "writes what it read")
        if found is None:
            wrote = (self.writer[at] == program) & (self.write_span[at] == span) & changed
            wrote &= ~_same(threads, self.write_thread[at])
            found = self._within(wrote, program, "writes again what it wrote")
        self.writer[at], self.write_span[at], self.write_thread[at] = program, span, threads
        self.atomic[at] = self.changed_by_more[at] = False
        if found is None:
            last = np.arange(at.size, dtype=np.int64)
            self.write_thread[at] = last
            twice = (self.write_thread[at] != last) & changed
            self.write_thread[at] = threads
            if twice.any():
                found = Clash(
                    RACE, "is given different values by several lanes of one store", program, int(twice.argmax())
                )
        return found

    def touch(self, at: np.ndarray, threads: np.ndarray, program: int, span: int) -> Clash | None:
        """Note an atomic operation: it races with plain accesses only."""
        other = (self.writer[at] != 0) & (self.writer[at] != program) & ~self.atomic[at]
        found = self._met(at, other, self.writer, "changes by an atomic operation", "writes")
        read = (self.reader[at] != 0) & (self.reader[at] != program)
        found = found or self._met(at, read, self.reader, "changes by an atomic operation", "reads")
        if found is None:
            wrote = (self.writer[at] == program) & (self.write_span[at] == span) & ~self.atomic[at]
            wrote &= ~_same(threads, self.write_thread[at])
            found = self._within(wrote, program, "changes by an atomic operation what it wrote")
        self.changed_by_more[at] |= (self.writer[at] != 0) & (self.writer[at] != program)
        self.writer[at], self.write_span[at], self.write_thread[at] = program, span, -1
        self.atomic[at] = True
        return found

    def _written_by_other(self, at: np.ndarray, program: int) -> np.ndarray:
        return (self.writer[at] != 0) & ((self.writer[at] != program) | self.changed_by_more[at])

    def _met(self, at: np.ndarray, wrong: np.ndarray, who: np.ndarray, does: str, others: str) -> Clash | None:
        if not wrong.any():
            return None
        first = int(wrong.argmax())
        return Clash(RACE, f"{does} what program {{other}} {others} in the same launch", int(who[at[first]]), first)

    def _within(self, wrong: np.ndarray, program: int, does: str) -> Clash | None:
        if not wrong.any():
            return None
        return Clash(BARRIER, f"{does}, without a barrier between the two", program, int(wrong.argmax()))


def _same(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    return (some == others) & (some >= 0)


def threads_of(shape: tuple[int, ...], mask: np.ndarray, threads: int) -> np.ndarray:
    """For each lane that the mask keeps, a number that is equal where the same thread has it; -1: several have it."""
    if mask.size < threads:
        return np.full(int(mask.sum()), -1, dtype=np.int64)
    return (np.int64(hash(shape) & 0x7FFFFFFF) << 32 | np.arange(mask.size, dtype=np.int64))[mask.ravel()]
