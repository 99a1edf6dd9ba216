"""Walking the warps of one SM through their instructions, cycle by cycle of the clock on which they issue.

    walked = walk(code, needs, [way] * warps, blocks=2, architecture=machine.architecture, supply=supply)
    walked.cycles, walked.stalls

Each of an SM's four partitions issues one instruction a cycle, of the warp that has been ready for longest, so that
warps which do the same stay together and a part of their way tells the pace of the whole. A warp issues in order.
It is ready when the stall of its last instruction is over and the scoreboards for which the next one waits are free.
Then the unit must be free. Asynchronous work goes on by itself: copies into shared memory, WGMMA, TMA, tcgen05.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush

from suite.static.timing import units
from suite.static.timing.machines import PARTITIONS, Architecture
from suite.static.timing.sass import Instruction
from suite.static.timing.units import Need

# Cycles of work that may wait for a tensor unit, and for the L2 cache, before a warp is held back.
TENSOR_QUEUE = 256.0
L2_QUEUE = 800.0
# A warp without work of its own waits in vain: no more is known of what it waits for.
LOST = "a barrier for which no arrival is known was taken as passed"


@dataclass(frozen=True)
class Supply:
    """How an SM is fed: cycles until a load's first bytes are there, and the bytes a cycle that it gets."""

    latency: float
    bytes: float


@dataclass
class Walked:
    """What a walk found.

    cycles: until the last warp is done
    ends:   when each warp is done, block by block
    times:  when each warp reached each of its marks
    stalls: cycles that warps waited before an instruction, by its position and by what they waited for
    makers: of such a wait for a scoreboard, the position of the instruction that it waited for last
    doubts: what had to be assumed
    """

    cycles: float = 0.0
    ends: list[float] = field(default_factory=list)
    times: list[dict[int, float]] = field(default_factory=list)
    stalls: dict[tuple[int, str], float] = field(default_factory=dict)
    makers: dict[tuple[int, str], int] = field(default_factory=dict)
    doubts: list[str] = field(default_factory=list)


def walk(
    code: Sequence[Instruction],
    needs: Sequence[Need],
    ways: Sequence[Sequence[int]],
    *,
    blocks: int,
    architecture: Architecture,
    supply: Supply,
    marks: Sequence[Sequence[int]] = (),
) -> Walked:
    """Walk `blocks` blocks that an SM holds at a time; each has one warp for each of `ways`.

    ways:  of each warp of a block, the positions of its instructions in the order in which it issues them
    marks: of each warp of a block, places in its way, in order; `times` has when they are reached
    """
    return _Walk(code, needs, ways, blocks, architecture, supply, marks or [()] * len(ways)).run()


class _Warp:
    """A warp on its way. `mark` is the next of its marks."""

    __slots__ = (
        "at", "block", "boards", "causes", "copies", "groups", "makers", "marks", "number", "partition", "passed",
        "products", "tensor", "times", "way",
    )  # fmt: skip

    def __init__(self, number: int, block: int, way: Sequence[int], marks: Sequence[int], partition: int) -> None:
        self.number, self.block, self.way, self.partition = number, block, way, partition
        self.marks = list(reversed(marks))
        self.at = 0
        # Of each scoreboard: when it is free, what it waits for, and the position of the instruction that does that.
        self.boards, self.causes, self.makers = [0.0] * 6, [""] * 6, [-1] * 6
        self.copies = self.tensor = 0.0
        self.groups: list[float] = []
        self.products: list[float] = []
        self.passed: dict[int, int] = {}
        self.times: dict[int, float] = {}


_Act = Callable[[_Warp, Need, float], "float | None"]
# What is needed, the unit, its partitions' times, cycles that may be queued there, what else is done, and scoreboards.
_Step = tuple[Need, str, "list[float] | None", float, "_Act | None", "int | None", "int | None"]


class _Walk:
    def __init__(
        self,
        code: Sequence[Instruction],
        needs: Sequence[Need],
        ways: Sequence[Sequence[int]],
        blocks: int,
        architecture: Architecture,
        supply: Supply,
        marks: Sequence[Sequence[int]],
    ) -> None:
        self.code, self.needs, self.architecture, self.supply = code, needs, architecture, supply
        self.size = len(ways)
        pairs = list(zip(ways, marks, strict=True)) * blocks
        self.warps = [
            _Warp(number, number // self.size, way, marked, number % PARTITIONS)
            for number, (way, marked) in enumerate(pairs)
        ]
        # By position: of what is done once a block, the warp that does it; and how many warps arrive at each ring.
        self.elected, self.arriving = _elected(needs, ways)
        # When each warp can go on, since when it could have but for others, and its number.
        self.heap: list[tuple[float, float, int]] = []
        self.found = Walked(times=[warp.times for warp in self.warps], ends=[0.0] * len(self.warps))
        self.issue = [0.0] * PARTITIONS
        self.units = {name: [0.0] * PARTITIONS for name in units.PARTITION_UNITS}
        self.shared = self.l2 = 0.0
        # By block: warps that have arrived at a barrier; of each ring of mbarriers, when its phases are complete, how
        # often warps have arrived, and the warps that wait; the ring on which a load was announced last; and when the
        # last product of all is done.
        self.arrived: dict[tuple[int, int], list[tuple[float, _Warp | None]]] = {}
        self.phases: dict[tuple[int, int], list[float]] = {}
        self.counts: dict[tuple[int, int], int] = {}
        self.opened: dict[int, int] = {}
        self.tensor_done: dict[int, float] = {}
        self.parked: dict[tuple[int, int], list[tuple[float, _Warp]]] = {}
        self.loads = any(need.does == units.TMA for need in needs)
        self.special: dict[int, _Act] = {
            units.WGMMA: self._wgmma,
            units.SHARED: self._shared,
            units.LOAD: self._load,
            units.COPY: self._copy,
            units.STORE: self._store,
            units.TMA: self._tma,
            units.BARRIER: self._barrier,
            units.ARRIVE: self._barrier,
            units.COMMIT: self._commit,
            units.PHASE_WAIT: self._phase_wait,
            units.PHASE_EXPECT: self._phase_expect,
            units.PHASE_ARRIVE: self._phase_arrive,
            units.TENSOR_ISSUE: self._tensor_issue,
            units.TENSOR_COMMIT: self._tensor_commit,
        }

        # By position: what `_step` looks at, and the cycles until the next instruction.
        self.steps = [self._step_of(each, need) for each, need in zip(code, needs, strict=True)]
        self.stalls = [max(1, each.stall) for each in code]

    def _step_of(self, each: Instruction, need: Need) -> _Step:
        ahead = self.architecture.lsu_queue if need.unit == "shared" else 0.0
        if need.does in (units.WGMMA, units.TENSOR_ISSUE):
            ahead = TENSOR_QUEUE
        return need, need.unit, self.units.get(need.unit), ahead, self.special.get(need.does), each.sets, each.reads

    def run(self) -> Walked:
        for warp in self.warps:
            if warp.way:
                self._next(warp, warp.way[0], 0.0)
        heap, warps = self.heap, self.warps
        while True:
            while heap:
                self._step(*heappop(heap))
            waiting = [each for parked in self.parked.values() for each in parked]
            waiting += [(came, warp) for each in self.arrived.values() for came, warp in each if warp]
            if not waiting:
                break
            # Nobody else can go on: whatever these wait for has come.
            if LOST not in self.found.doubts:
                self.found.doubts.append(LOST)
            self.parked.clear()
            self.arrived.clear()
            now = max(self.issue)
            for came, warp in waiting:
                self._stalled(warp.way[warp.at], "barrier", max(0.0, now - came))
                self._done(warp, max(now, came))
        self.found.cycles = max(self.found.ends, default=0.0)
        assert all(warp.at >= len(warp.way) for warp in warps)
        return self.found

    def _step(self, ready: float, since: float, number: int) -> None:
        """Issue a warp's next instruction, or put it back until it can be."""
        warp = self.warps[number]
        position, partition = warp.way[warp.at], warp.partition
        need, unit, lanes, ahead, act, sets, reads = self.steps[position]
        free, why = self.issue[partition], "issue"
        if lanes is not None:
            until = lanes[partition] - ahead
        elif unit == "shared":
            until = self.shared - ahead
            if need.bytes and self.l2 - L2_QUEUE > until:
                until, unit = self.l2 - L2_QUEUE, "l2"
        else:
            until = 0.0
        if until > free:
            free, why = until, unit
        if free > ready:
            self._stalled(position, why, free - ready)
            if self.heap and self.heap[0] < (free, since, number):
                heappush(self.heap, (free, since, number))
                return
            ready = free
        if act:
            done = act(warp, need, ready)
            if done is None:
                return
        else:
            done = ready + need.latency
            if lanes is not None:
                lanes[partition] = ready + need.cycles
        self.issue[partition] = ready + 1
        if sets is not None and done >= warp.boards[sets]:
            warp.boards[sets], warp.causes[sets] = done, _CAUSES.get(need.does, need.unit)
            warp.makers[sets] = position
        if reads is not None:
            read = ready + self.architecture.latency["operands"] + max(0.0, self.shared - ready)
            if read >= warp.boards[reads]:
                warp.boards[reads], warp.causes[reads], warp.makers[reads] = read, "operands", position
        self._done(warp, ready)

    def _done(self, warp: _Warp, issued: float) -> None:
        """Go on behind an instruction that was issued, where the next one is ready as far as the warp itself knows."""
        way, at = warp.way, warp.at
        if warp.marks and warp.marks[-1] == at:
            warp.times[warp.marks.pop()] = issued
        position = way[at]
        warp.at = at = at + 1
        ready = issued + self.stalls[position]
        if at >= len(way):
            self.found.ends[warp.number] = ready
            return
        if way[at] != position + 1:
            ready += self.architecture.jump
        self._next(warp, way[at], ready)

    def _next(self, warp: _Warp, position: int, earliest: float) -> None:
        ready, why, maker = earliest, "", -1
        for board in self.code[position].waits:
            if warp.boards[board] > ready:
                ready, why, maker = warp.boards[board], warp.causes[board], warp.makers[board]
        need = self.needs[position]
        if need.does in _WAITS:
            groups, cause = (warp.groups, "copy") if need.does == units.DRAIN else (warp.products, "tensor")
            until = _oldest(groups, need.number)
            if until > ready:
                ready, why, maker = until, cause, -1
        if why:
            self._stalled(position, why, ready - earliest)
            if maker >= 0:
                self.found.makers[position, why] = maker
        heappush(self.heap, (ready, ready, warp.number))

    def _stalled(self, position: int, why: str, cycles: float) -> None:
        key = position, why
        self.found.stalls[key] = self.found.stalls.get(key, 0.0) + cycles

    # What instructions of each kind do when they are issued at `now`. They return when their result is there, or None
    # where the warp waits and is not to go on.

    def _wgmma(self, warp: _Warp, need: Need, now: float) -> float:
        unit = self.units["tensor"]
        began = max(unit[warp.partition], now)
        unit[warp.partition] = began + need.cycles
        warp.tensor = max(warp.tensor, began + need.cycles + need.latency)
        if need.number:
            warp.products.append(warp.tensor)
        return warp.tensor

    def _shared(self, warp: _Warp, need: Need, now: float) -> float:
        began = max(self.shared, now)
        self.shared = began + need.cycles
        return began + need.latency + need.cycles - 1

    def _moved(self, need: Need, now: float) -> float:
        """When bytes from or to the L2 cache have passed."""
        began = max(self.shared, now)
        self.shared = began + need.cycles
        self.l2 = max(self.l2, began) + need.bytes / self.supply.bytes
        return self.l2

    def _load(self, warp: _Warp, need: Need, now: float) -> float:
        return self._moved(need, now) + self.supply.latency

    def _copy(self, warp: _Warp, need: Need, now: float) -> float:
        warp.copies = max(warp.copies, self._moved(need, now) + self.supply.latency)
        return warp.copies

    def _store(self, warp: _Warp, need: Need, now: float) -> float:
        self._moved(need, now)
        return max(self.shared, now) + self.architecture.latency["sts"]

    def _commit(self, warp: _Warp, need: Need, now: float) -> float:
        warp.groups.append(max(warp.copies, now))
        warp.copies = 0.0
        return max(warp.groups)

    def _barrier(self, warp: _Warp, need: Need, now: float) -> float | None:
        key = warp.block, need.number
        arrived = self.arrived.setdefault(key, [])
        waits = need.does == units.BARRIER
        arrived.append((now, warp if waits else None))
        self.issue[warp.partition] = now + 1
        if len(arrived) < (need.threads // 32 or self.size):
            return None if waits else now
        del self.arrived[key]
        met = now + need.latency + self.architecture.latency["barrier_warp"] * len(arrived)
        position = warp.way[warp.at]
        for came, other in arrived:
            if other and other is not warp:
                self._stalled(other.way[other.at], "barrier", met - came)
                self._done(other, met)
        if waits:
            self._stalled(position, "barrier", met - now)
            self._done(warp, met)
            return None
        return now

    def _elects(self, warp: _Warp) -> bool:
        return self.elected[warp.way[warp.at]] == warp.number % self.size

    def _tma(self, warp: _Warp, need: Need, now: float) -> float:
        if not self._elects(warp):
            return now
        self.l2 = max(self.l2, now) + need.bytes / self.supply.bytes
        done = self.l2 + self.supply.latency + need.latency
        ring = self.opened.get(warp.block, units.UNNAMED) if need.number == units.UNNAMED else need.number
        if phases := self.phases.get((warp.block, ring)):
            # The first phase for which no load is under way yet; else it is another load of the last one.
            phase = len(phases) - 1
            while phase and phases[phase - 1] == _PENDING:
                phase -= 1
            phases[phase] = done if phases[phase] == _PENDING else max(phases[phase], done)
            self._wake(warp.block, ring, done)
        return done

    def _phase_expect(self, warp: _Warp, need: Need, now: float) -> float:
        if self._elects(warp):
            self._phase(warp.block, need.number, _PENDING if self.loads else now)
            self.opened[warp.block] = need.number
        return now + need.latency

    def _phase_arrive(self, warp: _Warp, need: Need, now: float) -> float:
        """A phase is complete when all warps that ever arrive at the ring have."""
        key = warp.block, need.number
        if need.number in self.arriving:
            count = self.counts[key] = self.counts.get(key, 0) + 1
            if count % self.arriving[need.number] == 0:
                self._phase(*key, now + need.latency)
        return now + need.latency

    def _phase(self, block: int, ring: int, complete: float) -> None:
        self.phases.setdefault((block, ring), []).append(complete)
        if complete < _PENDING:
            self._wake(block, ring, complete)

    def _wake(self, block: int, ring: int, complete: float) -> None:
        for came, other in self.parked.pop((block, ring), ()):
            again = max(came, complete)
            self._stalled(other.way[other.at], "tma", again - came)
            heappush(self.heap, (again, again, other.number))

    def _phase_wait(self, warp: _Warp, need: Need, now: float) -> float | None:
        ring = need.number
        passed = warp.passed.get(ring, 0)
        if passed >= need.slots:
            phases = self.phases.get((warp.block, ring), ())
            complete = phases[passed - need.slots] if passed - need.slots < len(phases) else _PENDING
            if complete == _PENDING:
                self.parked.setdefault((warp.block, ring), []).append((now, warp))
                return None
            if complete > now:
                self._stalled(warp.way[warp.at], "tma", complete - now)
                heappush(self.heap, (complete, complete, warp.number))
                return None
        warp.passed[ring] = passed + 1
        return now + need.latency

    def _tensor_issue(self, warp: _Warp, need: Need, now: float) -> float:
        if not self._elects(warp):
            return now
        # All four partitions' units work on one product of the block.
        began = max(*self.units["tensor"], now)
        self.units["tensor"][:] = [began + need.cycles] * PARTITIONS
        self.tensor_done[warp.block] = began + need.cycles + need.latency
        return now

    def _tensor_commit(self, warp: _Warp, need: Need, now: float) -> float:
        if self._elects(warp):
            self._phase(warp.block, need.number, self.tensor_done.get(warp.block, now) + need.latency)
        return now


_WAITS = (units.DRAIN, units.WGMMA_WAIT)
# When a phase is complete of which the load is not under way yet.
_PENDING = float("inf")
_CAUSES = {
    units.LOAD: "load", units.COPY: "copy", units.COMMIT: "copy", units.TMA: "tma", units.WGMMA: "tensor",
    units.PHASE_WAIT: "tma",
}  # fmt: skip


def _oldest(groups: list[float], left: int) -> float:
    """When all but the last `left` groups are done."""
    done = groups[:-left] if left else groups
    if not done:
        return 0.0
    until = max(done)
    # What is done need not be looked at again.
    groups[: len(done)] = [until]
    return until


def _elected(needs: Sequence[Need], ways: Sequence[Sequence[int]]) -> tuple[dict[int, int], dict[int, int]]:
    """By position, the first warp that comes to what is done once a block; by ring, how many warps arrive at it."""
    once = {at for at, need in enumerate(needs) if need.does in units.ELECTED}
    hands = {at: need.number for at, need in enumerate(needs) if need.does == units.PHASE_ARRIVE}
    elected, arriving = dict[int, int](), dict[int, int]()
    if once or hands:
        for number, way in enumerate(ways):
            met = set(way)
            for at in once & met:
                elected.setdefault(at, number)
            for ring in {ring for at, ring in hands.items() if at in met}:
                arriving[ring] = arriving.get(ring, 0) + 1
    return elected, arriving
