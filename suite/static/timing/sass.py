"""Machine code as cuobjdump lists it: instructions with their control codes.

    for each in decode(listing):
        print(each.opcode, each.stall, each.sets, each.waits)

Since Volta an instruction has 128 bits, and bits 105 to 121 of it say how it is issued: how many cycles the warp stalls
afterwards (4 bits), whether another warp is preferred (1, inverted), the scoreboard that it raises until its result is
there (3), the one that it raises until its operands are read (3), and the scoreboards for which it waits before (6).
Sources: CuAssembler (github.com/cloudcores/CuAssembler), which found the fields; Huerta et al. 2025, "Analyzing Modern
NVIDIA GPU Cores", arXiv:2503.20481, which describes what they do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# `/*0090*/  @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;  /* 0x… */`, and below it the other 64 bits. The address has as many
# hex digits as it needs. Two instructions that are issued together stand in braces on Maxwell alone.
_FIRST = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(.*?)\s*;?\s*/\* 0x([0-9a-f]{16}) \*/\s*$")
_SECOND = re.compile(r"^\s*/\* 0x([0-9a-f]{16}) \*/\s*$")
_TEXT = re.compile(r"(?:@(!?U?P\w+)\s+)?([A-Z][\w.]*)\s*(.*)")
_TARGET = re.compile(r"0x([0-9a-f]+)\s*$")
_FUNCTION = re.compile(r"^\s*Function : (\S+)")
# Where the control fields begin in the higher 64 bits, and what a scoreboard's number is when there is none.
_CONTROL, _NO_SCOREBOARD = 105 - 64, 7
_WIDTHS = {"U8": 8, "S8": 8, "U16": 16, "S16": 16, "64": 64, "128": 128, "256": 256}
_JUMPS = ("BRA", "BRX", "JMP", "JMX", "CALL")


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    address:   bytes from the function's start
    predicate: "P0", "!UP1"; empty where it is always executed
    opcode:    with its modifiers, "LDG.E.128"
    operands:  as they are written
    stall:     cycles after which the warp may issue again
    yields:    whether the scheduler is asked to prefer another warp
    sets:      the scoreboard, 0 to 5, that is free again when the result is there; None: the stall covers it
    reads:     the scoreboard that is free again when the operands have been read; None where no one waits for that
    waits:     the scoreboards that must be free before it is issued
    target:    the address to which a jump goes; None for all else
    """

    address: int
    predicate: str
    opcode: str
    operands: str
    stall: int
    yields: bool
    sets: int | None
    reads: int | None
    waits: tuple[int, ...]
    target: int | None = None

    @property
    def name(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def modifiers(self) -> tuple[str, ...]:
        return tuple(self.opcode.split(".")[1:])


def width_of(modifiers: Iterable[str]) -> int:
    """Bits that a memory instruction moves for each lane, by its modifiers: 128 of `LDG.E.128`; 32 where none says."""
    return next((_WIDTHS[each] for each in modifiers if each in _WIDTHS), 32)


def decode(listing: str) -> list[Instruction]:
    """The instructions of the one function in cuobjdump's listing (`cuobjdump -sass`), in their order.

    Raises ValueError where the listing has several functions, or has another form.
    """
    found, first = list[Instruction](), None
    if len(functions := [line for line in listing.splitlines() if _FUNCTION.match(line)]) > 1:
        raise ValueError(f"the listing has {len(functions)} functions; one is read at a time")
    for line in listing.splitlines():
        if match := _FIRST.match(line):
            first = match
        elif first is not None and (match := _SECOND.match(line)):
            found.append(_instruction(int(first[1], 16), first[2], int(match[1], 16)))
            first = None
    if first is not None:
        raise ValueError(f"the instruction at 0x{first[1]} has one half of its 128 bits only")
    return found


def _instruction(address: int, text: str, high: int) -> Instruction:
    match = _TEXT.fullmatch(text.strip("{} "))
    if match is None:
        raise ValueError(f"the instruction at 0x{address:04x} has another form: {text}")
    predicate, opcode, operands = match.groups()
    control = high >> _CONTROL
    jumps = opcode.partition(".")[0] in _JUMPS
    target = _TARGET.search(operands) if jumps else None
    return Instruction(
        address,
        predicate or "",
        opcode,
        operands.strip(),
        stall=control & 15,
        yields=not control >> 4 & 1,
        sets=_scoreboard(control >> 5 & 7),
        reads=_scoreboard(control >> 8 & 7),
        waits=tuple(number for number in range(6) if control >> 11 + number & 1),
        target=int(target[1], 16) if target else None,
    )


def _scoreboard(number: int) -> int | None:
    return None if number == _NO_SCOREBOARD else number
