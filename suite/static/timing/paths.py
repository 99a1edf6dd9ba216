"""Which way a warp goes: the blocks that it executes, found by executing the instructions that decide it.

    paths = Paths(decode(listing))
    paths.depends_on                                          # {"ctaid.x", "tid"}
    paths.trace(constants, ctaid=(3, 0, 0), warp=0)           # [0, 1, 2, 2, 2, 3]: numbers of flow.blocks

Of the machine code only that is executed on which a jump depends: a slice backwards from the predicates of all jumps,
over registers that are live there (Weiser 1984, "Program Slicing"). What comes from memory is not known, nor what is
computed from it. That matters where it decides a jump: then UnknownPath says where it came from.

A value is kept for the first and the last lane of the warp, 0 and 31, which differ only where it depends on the thread.
Where the two part, the warp executes both ways: first that of the instruction below, then the other, up to the block
through which both lead to the end; lanes that have ended are left behind. A wait for a barrier succeeds at the first
try, as does the compare-and-swap of a lock, and no way that leads to a trap is taken. A load is answered by `memory`,
where it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, Protocol, cast

from suite.static.timing.flow import Block, Loop, blocks, loops
from suite.static.timing.integers import (
    ALL,
    PREDICATES,
    STACK,
    UNIFORM,
    UNIFORM_PREDICATES,
    Constant,
    Literal,
    Load,
    Operation,
    Source,
    Special,
    guard,
    on_stack,
    operand,
    operation,
    split,
    written,
)
from suite.static.timing.sass import Instruction

Memory = Callable[[int, int], "int | None"]
Guess = Callable[[Instruction], "bool | None"]
# Blocks after which a path counts as one that does not end.
LIMIT = 1 << 22
# The same where comparisons are guessed: one that is always true may be the way back.
GUESSED_LIMIT = 1 << 17
LANES = (0, 31)
_BOTH = (0, 1)
# What a special register is read for, by its name.
_PLACES = {"CTAID.X": "ctaid.x", "CTAID.Y": "ctaid.y", "CTAID.Z": "ctaid.z"}
_THREAD = ("TID.X", "LANEID", "ELECTED", "EQMASK", "LTMASK", "LEMASK", "GTMASK", "GEMASK", "VIRTID", "TID")
# Jumps to where a register says.
_TABLES = ("BRX", "BRXU", "JMX")
# A loop of at most so many instructions around a compare-and-swap waits for a lock.
_LOCK = 200


class UnknownPath(ValueError):
    """A jump depends on what is not known before the kernel runs. address: that of the jump, None without one"""

    def __init__(self, told: str, address: int | None = None) -> None:
        super().__init__(told)
        self.address = address


class Constants(Protocol):
    """The constant banks of a launch."""

    def word(self, bank: int, offset: int) -> int | None:
        """32 bits, or None where they are not known."""
        ...


class _Unknown:
    """A value of which some bits are not known. It cannot be computed with.

    at, why: position of the instruction that it comes from, or -1, and what that is
    mask:    the bits that are not known; value: the others
    """

    __slots__ = ("at", "mask", "value", "why")

    def __init__(self, at: int, why: str, value: int = 0, mask: int = ALL) -> None:
        self.at, self.why, self.value, self.mask = at, why, value & ~mask, mask

    def __bool__(self) -> bool:
        raise TypeError(self.why)


class _Lanes:
    """The values of the first and the last lane, where they differ."""

    __slots__ = ("of",)

    def __init__(self, first: object, last: object) -> None:
        self.of = (first, last)

    def __bool__(self) -> bool:
        raise TypeError("the lanes differ")


@dataclass
class _Step:
    """One instruction of the slice: registers by number in the state, which also holds constants.

    run: writes the results, where all values are known and the same in all lanes; else it raises TypeError
    """

    at: int
    guard: int | None
    inverted: bool
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    function: Callable[..., object] | None
    across: bool
    bits: str
    load: Load | None
    run: Callable[[list], None]


@dataclass
class _End:
    """How a block ends.

    kind:       "next", "exit", "jump" or "return"
    conditions: registers that must all be true, or false where they are inverted, for a jump or exit; none: always
    target:     number of the block to which it jumps; -1 where that is computed
    """

    kind: str
    at: int
    conditions: tuple[tuple[int, bool], ...]
    target: int


class Paths:
    """The ways through one kernel's machine code.

    blocks:     those of `flow.blocks`, by the numbers of which a path is told
    depends_on: what a path depends on beside the constants: any of "ctaid.x", "ctaid.y", "ctaid.z" and "tid"
    slice:      positions of the instructions that are executed to find it
    watched:    positions of instructions whose own predicates are followed too, for `counted`
    locked:     whether a way that was traced leads out of a wait for a lock

    Raises ValueError where a jump goes to no instruction.
    """

    def __init__(self, code: Sequence[Instruction], watched: Collection[int] = ()) -> None:
        self.code = code
        self.watched = frozenset(watched)
        self.blocks: list[Block] = blocks(code)
        self._numbers = {code[each.first].address: number for number, each in enumerate(self.blocks)}
        self._after = _edges(code, self.blocks)
        self._operations: dict[int, Operation | Load | None] = self._stack()
        self.slice = self._sliced()
        self._registers = max((1 + each for at in self._operations for each in self._named(at)), default=STACK)
        self._registers = max(self._registers, STACK)
        self._counts = {at: self._registers + n for n, at in enumerate(sorted(self.watched))}
        self._registers += len(self._counts)
        self._sources: dict[Source, int] = {}
        self._steps = [list(self._steps_of(each)) for each in self.blocks]
        self._ends = [self._end(each.last) for each in self.blocks]
        self._joins: list[int | None] | None = None
        self._loops: list[Loop] | None = None
        self.locked = False
        self.depends_on = frozenset(self._dependences())

    def trace(
        self,
        constants: Constants,
        ctaid: tuple[int, int, int] = (0, 0, 0),
        warp: int = 0,
        memory: Memory | None = None,
        guess: Guess | None = None,
    ) -> list[int]:
        """The numbers of the blocks that a warp executes, in their order, from the first to one that ends it.

        memory: what a load of so many bytes (1, 2 or 4) at an address finds, None where it is not known
        guess:  what a comparison of data is taken to tell, None where it stays unknown; a loop that never ends by it is
                given up early

        Raises UnknownPath where a jump depends on what is not known, or the path does not end.
        """
        return _Walk(self, constants, ctaid, warp, memory, guess).walked()

    def counted(
        self,
        constants: Constants,
        ctaid: tuple[int, int, int] = (0, 0, 0),
        warp: int = 0,
        memory: Memory | None = None,
        guess: Guess | None = None,
    ) -> tuple[list[int], dict[int, int]]:
        """The path, and of each watched instruction how often its predicate lets it be executed, or may do so."""
        walk = _Walk(self, constants, ctaid, warp, memory, guess)
        path = walk.walked()
        return path, {at: cast("int", walk.state[place]) for at, place in self._counts.items()}

    def _steps_of(self, block: Block) -> Iterator[_Step]:
        for at in range(block.first, block.last + 1):
            if at in self._counts:
                yield self._watch(at)
            if at in self.slice:
                yield self._step(at)

    def _watch(self, at: int) -> _Step:
        """A step that counts the executions of an instruction."""
        register, inverted = guard(self.code[at].predicate) if self.code[at].predicate else (None, False)
        place = self._counts[at]

        def count(state: list) -> None:
            state[place] += 1

        if register is None:
            return _Step(at, None, False, (), (), None, False, "", None, _nothing if inverted else count)
        return _Step(at, register, inverted, (), (place,), None, False, "", None, _guarded(register, inverted, count))

    def _operation(self, at: int) -> Operation | Load | None:
        if at not in self._operations:
            self._operations[at] = operation(self.code[at])
        return self._operations[at]

    def _stack(self) -> dict[int, Operation | Load | None]:
        """Loads from the stack and stores to it, as copies; where one has a computed address, none is followed."""
        accesses = [at for at, each in enumerate(self.code) if each.name in ("LDL", "STL")]
        made = {at: on_stack(self.code[at]) for at in accesses}
        pointer = operand("R1")
        assert pointer is not None
        moved = [
            at
            for at, each in enumerate(self.code)
            if accesses and at > accesses[0] and each.operands.startswith("R1,") and pointer.source in written(each)
        ]
        return dict.fromkeys(accesses) if moved or None in made.values() else dict(made)

    def _sliced(self) -> frozenset[int]:
        """The instructions on which a jump depends, by the registers that are live on the ways to it."""
        live: list[int] = [0] * len(self.blocks)
        before = dict[int, list[int]]()
        for number, after in enumerate(self._after):
            for each in after:
                before.setdefault(each, []).append(number)
        effects = [self._effect(at) for at in range(len(self.code))]
        found = set[int]()
        waiting = dict.fromkeys(reversed(range(len(self.blocks))))
        while waiting:
            number = next(iter(waiting))
            del waiting[number]
            needed = 0
            for each in self._after[number]:
                needed |= live[each]
            block = self.blocks[number]
            for at in range(block.last, block.first - 1, -1):
                writes, kills = effects[at]
                if writes & needed:
                    found.add(at)
                    needed = needed & ~kills | self._needs(at)
                if decides := _decides(self.code[at]):
                    needed |= _mask(decides)
                if at in self.watched and (predicate := self.code[at].predicate):
                    register = guard(predicate)[0]
                    needed |= 0 if register is None else 1 << register
            if needed & ~live[number]:
                live[number] |= needed
                waiting.update(dict.fromkeys(before.get(number, [])))
        return frozenset(found)

    def _effect(self, at: int) -> tuple[int, int]:
        """Registers that an instruction writes, and those of them that have no other value afterwards, as bits."""
        instruction = self.code[at]
        made = self._operation(at)
        writes = written(instruction) if made is None else made.writes
        if isinstance(made, Operation):
            writes = (*writes, *made.unknown)
        if instruction.predicate:
            kills: Sequence[int] = ()
        elif made is None:
            kills = writes[:1]
        else:
            kills = writes
        return _mask(writes), _mask(kills)

    def _named(self, at: int) -> Iterator[int]:
        """The registers that an instruction with an operation names."""
        if made := self._operations[at]:
            yield from (each for each in made.reads if isinstance(each, int))
            yield from made.writes
            yield from made.unknown if isinstance(made, Operation) else ()

    def _needs(self, at: int) -> int:
        made, predicate = self._operation(at), self.code[at].predicate
        reads = [each for each in made.reads if isinstance(each, int)] if made else []
        register = guard(predicate)[0] if predicate else None
        return _mask(reads if register is None else [*reads, register])

    def _place(self, source: Source) -> int:
        """Where the state holds a source."""
        if isinstance(source, int):
            return source
        return self._sources.setdefault(source, self._registers + len(self._sources))

    def _step(self, at: int) -> _Step:
        instruction, made = self.code[at], self._operation(at)
        register, inverted = guard(instruction.predicate) if instruction.predicate else (None, False)
        never = bool(instruction.predicate) and register is None and inverted
        if never:
            return _Step(at, None, False, (), (), None, False, "", None, _nothing)
        if made is None:
            writes = written(instruction)
            return _Step(at, register, inverted, (), writes, None, False, "", None, _refuse)
        reads = tuple(map(self._place, made.reads))
        if isinstance(made, Load):
            return _Step(at, register, inverted, reads, made.writes, None, False, "", made, _refuse)
        if made.across:
            return _Step(at, register, inverted, reads, made.writes, made.function, True, "", None, _refuse)
        if made.unknown:
            writes = (*made.writes, *made.unknown)
            return _Step(at, register, inverted, reads, writes, made.function, False, "", None, _refuse)
        run = _runner(reads, made.writes, made.function)
        if register is not None:
            run = _guarded(register, inverted, run)
        return _Step(at, register, inverted, reads, made.writes, made.function, False, made.bits, None, run)

    def _end(self, at: int) -> _End:
        instruction = self.code[at]
        name = instruction.name
        if name == "RET":
            kind = "return"
        elif name in ("EXIT", "KILL"):
            kind = "exit"
        else:
            kind = "jump" if instruction.target is not None or name in _TABLES else "next"
        # Taken where lanes of a warp are apart, which they are not after a join; or where they are together.
        never = "DIV" in instruction.modifiers
        conditions = [] if "CONV" in instruction.modifiers else list(_conditions(instruction))
        if kind == "next" or never or (-1, False) in conditions:
            return _End("next", at, (), -1)
        target = -1 if instruction.target is None else self._numbers[instruction.target]
        return _End(kind, at, tuple(each for each in conditions if each[0] >= 0), target)

    def _dependences(self) -> Iterator[str]:
        for source in self._sources:
            if isinstance(source, Special):
                if source.name in _PLACES:
                    yield _PLACES[source.name]
                elif source.name in _THREAD:
                    yield "tid"

    def join(self, number: int) -> int | None:
        """The block through which all ways from a block lead to the end; None where they end apart."""
        if self._joins is None:
            self._joins = _joins([each or (len(self.blocks),) for each in self._ways_out()])
        return self._joins[number]

    def _ways_out(self) -> list[tuple[int, ...]]:
        """Where control goes from each block, with its end where it has no other: the way of an EXIT on a condition."""
        end = len(self.blocks)
        before = [list[int]() for _ in range(end)]
        for number, after in enumerate(self._after):
            for each in after:
                before[each].append(number)
        reaching, waiting = set[int](), [number for number, after in enumerate(self._after) if not after]
        while waiting:
            number = waiting.pop()
            if number not in reaching:
                reaching.add(number)
                waiting += before[number]
        leaves = {n for n, each in enumerate(self._ends) if each.kind == "exit"} - reaching
        return [(*after, end) if number in leaves else after for number, after in enumerate(self._after)]

    def trapped(self, end: _End) -> bool | None:
        """Whether the jump leads to a trap, or else what stands below it does; None: neither or both."""
        below = self._numbers.get(self.code[end.at + 1].address) if end.at + 1 < len(self.code) else None
        if below is None or end.target < 0:
            return None
        jump, stay = self._traps(end.target), self._traps(below)
        return None if jump == stay else jump

    def _traps(self, number: int) -> bool:
        """Whether the one way from a block leads to BPT.TRAP."""
        seen = set[int]()
        while number not in seen:
            seen.add(number)
            block = self.blocks[number]
            if any(each.name == "BPT" for each in self.code[block.first : block.last + 1]):
                return True
            if len(self._after[number]) != 1:
                return False
            (number,) = self._after[number]
        return False

    def lock(self, at: int, unknown: _Unknown) -> Loop | None:
        """The loop around a jump that waits for a lock: small, with a compare-and-swap that decides the jump."""
        if self._loops is None:
            self._loops = loops(self.code)
        around = [loop for loop in self._loops if at in loop.body]
        if not around or len((inner := min(around, key=lambda loop: len(loop.body))).body) > _LOCK:
            return None
        swaps = any(self.code[each].name.startswith("ATOM") and "CAS" in self.code[each].opcode for each in inner.body)
        return inner if swaps and unknown.at in inner.body else None


def trace(code: Sequence[Instruction], constants: Constants, *args: Any, **kwargs: Any) -> list[int]:
    """`Paths.trace` of code that is traced once."""
    return Paths(code).trace(constants, *args, **kwargs)


def depends_on(code: Sequence[Instruction]) -> frozenset[str]:
    """`Paths.depends_on` of code."""
    return Paths(code).depends_on


def _mask(registers: Sequence[int]) -> int:
    found = 0
    for each in registers:
        if each >= 0:
            found |= 1 << each
    return found


def _conditions(instruction: Instruction) -> Iterator[tuple[int, bool]]:
    """The predicates of a jump, before and among its operands, and whether they are inverted; -1 for a constant."""
    texts = [instruction.predicate] if instruction.predicate else []
    texts += split(instruction.operands) if instruction.name not in ("RET", *_TABLES) else []
    for text in texts:
        found = operand(text)
        if found is not None and found.predicate:
            inverted = found.change == "!"
            if isinstance(found.source, int):
                yield found.source, inverted
            else:
                yield -1, not inverted


def _decides(instruction: Instruction) -> tuple[int, ...]:
    """The registers on which it depends where control goes after an instruction."""
    if instruction.target is None and instruction.name not in ("EXIT", "RET", "KILL", *_TABLES):
        return ()
    if {"DIV", "CONV"} & set(instruction.modifiers):
        return ()
    found = [register for register, _ in _conditions(instruction) if register >= 0]
    if instruction.name == "RET" and (place := _return_register(instruction)) is not None:
        found.append(place)
    return tuple(found)


def _return_register(instruction: Instruction) -> int | None:
    words = instruction.operands.split()
    found = operand(words[0]) if words else None
    return found.source if found is not None and isinstance(found.source, int) else None


def _edges(code: Sequence[Instruction], parts: Sequence[Block]) -> list[tuple[int, ...]]:
    """The blocks to which control may go from each; from a RET to all that come after a CALL."""
    returns = tuple(
        number + 1 for number, each in enumerate(parts) if code[each.last].name == "CALL" and number + 1 < len(parts)
    )
    found = []
    for each in parts:
        last = code[each.last]
        after = each.after
        if last.name == "RET":
            after = tuple(dict.fromkeys((*after, *returns)))
        elif last.name == "CALL" and not last.predicate and after:
            after = after[:1]
        found.append(after)
    return found


def _joins(after: Sequence[Sequence[int]]) -> list[int | None]:
    """The nearest post-dominator of each block; None where that is the end, whose number is the one after the last.

    By the algorithm of Cooper, Harvey and Kennedy (2001), "A Simple, Fast Dominance Algorithm".
    """
    end = len(after)
    before: list[list[int]] = [[] for _ in range(end + 1)]
    for number, each in enumerate(after):
        for target in each:
            before[target].append(number)
    order, seen = list[int](), {end}
    stack = [(end, iter(before[end]))]
    while stack:
        number, left = stack[-1]
        for each in left:
            if each not in seen:
                seen.add(each)
                stack.append((each, iter(before[each])))
                break
        else:
            order.append(number)
            stack.pop()
    rank = {number: place for place, number in enumerate(order)}
    found: dict[int, int] = {end: end}

    def common(a: int, b: int) -> int:
        while a != b:
            while rank[a] < rank[b]:
                a = found[a]
            while rank[b] < rank[a]:
                b = found[b]
        return a

    changed = True
    while changed:
        changed = False
        for number in reversed(order[:-1]):
            known = [each for each in after[number] if each in found]
            new = known[0]
            for each in known[1:]:
                new = common(each, new)
            if found.get(number) != new:
                found[number], changed = new, True
    return [found.get(number) if found.get(number, end) != end else None for number in range(end)]


def _nothing(state: list) -> None:
    pass


def _refuse(state: list) -> None:
    raise TypeError


def _runner(reads: tuple[int, ...], writes: tuple[int, ...], function: Callable[..., object]) -> Callable[[list], None]:
    """A function that reads and writes the state, for the most frequent counts without a detour."""
    if len(writes) == 1 and writes[0] >= 0:
        (to,) = writes
        if len(reads) == 1:
            (a,) = reads

            def run1(state: list) -> None:
                state[to] = function(state[a])

            return run1
        if len(reads) == 2:
            a, b = reads

            def run2(state: list) -> None:
                state[to] = function(state[a], state[b])

            return run2
        if len(reads) == 3:
            a, b, c = reads

            def run3(state: list) -> None:
                state[to] = function(state[a], state[b], state[c])

            return run3

    def run(state: list) -> None:
        made = function(*[state[each] for each in reads])
        for to, value in zip(writes, made if isinstance(made, tuple) else (made,), strict=True):
            if to >= 0:
                state[to] = value

    return run


def _guarded(register: int, inverted: bool, run: Callable[[list], None]) -> Callable[[list], None]:
    if inverted:

        def unless(state: list) -> None:
            if not state[register]:
                run(state)

        return unless

    def when(state: list) -> None:
        if state[register]:
            run(state)

    return when


def _of(value: object, lane: int) -> object:
    return value.of[lane] if isinstance(value, _Lanes) else value


def _together(first: object, last: object) -> object:
    if first is last or (isinstance(first, int) and isinstance(last, int) and first == last):
        return first
    if isinstance(first, _Unknown) and isinstance(last, _Unknown) and first.mask == last.mask == ALL:
        return first
    return _Lanes(first, last)


def _either(a: object, b: object, unknown: _Unknown) -> object:
    """One of two values, it is not known which: the bits that both have."""
    masks, values = zip(*((x.mask, x.value) if isinstance(x, _Unknown) else (0, x) for x in (a, b)), strict=True)
    mask = masks[0] | masks[1] | (values[0] ^ values[1])
    return _Unknown(unknown.at, unknown.why, values[0], mask) if mask else a


class _Walk:
    """One path."""

    def __init__(
        self,
        paths: Paths,
        constants: Constants,
        ctaid: tuple[int, int, int],
        warp: int,
        memory: Memory | None,
        guess: Guess | None,
    ) -> None:
        self.paths, self.memory, self.guess, self.ctaid, self.warp = paths, memory, guess, ctaid, warp
        self.limit = LIMIT if guess is None else GUESSED_LIMIT
        self.code = paths.code
        self.path: list[int] = []
        # A register that was never written has any value: of a word of flags, bits are set one by one.
        self.state: list[object] = [0] * (paths._registers + len(paths._sources))
        for source, place in paths._sources.items():
            self.state[place] = self._value(source, constants)

    def walked(self) -> list[int]:
        if self.paths.blocks:
            self._from(0, _BOTH, None)
        return self.path

    def _value(self, source: Source, constants: Constants) -> object:
        if isinstance(source, Literal):
            return source.value
        if isinstance(source, Constant):
            value = constants.word(source.bank, source.offset)
            name = f"c[0x{source.bank:x}][0x{source.offset:x}]"
            return _Unknown(-1, f"{name}, which is not known") if value is None else value & ALL
        assert isinstance(source, Special)
        return self._special(source.name)

    def _special(self, name: str) -> object:
        first = 32 * self.warp
        known: dict[str, object] = {
            "CTAID.X": self.ctaid[0],
            "CTAID.Y": self.ctaid[1],
            "CTAID.Z": self.ctaid[2],
            # The block has one dimension, so that the packed form of all three is that of the first.
            "TID.X": _Lanes(first + LANES[0], first + LANES[1]),
            "TID": _Lanes(first + LANES[0], first + LANES[1]),
            "TID.Y": 0,
            "TID.Z": 0,
            "LANEID": _Lanes(*LANES),
            "ELECTED": _Lanes(1, 0),
            "EQMASK": _Lanes(1, 1 << 31),
            "LTMASK": _Lanes(0, (1 << 31) - 1),
            "LEMASK": _Lanes(1, ALL),
            "GTMASK": _Lanes(ALL - 1, 0),
            "GEMASK": _Lanes(ALL, 1 << 31),
            "CGACTAID": 0,
        }
        return known.get(name) if name in known else _Unknown(-1, f"SR_{name}, which is not known")

    def _from(self, number: int, lanes: tuple[int, ...], stop: int | None) -> tuple[int, ...]:
        """Go from a block until another with some lanes; returns those that have not ended."""
        paths, path, state = self.paths, self.path, self.state
        while number != stop:
            path.append(number)
            if len(path) > self.limit:
                raise UnknownPath(
                    f"a warp does not end within {self.limit} blocks; give it fewer trips, as a smaller T does"
                )
            if lanes == _BOTH:
                for step in paths._steps[number]:
                    try:
                        step.run(state)
                    except TypeError:
                        self._slowly(step, lanes)
            else:
                for step in paths._steps[number]:
                    self._slowly(step, lanes)
            end = paths._ends[number]
            if end.kind == "next":
                number += 1
                if number == len(paths.blocks):
                    return ()
                continue
            goes = self._taking(end, lanes)
            if end.kind == "exit":
                lanes = tuple(each for each in lanes if each not in goes)
                if not lanes:
                    return ()
                number += 1
            elif not goes:
                number += 1
            elif goes == lanes:
                number = end.target if end.target >= 0 else self._computed_target(end, goes)
            else:
                join = paths.join(number)
                target = end.target if end.target >= 0 else self._computed_target(end, goes)
                left = self._from(number + 1, tuple(each for each in lanes if each not in goes), join)
                lanes = tuple(sorted((*left, *self._from(target, goes, join))))
                if not lanes or join is None:
                    return ()
                number = join
        return lanes

    def _taking(self, end: _End, lanes: tuple[int, ...]) -> tuple[int, ...]:
        """The lanes that a jump takes with it, or that EXIT ends."""
        taken = lanes
        for register, inverted in end.conditions:
            value = self.state[register]
            if isinstance(value, int):
                if bool(value) == inverted:
                    return ()
            else:
                taken = self._where(end, value, inverted, taken)
        return taken

    def _where(self, end: _End, value: object, inverted: bool, lanes: tuple[int, ...]) -> tuple[int, ...]:
        found = []
        for lane in lanes:
            held = _of(value, lane)
            if isinstance(held, _Unknown):
                return self._beyond(end, held, lanes)
            if bool(held) != inverted:
                found.append(lane)
        return tuple(found)

    def _beyond(self, end: _End, unknown: _Unknown, lanes: tuple[int, ...]) -> tuple[int, ...]:
        """The lanes that jump where it is not known whether: away from a trap, or out of a wait for a lock."""
        if end.kind == "jump" and (trapped := self.paths.trapped(end)) is not None:
            return () if trapped else lanes
        loop = self.paths.lock(end.at, unknown) if end.kind == "jump" else None
        if loop is None:
            raise self._unknown(end, unknown)
        inside = {self.code[each].address for each in loop.body}
        below = end.at + 1 < len(self.code) and self.code[end.at + 1].address in inside
        if (self.code[end.at].target in inside) == below:
            raise self._unknown(end, unknown)
        self.paths.locked = True
        return lanes if below else ()

    def _unknown(self, end: _End, unknown: _Unknown) -> UnknownPath:
        last = self.code[end.at]
        predicate = f"@{last.predicate} " if last.predicate else ""
        text = f"{predicate}{last.opcode} {last.operands}".strip()
        return UnknownPath(f"`{text}` at 0x{last.address:04x} depends on {unknown.why}", last.address)

    def _computed_target(self, end: _End, lanes: tuple[int, ...]) -> int:
        """The block to which RET goes: its register has the address, and the number after it is added."""
        last = self.code[end.at]
        if end.kind == "return" and (register := _return_register(last)) is not None:
            value = _of(self.state[register], lanes[0])
            if isinstance(value, _Unknown):
                raise self._unknown(end, value)
            offset = int(last.operands.split()[-1], 0)
            assert isinstance(value, int)
            if value + offset in self.paths._numbers:
                return self.paths._numbers[value + offset]
        raise self._unknown(end, _Unknown(end.at, "an address that is looked up, which is not followed"))

    def _slowly(self, step: _Step, lanes: tuple[int, ...]) -> None:
        """Execute a step lane by lane: of values that are not known, or differ, or for some lanes only."""
        state, made, active = self.state, dict[int, tuple[object, ...]](), list[int]()
        if step.run is _nothing:
            return
        if step.function is None and step.load is None and step.run is not _refuse:
            held = [_of(state[step.guard], lane) for lane in lanes] if step.guard is not None else [1]
            if any(isinstance(each, _Unknown) or bool(each) != step.inverted for each in held):
                state[self.paths._counts[step.at]] += 1  # type: ignore[operator]
            return
        doubted = dict[int, _Unknown]()
        for lane in lanes:
            held = 1 if step.guard is None else _of(state[step.guard], lane)
            if isinstance(held, _Unknown):
                doubted[lane] = held
                active.append(lane)
            elif bool(held) != step.inverted:
                active.append(lane)
        if step.across and active:
            values = [tuple(_of(state[each], lane) for lane in active) for each in step.reads]
            result = self._computed(step, [values[0]] if values else [], [x for each in values for x in each])
            made |= dict.fromkeys(active, result)
        else:
            for lane in active:
                values = [_of(state[each], lane) for each in step.reads]
                if step.load is not None:
                    made[lane] = self._loaded(step, step.load, values)
                else:
                    if step.reads and step.function is not None and lanes != _BOTH:
                        values = [
                            self._elected(each, value, lanes) for each, value in zip(step.reads, values, strict=True)
                        ]
                    made[lane] = self._computed(step, values, values)
        for lane, held in doubted.items():
            # What was there, or what the instruction writes.
            before = (0 if to < 0 else _of(state[to], lane) for to in step.writes)
            made[lane] = tuple(_either(a, b, held) for a, b in zip(before, made[lane], strict=True))
        for place, to in enumerate(step.writes):
            if to < 0 or not made:
                continue
            before = state[to]
            if UNIFORM <= to < PREDICATES or UNIFORM_PREDICATES <= to < STACK:
                # One register for the warp: the lanes that are not here see it too.
                value = next(iter(made.values()))[place]
                if len(made) > 1:
                    value = _together(*(made[lane][place] for lane in sorted(made)))
                state[to] = value
                continue
            first, last = (made[lane][place] if lane in made else _of(before, lane) for lane in _BOTH)
            state[to] = _together(first, last)

    def _elected(self, place: int, value: object, lanes: tuple[int, ...]) -> object:
        """Among the lanes that are here the first is elected."""
        return 1 if place == self.paths._sources.get(Special("ELECTED")) and len(lanes) == 1 else value

    def _computed(self, step: _Step, values: Sequence[object], all_: Sequence[object]) -> tuple[object, ...]:
        if step.function is None:
            return self._guessed(step, self._not_followed(step))
        try:
            found = step.function(*values)
        except TypeError:
            unknown = next((each for each in all_ if isinstance(each, _Unknown)), None)
            if step.bits and unknown is not None:
                return self._by_bits(step, step.function, values, unknown)
            if unknown is None:
                if not step.across:
                    raise
                unknown = self._not_followed(step)
            return self._guessed(step, unknown)
        results = found if isinstance(found, tuple) else (found,)
        if len(results) < len(step.writes):
            results += (self._not_followed(step),) * (len(step.writes) - len(results))
        return results

    def _guessed(self, step: _Step, unknown: _Unknown) -> tuple[object, ...]:
        """Results that are not known; but what a comparison tells may be guessed, and the second is the opposite."""
        if self.guess is not None and all(each < 0 or PREDICATES <= each < STACK for each in step.writes):
            told = self.guess(self.code[step.at])
            if told is not None:
                return (int(told), int(not told))[: len(step.writes)]
        # A predicate has one bit.
        flag = _Unknown(unknown.at, unknown.why, 0, 1)
        return tuple(flag if PREDICATES <= to < STACK else unknown for to in step.writes)

    def _by_bits(
        self, step: _Step, function: Callable[..., object], values: Sequence[object], unknown: _Unknown
    ) -> tuple[object, ...]:
        """Results of which a bit depends on one bit of each value: bits that are not known are tried as both."""
        choices = [(each.value, each.value | each.mask) if isinstance(each, _Unknown) else (each,) for each in values]
        tried = [function(*each) for each in product(*choices)]
        made = list[object]()
        for results in zip(*(each if isinstance(each, tuple) else (each,) for each in tried), strict=True):
            mask = 0
            for each in results:
                mask |= each ^ results[0]
            made.append(_Unknown(unknown.at, unknown.why, results[0], mask) if mask else results[0])
        first = made[0]
        if step.bits == "test" and isinstance(first, _Unknown) and not first.value:
            made[1] = _Unknown(unknown.at, unknown.why, 0, 1)
        return tuple(made)

    def _not_followed(self, step: _Step) -> _Unknown:
        instruction = self.code[step.at]
        loads = instruction.name in ("LDG", "LD", "LDS", "LDSM", "LDL", "SHFL") or instruction.name.startswith("ATOM")
        told = "depends on data" if loads else "is not followed"
        return _Unknown(step.at, f"{instruction.opcode} at 0x{instruction.address:04x}, which {told}")

    def _loaded(self, step: _Step, load: Load, values: Sequence[object]) -> tuple[object, ...]:
        """The words that `memory` finds at an address."""
        address, place = load.offset, 0
        for _, upper, sign in load.address:
            for n in range(1 + (upper is not None)):
                if self.memory is None or not isinstance(value := values[place], int):
                    return (self._not_followed(step),) * len(load.writes)
                address += sign * (value << 32 * n)
                place += 1
        size, found = min(4, load.size), list[object]()
        for n in range(len(load.writes)):
            known = self.memory((address & (1 << 64) - 1) + 4 * n, size) if self.memory else None
            if known is None:
                found.append(self._not_followed(step))
                continue
            known &= (1 << 8 * size) - 1
            negative = load.signed and known >> 8 * size - 1
            found.append((known - (1 << 8 * size)) & ALL if negative else known)
        return tuple(found)
