"""Predicting one launch: its blocks walked on an SM, then in waves, with the memory bus and the launch itself.

predicted, fork = predict(launch, Kernel(code, bank, hints), machine, dram_bytes=2**28)
predicted.ms, predicted.bound
"""

from __future__ import annotations

import heapq
import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from suite.static.model import Fork, Launch, Prediction
from suite.static.timing import flow, units
from suite.static.timing.constants import Bank
from suite.static.timing.machines import PARTITIONS, Machine
from suite.static.timing.paths import Memory, Paths, UnknownPath
from suite.static.timing.programs import Guessed, Program, guessed
from suite.static.timing.sass import Instruction
from suite.static.timing.shortening import Nest, Short, shorten
from suite.static.timing.units import Hints, needs_of
from suite.static.timing.walk import Supply, Walked, walk

# Trips of a loop that are walked, from the most to the least, and the instructions that a walk should take at most.
TRIPS, BUDGET = (9, 7, 5, 4), 300_000
# Ways of a launch that are walked; others are charged by their instructions.
WALKS = 3
# Programs that are handed out to SMs one by one.
PLAYED = 50_000
# A unit that is busy for this share of the time bounds a launch; a launch is bound by being one from this share on.
BUSY, LAUNCHING = 0.7, 0.5


@dataclass(frozen=True)
class Kernel:
    """A compiled kernel with the arguments of one launch. memory: what its loads find, as in `Paths.trace`"""

    code: Sequence[Instruction]
    bank: Bank
    hints: Hints = field(default_factory=Hints)
    memory: Memory | None = None

    @cached_property
    def paths(self) -> Paths:
        return Paths(self.code)

    @cached_property
    def nests(self) -> tuple[Nest, ...]:
        """The loops, by numbers of blocks."""
        parts = enumerate(self.paths.blocks)
        number = {at: n for n, block in parts for at in range(block.first, block.last + 1)}

        def nested(loops: Sequence[flow.Loop]) -> tuple[Nest, ...]:
            outermost = [loop for loop in loops if not any(other.holds(loop) for other in loops)]
            return tuple(
                Nest(
                    number[loop.first],
                    frozenset(number[at] for at in loop.body),
                    nested([each for each in loops if loop.holds(each)]),
                )
                for loop in outermost
            )

        return nested(flow.loops(self.code))


# A longer way that issues less than this over the shorter one is not looked at further.
LONGER = 1.05


def predict(
    launch: Launch,
    kernel: Kernel,
    machine: Machine,
    dram_bytes: int,
    lines: Callable[[], Mapping[int, str]] | None = None,
) -> tuple[Prediction, Fork | None]:
    """How long a launch takes on a GPU; what cannot be predicted has the reason. And where its way depends on data.

    launch:     with its residency
    dram_bytes: bytes that cross the memory bus
    lines:      what gives source lines by address, asked only where a way depends on data; None if no fork is wanted
    """
    assert launch.residency is not None
    if not launch.residency.blocks:
        return Prediction(reason="no block fits on an SM"), None
    try:
        ways = guessed(kernel.paths, kernel.bank, launch.grid, launch.warps, kernel.memory)
    except UnknownPath as error:
        return Prediction(reason=f"which way it goes is not known: {error}"), None
    found = Predictor(launch, kernel, machine, dram_bytes, ways.programs).prediction()
    found = replace(found, notes=(*ways.notes, *found.notes))
    if lines is None or not ways.longer:
        return found, None
    return found, _fork(launch, kernel, machine, dram_bytes, ways, found, lines)


def _fork(
    launch: Launch,
    kernel: Kernel,
    machine: Machine,
    dram_bytes: int,
    ways: Guessed,
    shorter: Prediction,
    lines: Callable[[], Mapping[int, str]],
) -> Fork | None:
    """Both ways with the source lines that tell them apart; None where they differ little, or no line does."""
    longer = Predictor(launch, kernel, machine, dram_bytes, ways.longer).prediction()
    if longer.issued < LONGER * shorter.issued:
        return None
    known = lines()
    own = _lines_of(kernel, ways.longer, known) - _lines_of(kernel, ways.programs, known)
    at = known.get(ways.jump) if ways.jump is not None else None
    return Fork(at, tuple(sorted(own)), longer) if at and own else None


def _lines_of(kernel: Kernel, programs: Sequence[Program], lines: Mapping[int, str]) -> set[str]:
    """The source lines of what some warp of these programs executes."""
    blocks = {n for program in programs for way in program.ways for n in way}
    parts = (kernel.paths.blocks[n] for n in blocks)
    addresses = (kernel.code[at].address for part in parts for at in range(part.first, part.last + 1))
    return {lines[address] for address in addresses if address in lines}


@dataclass(frozen=True)
class _Work:
    """What all warps of a block ask for together: cycles by unit, `issue` being instructions, and bytes moved."""

    units: dict[str, float]
    bytes: float

    @property
    def issue(self) -> float:
        return self.units["issue"]


class Predictor:
    """One launch on one GPU. `most`, `needs`, `supply` and `dram_bytes` may be changed before `prediction`, to ask what
    if."""

    def __init__(
        self, launch: Launch, kernel: Kernel, machine: Machine, dram_bytes: int, programs: Sequence[Program]
    ) -> None:
        assert launch.residency is not None
        self.launch, self.kernel, self.machine, self.programs = launch, kernel, machine, programs
        self.dram_bytes, self.most = dram_bytes, launch.residency.blocks
        self.count = math.prod(launch.grid)
        self.blocks = kernel.paths.blocks
        self.sizes = {n: block.last - block.first + 1 for n, block in enumerate(self.blocks)}
        self.needs = needs_of(kernel.code, machine.architecture, kernel.hints)
        self.work = [self._work(program) for program in programs]
        self.moved = self.count * self._mean(work.bytes for work in self.work)
        self.supply = self._supply()
        # By the shortened ways and the blocks that an SM holds: a function from extra trips to cycles, and the work.
        self.walks: dict[tuple[object, int], Callable[[Sequence[Short]], float]] = {}
        # The first walk, of as many blocks as are there, with its ways.
        self.first: tuple[Walked, list[list[int]], int] | None = None
        self.paces: dict[int, list[tuple[float, float]]] = {}
        self.doubts: dict[str, None] = {}

    def prediction(self) -> Prediction:
        hertz = self.machine.clock_ghz * 1e9
        cycles = self._until_last()
        dram_s = self.dram_bytes / (self.machine.dram_gbs * 1e9)
        l2_s = self.moved / (self.machine.l2_gbs * 1e9)
        seconds = max(cycles / hertz, dram_s, l2_s)
        launch_s = self.machine.launch_us / 1e6
        busy = self._busy(seconds * hertz) | {"dram": dram_s / seconds, "l2": l2_s / seconds}
        return Prediction(
            ms=(seconds + launch_s) * 1e3,
            bound="launch" if launch_s > LAUNCHING * (seconds + launch_s) else _bound(busy),
            cycles=seconds * hertz,
            instructions=self._mean(work.issue for work in self.work) / self.launch.warps,
            busy=busy,
            issued=self.count * self._mean(work.issue for work in self.work),
            l2_bytes=self.moved,
            dram_bytes=float(self.dram_bytes),
            waits=self._waits(),
            notes=tuple(self.doubts),
        )

    def counts(self) -> list[float]:
        """How often a warp executes each instruction, the mean over the launch."""
        found = [0.0] * len(self.kernel.code)
        for program in self.programs:
            for way in program.ways:
                for number in way:
                    for at in range(self.blocks[number].first, self.blocks[number].last + 1):
                        found[at] += program.share / len(program.ways)
        return found

    def stalls(self, first: int) -> dict[tuple[int, str], float]:
        """Cycles that a warp waits before each instruction, by its position and for what.

        They are for each time that it executes the instruction at `first`, in the first walk.
        """
        assert self.first is not None
        walked, ways, blocks = self.first
        times = blocks * sum(way.count(first) for way in ways) or 1
        return {key: cycles / times for key, cycles in walked.stalls.items()}

    def cycles_of(self, body: Sequence[int]) -> float:
        """Cycles from one execution of a loop's first instruction to the next, the mean of the first walk."""
        assert self.first is not None
        walked, ways, blocks = self.first
        inside = set(body)
        waited = sum(cycles for (at, _), cycles in walked.stalls.items() if at in inside)
        trips = blocks * sum(way.count(body[0]) for way in ways) or 1
        stalled = sum(max(1, self.kernel.code[at].stall) for way in ways for at in way if at in inside) * blocks
        return (waited + stalled) / trips

    def _waits(self) -> dict[str, float]:
        """Shares of a warp's time in the first walk, by what it waits for."""
        assert self.first is not None
        walked, ways, blocks = self.first
        found = dict[str, float]()
        for (_, why), cycles in walked.stalls.items():
            found[why] = found.get(why, 0.0) + cycles
        issued = [self.kernel.code[at].stall for way in ways for at in way]
        found["selected"] = float(blocks * len(issued))
        found["stall"] = float(blocks * sum(max(0, stall - 1) for stall in issued))
        whole = sum(found.values())
        return {why: cycles / whole for why, cycles in found.items()}

    def _mean(self, values: Iterable[float]) -> float:
        return sum(value * program.share for value, program in zip(values, self.programs, strict=True))

    def _work(self, program: Program) -> _Work:
        counts, elected = dict[int, int](), dict[int, int]()
        for way in program.ways:
            here = Counter(way)
            for number, count in here.items():
                counts[number] = counts.get(number, 0) + count
                # One warp of a block is elected to load by TMA and to issue tcgen05: the first that comes there.
                elected.setdefault(number, count)
        # Warps that go one way are traced once.
        times = self.launch.warps / len(program.ways)
        used, moved = {"issue": 0.0}, 0.0
        for number, count in counts.items():
            block = self.blocks[number]
            for need in self.needs[block.first : block.last + 1]:
                used["issue"] += count * times
                if need.unit != "issue":
                    # tcgen05 takes all four partitions.
                    taken = elected[number] * PARTITIONS if need.does == units.TENSOR_ISSUE else count * times
                    used[need.unit] = used.get(need.unit, 0.0) + taken * need.cycles
                moved += need.bytes * (elected[number] if need.does == units.TMA else count * times)
        return _Work(used, moved)

    def _supply(self) -> Supply:
        machine, architecture = self.machine, self.machine.architecture
        active = min(machine.sms, self.count)
        share = min(1.0, self.dram_bytes / self.moved) if self.moved else 0.0
        l2 = min(architecture.l2_bytes, machine.l2_gbs / machine.clock_ghz / active)
        dram = min(architecture.l2_bytes, machine.dram_gbs / machine.clock_ghz / active)
        latency = architecture.latency["l2"] * (1 - share) + architecture.latency["dram"] * share
        # What comes from memory passes through the cache too: the slower of the two sets the pace.
        return Supply(latency, min(l2, dram / share) if share else l2)

    def _busy(self, cycles: float) -> dict[str, float]:
        """The share of the time for which each unit of an SM is busy, over all SMs."""
        sms = self.machine.sms
        total = {
            name: self.count * self._mean(work.units.get(name, 0.0) for work in self.work)
            for name in ("issue", "fma", "alu", "special", "tensor", "uniform", "shared")
        }
        return {name: value / (cycles * sms * (1 if name == "shared" else PARTITIONS)) for name, value in total.items()}

    def _until_last(self) -> float:
        """Cycles from the first block's begin to the last block's end."""
        sms = self.machine.sms
        slots = self.most * sms
        if len(self.programs) == 1:
            whole, rest = divmod(self.count, slots)
            cycles = whole * self._block(0, self.most) if whole else 0.0
            return cycles + (self._block(0, -(-rest // sms)) if rest else 0.0)
        resident = min(self.most, -(-self.count // sms))
        took = [self._block(n, resident) for n in range(len(self.programs))]
        if self.count <= slots:
            return max(took)
        # Programs are handed out in the order of the grid, each to the slot that is free first.
        played = min(self.count, PLAYED)
        free = [0.0] * slots
        for program in self._order(played):
            heapq.heapreplace(free, free[0] + took[program])
        return max(free) + (self.count - played) * self._mean(took) / slots

    def _order(self, count: int) -> list[int]:
        """Which program stands for each of `count` ones spread over the grid, in the grid's order."""
        x, y, _ = self.launch.grid
        places = [place for program in self.programs for place in program.places]
        owners = [n for n, program in enumerate(self.programs) for _ in program.places]
        axes = [axis for axis in range(3) if len({place[axis] for place in places}) > 1]
        found, known = list[int](), dict[tuple[int, ...], int]()
        for step in range(count):
            number = step * self.count // count
            place = (number % x, number // x % y, number // (x * y))
            key = tuple(place[axis] for axis in axes)
            if key not in known:
                distances = [sum(abs(place[axis] - each[axis]) for axis in axes) for each in places]
                known[key] = owners[distances.index(min(distances))]
            found.append(known[key])
        return found

    def _block(self, number: int, blocks: int) -> float:
        """Cycles that a program takes while an SM holds `blocks` like it."""
        shorts = self._shortened(self.programs[number], blocks)
        key = tuple(tuple(short.blocks) for short in shorts), blocks
        paces = self.paces.setdefault(blocks, [])
        if key not in self.walks:
            if len(paces) >= WALKS:
                issue = self.work[number].issue
                near = min(paces, key=lambda pace: abs(pace[0] - issue))
                return near[1] * issue / near[0]
            self.walks[key] = self._walked(shorts, blocks)
            paces.append((self.work[number].issue, self.walks[key](shorts)))
        return self.walks[key](shorts)

    def _shortened(self, program: Program, blocks: int) -> list[Short]:
        times = self.launch.warps / len(program.ways) * blocks
        shorts = list[Short]()
        for trips in TRIPS:
            shorts = [shorten(way, self.kernel.nests, self.sizes, trips) for way in program.ways]
            if times * sum(self.sizes[n] for short in shorts for n in short.blocks) <= BUDGET:
                break
        return shorts

    def _walked(self, shorts: Sequence[Short], blocks: int) -> Callable[[Sequence[Short]], float]:
        """Walk an SM full of a program; what comes back adds the trips that were left out."""
        ways, starts = list[list[int]](), list[list[int]]()
        for short in shorts:
            way, start = list[int](), list[int]()
            for number in short.blocks:
                start.append(len(way))
                way += range(self.blocks[number].first, self.blocks[number].last + 1)
            ways.append(way)
            starts.append(start)
        each = self.launch.warps // len(shorts)
        marks = [sorted({start[mark] for mark in short.marks}) for short, start in zip(shorts, starts, strict=True)]
        walked = walk(
            self.kernel.code,
            self.needs,
            ways * each,
            blocks=blocks,
            architecture=self.machine.architecture,
            supply=self.supply,
            marks=marks * each,
        )
        self.doubts.update(dict.fromkeys(walked.doubts))
        self.first = self.first or (walked, ways * each, blocks)

        def until(like: Sequence[Short]) -> float:
            # Warps that go one way take turns in being behind: the mean of them is the pace of all.
            paces = [list[float]() for _ in starts]
            for number, times in enumerate(walked.times):
                start, short = starts[number % len(starts)], like[number % len(starts)]
                paces[number % len(starts)].append(short.extra({mark: times[start[mark]] for mark in short.marks}))
            return max(walked.ends) + max(map(statistics.fmean, paces))

        return until


def _bound(busy: dict[str, float]) -> str:
    """What bounds a launch: memory, a unit, the schedulers, or else the chain of dependences."""
    if max(busy["dram"], busy["l2"]) >= BUSY:
        return "memory"
    for name in ("tensor", "special", "shared"):
        if busy[name] >= BUSY:
            return name
    return "issue" if max(busy[name] for name in ("issue", "fma", "alu")) >= BUSY else "chain"
