"""Explaining a predicted time: the loop that takes most of it, its instructions, what they wait for, and what-ifs."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

from suite.static.model import Explanation, Launch, Stall
from suite.static.timing import flow, units
from suite.static.timing.launches import Kernel, Predictor
from suite.static.timing.machines import Machine
from suite.static.timing.programs import guessed
from suite.static.timing.sass import Instruction
from suite.static.timing.walk import Supply

# Waits that are told.
WAITS = 12
# Kinds of instructions as a kernel's author thinks of them, the first that matches.
_KINDS = (
    ("tensor", r"[HQIB]GMMA|[HIQO]MMA|UTC\w*MMA"),
    ("global memory", r"LDG|STG|LD|ST|LDGSTS|UTMA\w+|UBLKCP|ATOMG?|REDG?|UTMACCTL"),
    ("spills", r"LDL|STL"),
    ("shared memory", r"LDS|STS|LDSM|STSM|ATOMS|LDTM|STTM"),
    ("shuffles", r"SHFL|REDUX|MATCH|VOTEU?"),
    ("special functions", r"MUFU"),
    ("conversions", r"F2FP?|I2FP?|F2I|I2F|FRND|F2F|PRMT"),
    ("fp32", r"F(FMA|MUL|ADD)2?|H(FMA|MUL|ADD)2"),
    ("selects and masks", r"FSEL|SEL|USEL|FSETP|FMNMX3?|PLOP3|P2R|R2P|ISETP|UISETP|UPLOP3|SGXT|VIMNMX3?|IMNMX"),
    (
        "synchronisation",
        r"BAR|SYNCS|DEPBAR|LDGDEPBAR|WARPGROUP|FENCE|MEMBAR|UTCBAR|WARPSYNC|BSSY|BSYNC|ELECT|NANOSLEEP",
    ),
    ("moves", r"MOV|UMOV|R2UR|CS2R|S2R|S2UR|LDC|LDCU|ULDC"),
    ("jumps", r"BRA|EXIT|CALL|RET|BRX|JMP"),
)
_MOVES = ("IMAD.MOV", "IMAD.MOV.U32")


def kind_of(instruction: Instruction) -> str:
    """What an instruction is for; integers and addresses are all that nothing else matches."""
    if instruction.opcode.startswith(_MOVES):
        return "moves"
    return next((kind for kind, pattern in _KINDS if re.fullmatch(pattern, instruction.name)), "integers and addresses")


def explain(launch: Launch, kernel: Kernel, machine: Machine, dram_bytes: int, lines: Mapping[int, str]) -> Explanation:
    """Why a launch takes its predicted time. Raises UnknownPath where it cannot be predicted."""
    programs = guessed(kernel.paths, kernel.bank, launch.grid, launch.warps, kernel.memory).programs
    made = Predictor(launch, kernel, machine, dram_bytes, programs)
    made.prediction()
    body, trips = _main_loop(made, kernel)
    code = kernel.code
    counts = Counter(kind_of(code[at]) for at in body)
    first, last = (code[at].address for at in (body[0], body[-1]))
    return Explanation(
        loop=f"0x{first:04x} to 0x{last:04x}" if trips > 1 else "the whole kernel: it has no loop of several trips",
        lines=_range(lines, [code[at].address for at in body]),
        trips=trips,
        cycles=made.cycles_of(body),
        instructions=dict(counts.most_common()),
        waits=tuple(_waits(made, body, code, lines)),
        what_ifs=_what_ifs(launch, kernel, machine, dram_bytes, made),
    )


def _main_loop(made: Predictor, kernel: Kernel) -> tuple[list[int], float]:
    """Positions of the loop in which most instructions are executed, without those of inner loops, and its trips."""
    counts = made.counts()
    loops = flow.loops(kernel.code)
    best, trips = list(range(len(kernel.code))), 1.0
    most = 0.0
    for loop in loops:
        inner = {at for other in loops if loop.holds(other) for at in other.body}
        body = [at for at in loop.body if at not in inner]
        executed = sum(counts[at] for at in body)
        if executed > most and counts[loop.first] > 1:
            best, trips, most = body, counts[loop.first], executed
    return best, trips


def _range(lines: Mapping[int, str], addresses: Sequence[int]) -> str:
    """The file with most of the loop's instructions, and the lines of it that they span; Triton's own if no other."""
    found = [lines[address].rpartition(":") for address in addresses if address in lines]
    found = [each for each in found if not each[0].startswith("triton/")] or found
    if not found:
        return ""
    file = Counter(name for name, _, _ in found).most_common(1)[0][0]
    numbers = sorted(int(number) for name, _, number in found if name == file)
    return f"{file}:{numbers[0]}-{numbers[-1]}"


def _waits(made: Predictor, body: Sequence[int], code: Sequence[Instruction], lines: Mapping[int, str]) -> list[Stall]:
    """The longest waits within the loop: cycles a trip, the mean over warps."""
    inside = set(body)
    found = [
        Stall(
            code[at].address,
            f"{code[at].opcode} {code[at].operands}".strip(),
            why,
            cycles,
            lines.get(code[at].address, ""),
            _maker(made, at, why, code),
        )
        for (at, why), cycles in made.stalls(body[0]).items()
        if at in inside
    ]
    return sorted(found, key=lambda stall: -stall.cycles)[:WAITS]


def _maker(made: Predictor, at: int, why: str, code: Sequence[Instruction]) -> str:
    """The instruction for which one waits."""
    assert made.first is not None
    position = made.first[0].makers.get((at, why), -1)
    return f"{code[position].opcode} at 0x{code[position].address:04x}" if position >= 0 else ""


def _what_ifs(launch: Launch, kernel: Kernel, machine: Machine, dram_bytes: int, made: Predictor) -> dict[str, float]:
    """Milliseconds that the launch would take if one thing were free, by what that is."""

    def again(**changes: object) -> float:
        other = Predictor(launch, kernel, changes.pop("machine", machine), dram_bytes, made.programs)  # type: ignore[arg-type]
        for name, value in changes.items():
            setattr(other, name, value)
        return other.prediction().ms or 0.0

    free = [
        replace(need, does=units.PLAIN, latency=0.0) if need.does in (units.BARRIER, units.ARRIVE) else need
        for need in made.needs
    ]
    quick = replace(machine.architecture, latency=dict.fromkeys(machine.architecture.latency, 0.0))
    return {
        "loads free": again(supply=Supply(0.0, math.inf), dram_bytes=0),
        "barriers free": again(needs=free),
        "no latency": again(machine=replace(machine, architecture=quick), supply=Supply(0.0, made.supply.bytes)),
        "one more block an SM": again(most=made.most + 1),
    }
