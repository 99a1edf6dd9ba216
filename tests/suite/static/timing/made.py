"""Programs made by hand, or by chance, and walks of them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from suite.static.timing.machines import ARCHITECTURES, Architecture
from suite.static.timing.sass import Instruction
from suite.static.timing.units import Hints, needs_of
from suite.static.timing.walk import Supply, Walked, walk

SUPPLY = Supply(latency=400.0, bytes=64.0)
HOPPER = ARCHITECTURES["sm_90"]


def one(
    opcode: str,
    operands: str = "",
    stall: int = 1,
    *,
    sets: int | None = None,
    reads: int | None = None,
    waits: tuple[int, ...] = (),
    predicate: str = "",
) -> Instruction:
    return Instruction(0, predicate, opcode, operands, stall, False, sets, reads, waits)


def program(*parts: Instruction | Sequence[Instruction]) -> list[Instruction]:
    """Instructions one below the other, each with its address."""
    flat = [each for part in parts for each in ([part] if isinstance(part, Instruction) else part)]
    return [replace(each, address=16 * at) for at, each in enumerate(flat)]


def parsed(text: str) -> list[Instruction]:
    """Instructions, one a line; a jump names a line of it by number: `@P0 BRA 1`."""
    made = []
    for at, line in enumerate(text.strip().splitlines()):
        words = line.split()
        predicate = words.pop(0)[1:] if words[0].startswith("@") else ""
        opcode, operands = words[0], " ".join(words[1:])
        jumps = opcode.partition(".")[0] in ("BRA", "CALL")
        target = 16 * int(words[-1]) if jumps else None
        made.append(Instruction(16 * at, predicate, opcode, operands, 1, False, None, None, (), target))
    return made


def walked(
    code: Sequence[Instruction],
    *,
    warps: int = 1,
    blocks: int = 1,
    ways: Sequence[Sequence[int]] | None = None,
    arch: Architecture = HOPPER,
    supply: Supply = SUPPLY,
    hints: Hints | None = None,
    marks: Sequence[Sequence[int]] = (),
) -> Walked:
    """A walk in which all warps go through the code from its begin to its end, unless `ways` says otherwise."""
    ways = [range(len(code))] * warps if ways is None else ways
    needs = needs_of(code, arch, hints or Hints())
    return walk(code, needs, ways, blocks=blocks, architecture=arch, supply=supply, marks=marks)


KINDS = (
    ("FFMA", "R0, R1, R2, R0"), ("FMUL", "R0, R1, R2"), ("IMAD", "R0, R1, R2, R0"), ("IMAD.WIDE", "R0, R1, R2, R0"),
    ("LOP3.LUT", "R0, R1, R2, R3"), ("MUFU.EX2", "R0, R1"), ("LDS.128", "R0, [R4]"), ("LDS", "R0, [R4]"),
    ("STS.128", "[R4], R0"), ("SHFL.BFLY", "PT, R0, R1, 0x1"), ("LDG.E.128", "R0, [R2.64]"), ("UIADD3", "UR4, UR4"),
    ("HMMA.16816.F32.BF16", "R0, R4, R6, R0"), ("STG.E.128", "[R2.64], R0"), ("LDSM.16.M88.4", "R0, [R4]"),
    ("HGMMA.64x128x16.F32.BF16", "R24, gdesc[UR4], R24"), ("LDGSTS.E.128", "[R4], [R2.64]"), ("LDGDEPBAR", ""),
    ("DEPBAR.LE", "SB0, 0x1"), ("HGMMA.64x64x16.F32.BF16", "R24, gdesc[UR4], R24, gsb0"),
    ("WARPGROUP.DEPBAR.LE", "gsb0, 0x1"), ("S2R", "R0, SR_TID.X"), ("BAR.SYNC.DEFER_BLOCKING", "0x0"),
)  # fmt: skip
_ANSWERS = ("MUFU", "LDS", "SHFL", "LDG", "LDSM", "S2R", "LDGDEPBAR")
_BARRIER = len(KINDS) - 1


def chance(seed: int, length: int = 60, barriers: bool = True) -> list[Instruction]:
    """A program made by chance, whose instructions wait for the scoreboards that those above have raised."""
    dice = random.Random(seed)
    made = []
    for _ in range(length):
        opcode, operands = KINDS[dice.randrange(len(KINDS) if barriers else _BARRIER)]
        answers = opcode.partition(".")[0] in _ANSWERS
        made.append(
            one(
                opcode,
                operands,
                dice.choice((1, 1, 2, 4, 8)),
                sets=dice.randrange(1, 6) if answers else None,
                reads=dice.randrange(1, 6) if opcode.startswith("ST") else None,
                waits=tuple(n for n in range(1, 6) if dice.random() < 0.08),
            )
        )
    return program(made)
