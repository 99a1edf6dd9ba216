"""Where control goes in machine code: blocks of instructions, and the loops that they make.

A loop is a natural one: a jump back to an instruction through which every way to the jump leads. A jump back from code
that stands behind the last EXIT, where the compiler puts what is seldom executed, makes none.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from suite.static.timing.sass import Instruction

_ENDS = ("EXIT", "RET", "BRX", "JMX", "KILL")


@dataclass(frozen=True)
class Block:
    """Instructions from `first` to `last`, by position, that run one after another; `after`: numbers of the next."""

    first: int
    last: int
    after: tuple[int, ...]


@dataclass(frozen=True)
class Loop:
    """A natural loop.

    first:  position of the instruction to which it jumps back
    last:   positions of the jumps back
    body:   positions of all its instructions, those of inner loops too, in the order of the code
    """

    first: int
    last: tuple[int, ...]
    body: tuple[int, ...]

    def holds(self, other: Loop) -> bool:
        """Whether another loop lies inside of this one."""
        return self.first != other.first and set(other.body) <= set(self.body)


def blocks(instructions: Sequence[Instruction]) -> list[Block]:
    """Blocks in the order of the code, the first of which is the entry.

    Raises ValueError where a jump goes to no instruction.
    """
    at = {each.address: position for position, each in enumerate(instructions)}
    targets = {position: _target(each, at) for position, each in enumerate(instructions) if each.target is not None}
    begins = {0, *targets.values()}
    begins |= {position + 1 for position, each in enumerate(instructions) if position in targets or _ends(each)}
    ordered = sorted(begins - {len(instructions)}) if instructions else []
    numbers = {position: number for number, position in enumerate(ordered)}
    found = []
    for number, first in enumerate(ordered):
        last = (ordered[number + 1] if number + 1 < len(ordered) else len(instructions)) - 1
        after = [numbers[targets[last]]] if last in targets else []
        if _goes_on(instructions[last]) and last + 1 in numbers:
            after.append(numbers[last + 1])
        found.append(Block(first, last, tuple(dict.fromkeys(after))))
    return found


def loops(instructions: Sequence[Instruction]) -> list[Loop]:
    """The natural loops, outer before inner, else in the order of the code. The padding behind the code makes none."""
    parts = blocks(instructions)
    if not parts:
        return []
    before = _dominators(parts)
    back = dict[int, list[int]]()
    for number, block in enumerate(parts):
        for target in block.after:
            if number in before and target in before[number]:
                back.setdefault(target, []).append(number)
    found = []
    for header, jumps in back.items():
        inside = sorted(_body(parts, header, jumps))
        body = [position for number in inside for position in range(parts[number].first, parts[number].last + 1)]
        last = tuple(sorted(parts[number].last for number in jumps))
        found.append(Loop(parts[header].first, last, tuple(body)))
    return sorted(found, key=lambda loop: (loop.first, -len(loop.body)))


def _target(instruction: Instruction, at: dict[int, int]) -> int:
    assert instruction.target is not None
    if instruction.target not in at:
        raise ValueError(
            f"the jump at 0x{instruction.address:04x} goes to 0x{instruction.target:04x}, where no instruction begins"
        )
    return at[instruction.target]


def _ends(instruction: Instruction) -> bool:
    return instruction.name in _ENDS


def _goes_on(instruction: Instruction) -> bool:
    """Whether control may go to the instruction below. A jump on a condition names it before or among its operands."""
    conditional = bool(instruction.predicate) or "," in instruction.operands
    return conditional or instruction.name == "CALL" or not (_ends(instruction) or instruction.target is not None)


def _dominators(parts: Sequence[Block]) -> dict[int, set[int]]:
    """Of each block that can be reached, the blocks through which every way from the entry leads, itself among them."""
    order = list(_reached(parts))
    coming = {number: [each for each in order if number in parts[each].after] for number in order}
    found = {number: set(order) for number in order} | {0: {0}}
    changed = True
    while changed:
        changed = False
        for number in order[1:]:
            new = set.intersection(*(found[each] for each in coming[number])) | {number}
            if new != found[number]:
                found[number], changed = new, True
    return found


def _reached(parts: Sequence[Block]) -> Iterator[int]:
    """The numbers of the blocks that can be reached, those on the way to others first where there is no loop."""
    seen, waiting = set[int](), [0]
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            yield number
            waiting += reversed(parts[number].after)


def _body(parts: Sequence[Block], header: int, jumps: Sequence[int]) -> set[int]:
    """The blocks from which a jump back can be reached without passing the header, and the header."""
    coming = dict[int, list[int]]()
    for number, block in enumerate(parts):
        for target in block.after:
            coming.setdefault(target, []).append(number)
    inside, waiting = {header}, list(jumps)
    while waiting:
        number = waiting.pop()
        if number not in inside:
            inside.add(number)
            waiting += coming.get(number, [])
    return inside
