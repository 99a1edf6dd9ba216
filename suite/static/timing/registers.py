"""What stands in a register at one place, as far as the instructions above tell: constants, and addresses of mbarriers.

The instruction that wrote it is taken to be the nearest above in the order of the code, whatever jumps lie between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from suite.static.timing.sass import Instruction

_REGISTER = re.compile(r"U?R\d+")
_NUMBER = re.compile(r"-?0x[0-9a-f]+")
_MOVES = ("MOV", "UMOV", "R2UR", "IMAD")
_SUMS = ("UIADD3", "IADD3", "VIADD")
_SHIFTED = ("ULEA", "LEA")
# Shared memory's own address is shifted by 24 bits, an index into mbarriers by 3.
_WINDOW = 0x18
_STEPS = 24


@dataclass(frozen=True)
class Address:
    """A place in shared memory: bytes from its begin, and whether an index known at run time only is added."""

    offset: int
    indexed: bool


def immediate(code: Sequence[Instruction], at: int, register: str) -> int | None:
    """The constant in a register before the instruction at a position; None where it is none, or not found."""
    writer = _writer(code, at, register)
    if writer is None or code[writer].name not in ("MOV", "UMOV"):
        return None
    number = code[writer].operands.partition(",")[2].strip()
    return int(number, 16) if _NUMBER.fullmatch(number) else None


def address(code: Sequence[Instruction], at: int, register: str, offset: int = 0) -> Address | None:
    """The address in shared memory that a register holds, with an offset beside; None where it is not found."""
    indexed = False
    for _ in range(_STEPS):
        writer = _writer(code, at, register)
        if writer is None:
            return None
        at, each = writer, code[writer]
        operands = [part.strip() for part in each.operands.replace(".reuse", "").split(",")][1:]
        registers = [part for part in operands if _REGISTER.fullmatch(part)]
        numbers = [int(part, 16) for part in operands if _NUMBER.fullmatch(part)]
        if each.name in _SHIFTED and numbers and len(registers) == 2:
            if numbers[-1] == _WINDOW:
                return Address(offset, indexed)
            indexed, register = True, registers[1]
        elif each.name in _SUMS and len(registers) == 1:
            offset, register = offset + sum(numbers), registers[0]
        elif each.name in _MOVES and len(registers) == 1 and not numbers:
            register = registers[0]
        else:
            return None
    return None


def _writer(code: Sequence[Instruction], at: int, register: str) -> int | None:
    """The position of the nearest instruction above that writes a register."""
    begin = register + ","
    return next((n for n in range(at - 1, -1, -1) if code[n].operands.startswith(begin)), None)
