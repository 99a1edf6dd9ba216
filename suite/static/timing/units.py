"""What each instruction needs of an SM: which unit, for how many cycles, and when its result is there.

The classes are by opcode. Fixed latencies need no figure: the compiler has put them into the stall counts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from suite.static.timing.machines import PARTITIONS, WARP, Architecture
from suite.static.timing.registers import immediate
from suite.static.timing.rings import rings_of
from suite.static.timing.sass import Instruction, width_of

# Units of a partition, those of the whole SM, and `issue` for what needs none.
PARTITION_UNITS = ("fma", "alu", "special", "tensor", "uniform", "tmem")
SM_UNITS = ("shared", "l2")
# What an instruction does, beside taking its unit.
PLAIN, SYNC_TENSOR, WGMMA, SHARED, LOAD, COPY, STORE, TMA, BARRIER, ARRIVE, COMMIT, DRAIN, WGMMA_WAIT = range(13)
PHASE_WAIT, PHASE_EXPECT, PHASE_ARRIVE, TENSOR_ISSUE, TENSOR_COMMIT = range(13, 18)
# What is done once a block, by the first of its warps that comes there: one thread of it is elected.
ELECTED = (TMA, PHASE_EXPECT, TENSOR_ISSUE, TENSOR_COMMIT)
# The number of an mbarrier of which the code does not tell which one it is.
UNNAMED = -1
# What instructions do to the mbarrier that they name; a wait and a load complete nothing themselves.
_ROLES = {PHASE_EXPECT: "expect", PHASE_ARRIVE: "arrive", TENSOR_COMMIT: "commit", PHASE_WAIT: None, TMA: None}

TENSOR_OPCODES = ("UTCHMMA", "UTCIMMA", "UTCQMMA", "UTCOMMA")
TMA_OPCODES = ("UTMALDG", "UBLKCP")
_PAIRS = ("FFMA2", "FMUL2", "FADD2")
# VIADD: the compiler spaces it from IMAD, not from the ALU's.
_HEAVY = ("IMAD", "IMUL", "HFMA2", "HADD2", "HMUL2", "VIADD")
_FMA = ("FFMA", "FMUL", "FADD", "FSWZADD", *_PAIRS, *_HEAVY)
_UNIFORM = re.compile(r"U[A-Z]\w*|VOTEU")
_SPECIAL = ("MUFU", "F2F", "F2I", "I2F", "FRND", "POPC", "FLO", "BREV")
_REGISTERS = ("S2R", "S2UR")
_FREE = (
    "NOP", "BSSY", "BSYNC", "WARPSYNC", "BREAK", "YIELD", "BMOV", "NANOSLEEP", "EXIT", "BRA", "BRX", "JMP", "JMX",
    "CALL", "RET", "KILL", "BPT", "ENDCOLLECTIVE", "PREEXIT", "ACQBULK", "USETMAXREG",
)  # fmt: skip
_STORES = ("STG", "ST", "RED", "REDG", "ATOM", "ATOMG")
_MATRIX = re.compile(r"(\d+)x(\d+)x(\d+)")
# Bytes a cycle that a warp moves to or from tensor memory, and the cycles beside: 53 to 57, 10 (B of machines.py).
_TMEM_BYTES, _TMEM = 57, 10
_COUNT = re.compile(r"0x([0-9a-f]+)$")
_DESCRIPTOR = re.compile(r"idesc\[(UR\d+)\]")
# Uniform operations of which the next need not keep its distance.
_ONCE = ("S2UR", "UTCATOMSWS", "UVIRTCOUNT")


@dataclass(frozen=True)
class Need:
    """What one instruction needs.

    does:    one of the kinds above
    unit:    the unit it takes; "issue" for none
    cycles:  how long it takes it
    latency: cycles after which its scoreboard is free, where it raises one; of a load, beyond the memory's own
    bytes:   that it moves between the SM and the L2 cache
    number:  of a wait, how many groups may be left; of a barrier, its number; of an mbarrier, that of its ring
    threads: that take part in a barrier; 0 for all
    slots:   of a wait for an mbarrier on which threads arrive to hand back a buffer: buffers that are free at first
    """

    does: int
    unit: str
    cycles: float
    latency: float = 0.0
    bytes: float = 0.0
    number: int = 0
    threads: int = 0
    slots: int = 0


@dataclass(frozen=True)
class Hints:
    """What the machine code does not say, from the compiler's own text: the mean over a kernel's instructions.

    tma_bytes:   bytes of one TMA load
    tensor_fmas: multiply-adds of one tcgen05 product
    """

    tma_bytes: float = 0.0
    tensor_fmas: float = 0.0


def needs_of(code: Sequence[Instruction], architecture: Architecture, hints: Hints = Hints()) -> list[Need]:
    """What each instruction of a kernel needs."""
    found = [_need(each, architecture, hints) for each in code]
    rings = rings_of(code, {at: _ROLES[need.does] for at, need in enumerate(found) if need.does in _ROLES})
    for at, need in enumerate(found):
        if need.does in _ROLES:
            ring = rings.of.get(at, UNNAMED)
            free = rings.slots[ring] if need.does == PHASE_WAIT and ring in rings.handed_back else 0
            found[at] = replace(need, number=ring, slots=free)
        elif need.does == TENSOR_ISSUE and (cycles := _product(code, at)):
            found[at] = replace(need, cycles=cycles)
    return found


def _need(each: Instruction, arch: Architecture, hints: Hints) -> Need:
    name, latency = each.name, arch.latency
    if name in _FREE:
        return Need(PLAIN, "issue", 1)
    for serves in (_tensor, _memory, _waiting):
        if need := serves(each, arch, hints):
            return need
    if name in _SPECIAL:
        return Need(PLAIN, "special", WARP / arch.lanes["special"], latency["special"])
    if name in _REGISTERS or (name == "CS2R" and arch.name == "sm_80"):
        return Need(PLAIN, "issue", 1, latency["special_register"])
    if name in ("LDC", "LDCU", "ULDC"):
        return Need(PLAIN, "issue", 1, latency["constant"])
    if name in _FMA:
        lanes = arch.lanes["imad" if name in _HEAVY else "fp32"]
        pairs = 2 if name in _PAIRS else 1
        wide = 2 if name == "IMAD" and ("HI" in each.modifiers or "WIDE" in each.modifiers) else 1
        return Need(PLAIN, "fma", WARP / lanes * pairs * wide)
    if _UNIFORM.fullmatch(name):
        # The compiler keeps two cycles between uniform operations, and one where either is a move or a vote.
        cycles = 1 if name in ("UMOV", "VOTEU") or name in _ONCE else 2
        return Need(PLAIN, "uniform", cycles, latency["special_register"])
    return Need(PLAIN, "alu", WARP / arch.lanes["int"], latency["special_register" if name == "R2UR" else "convert"])


def _tensor(each: Instruction, arch: Architecture, hints: Hints) -> Need | None:
    name = each.name
    if name in ("HMMA", "IMMA", "QMMA", "OMMA"):
        shape = next((m for m in each.modifiers if m.isdigit()), "16816")
        kind = f"{shape}.TF32" if "TF32" in each.modifiers else shape
        return Need(SYNC_TENSOR, "tensor", arch.products.get(kind, arch.products["16816"]), arch.latency["tensor"])
    if name in ("HGMMA", "IGMMA", "QGMMA"):
        m, n, k = map(int, _MATRIX.search(each.opcode).groups())  # type: ignore[union-attr]
        full = m * n * k / 4 / arch.fma_tensor
        if name == "QGMMA" or "S8" in each.modifiers or "U8" in each.modifiers:
            full /= 2
        if "TF32" in each.modifiers:
            full *= 2
        # From shared memory an operand of 64 rows takes its own time to read: a narrow product is bound by that.
        least = 8 if re.match(r"R\d+, R\d+", each.operands.replace(".reuse", "")) else 16 + n / 4
        return Need(WGMMA, "tensor", max(full, least), arch.latency["wgmma"], number="gsb0" in each.operands)
    if name in TENSOR_OPCODES:
        fmas = hints.tensor_fmas / PARTITIONS
        return Need(TENSOR_ISSUE, "tensor", fmas / arch.fma_tensor if fmas else 0.0, arch.latency["wgmma"])
    if name == "UTCBAR":
        return Need(TENSOR_COMMIT, "issue", 1, arch.latency["barrier"])
    return None


def _product(code: Sequence[Instruction], at: int) -> float | None:
    """Cycles of a tcgen05 product, by the descriptor of its shape; None where that is not a constant.

    N columns take N / 2 cycles. From shared memory the rows of A and the columns of B take M / 4 and N / 4 to be read.
    """
    named = _DESCRIPTOR.search(code[at].operands)
    word = immediate(code, at, named[1]) if named else None
    if word is None:
        return None
    columns, rows = (word >> 17 & 0x3F) * 8, (word >> 24 & 0x1F) * 16
    return max(columns / 2, columns / 4 + (rows / 4 if code[at].operands.startswith("gdesc") else 0))


def _memory(each: Instruction, arch: Architecture, hints: Hints) -> Need | None:
    name, latency = each.name, arch.latency
    words = width_of(each.modifiers) / 32
    wave = WARP * 4 / arch.shared_bytes
    if name == "LDS":
        return Need(SHARED, "shared", max(1.0, words) * wave, latency["lds"])
    if name in ("STS", "ATOMS"):
        answers = name == "ATOMS" and not each.operands.startswith("RZ")
        return Need(SHARED, "shared", max(1.0, words) * wave, latency["lds" if answers else "sts"])
    if name in ("LDSM", "STSM"):
        tiles = float(each.modifiers[-1]) if each.modifiers and each.modifiers[-1].isdigit() else 1.0
        return Need(SHARED, "shared", tiles * wave, latency["ldsm" if name == "LDSM" else "sts"])
    if name in ("SHFL", "REDUX", "MATCH"):
        return Need(SHARED, "shared", wave * (1 if name == "SHFL" else 2), latency["shuffle"])
    if name in ("LDTM", "STTM"):
        count = next((int(m[1:]) for m in each.modifiers if re.fullmatch(r"x\d+", m)), 1)
        # A warp reaches the lanes of its own partition; half of them where the opcode names 16.
        lanes = WARP // 2 if any(m.startswith("16dp") for m in each.modifiers) else WARP
        cycles = count * lanes * 4 / _TMEM_BYTES
        return Need(PLAIN, "tmem", cycles, cycles + _TMEM)
    if name in ("LDL", "STL"):
        return Need(SHARED, "shared", max(1.0, words) * wave, latency["l1"] if name == "LDL" else latency["sts"])
    if name in ("LDG", "LD", "LDGSTS", *_STORES):
        does = COPY if name == "LDGSTS" else STORE if name in _STORES else LOAD
        if name in ("ATOM", "ATOMG") and not each.operands.startswith("RZ"):
            does = LOAD
        return Need(does, "shared", max(1.0, words) * wave, bytes=words * 4 * WARP)
    if name in TMA_OPCODES:
        return Need(TMA, "issue", 1, latency["tma"], bytes=hints.tma_bytes)
    return None


def _waiting(each: Instruction, arch: Architecture, hints: Hints) -> Need | None:
    name, latency = each.name, arch.latency
    if name == "BAR":
        numbers = [int(text, 16) for text in re.findall(r"0x([0-9a-f]+)", each.operands)]
        number, threads = (*numbers, 0, 0)[:2]
        return Need(
            ARRIVE if "ARV" in each.modifiers else BARRIER, "issue", 1, latency["barrier"], 0.0, number, threads
        )
    if name == "LDGDEPBAR":
        return Need(COMMIT, "issue", 1)
    if name == "DEPBAR":
        # Copies are counted by scoreboard 0; what others count is waited for by the wait mask as well.
        return Need(DRAIN if each.operands.startswith("SB0") else PLAIN, "issue", 1, number=_last_number(each))
    if name == "WARPGROUP":
        return Need(WGMMA_WAIT if "DEPBAR" in each.modifiers else PLAIN, "issue", 1, number=_last_number(each))
    if name == "SYNCS":
        does = PLAIN
        if "TRYWAIT" in each.modifiers:
            does = PHASE_WAIT
        elif "ARRIVE" in each.modifiers:
            does = PHASE_EXPECT if each.modifiers[-1] == "TRANS64" else PHASE_ARRIVE
        return Need(does, "issue", 1, latency["barrier"])
    if name in ("FENCE", "MEMBAR", "ERRBAR", "CCTL"):
        return Need(PLAIN, "issue", 1, latency["fence"])
    return None


def _last_number(each: Instruction) -> int:
    found = _COUNT.search(each.operands)
    return int(found[1], 16) if found else 0
