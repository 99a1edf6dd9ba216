"""Reading a compiled kernel: registers, local memory, spills and the instruction mix of its machine code.

cuobjdump gives registers, stack and the disassembly. Whether local memory is a spill only ptxas knows: its log says how
many bytes its spill stores and loads move, everything else is a local array that the program asked for.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
import zlib
from collections import Counter
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from suite.cachefolder import cache_folder, keep, kept
from suite.errors import SubquadError
from suite.static.model import Binary
from suite.static.timing.sass import width_of

_USAGE = re.compile(r"REG:(\d+) STACK:(\d+)")
# `/*0090*/  @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;`: the address has as many hex digits as it needs.
_INSTRUCTION = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:\{\s*)?(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
_SPILLS = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
# Kind -> the opcodes it counts, as a pattern over the part before the first dot.
_KINDS = {
    "hgmma": r"[HQIB]GMMA",
    "utchmma": r"UTC[A-Z]*MMA",
    "hmma": r"[HIQDO]MMA",
    "ffma": r"FFMA2?",
    "mufu": r"MUFU",
    "ldgsts": r"LDGSTS",
    "tma": r"UTMA(LDG|STG|REDG)|UBLKCP",
    "ldsm": r"LDSM",
    "lds": r"LDS",
    "sts": r"STS",
    "ldl": r"LDL",
    "stl": r"STL",
    "atom": r"ATOMG?|REDG?",
    "bar": r"BAR",
    "shfl": r"SHFL",
}
_KIND = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()))
WIDTHS = (8, 16, 32, 64, 128, 256)
MIX = (*_KINDS, *(f"{name}_{width}" for name in ("ldg", "stg") for width in WIDTHS))


class StaticError(SubquadError):
    """A static profile that cannot be taken in this process, or of this binary."""


def digest(cubin: bytes) -> str:
    """The hash that says "unchanged": sha256 of the binary."""
    return hashlib.sha256(cubin).hexdigest()


def known(cubin: bytes) -> Binary | None:
    """What an earlier analysis found, from the cache; None where it holds none, or one that is damaged."""
    hashed = digest(cubin)
    try:
        text = kept(_cached(hashed))
        found = None if text is None else Binary(**json.loads(text))
    except (ValueError, TypeError):
        return None
    return found if found and found.hash == hashed else None


def analyse(cubin: bytes, log: str) -> Binary:
    """Read a binary's machine code; `log` is what `ptxas -v` said when it made it. The result is cached.

    Raises StaticError when the log or the disassembly is not as expected.
    """
    spills = [tuple(map(int, found)) for found in _SPILLS.findall(log)]
    if not spills:
        raise StaticError("ptxas said nothing of spills: its log has another form; use a Triton between 3.6 and 3.9")
    registers, stack, mix = disassemble(cubin)
    binary = Binary(
        hash=digest(cubin),
        registers=registers,
        stack_bytes=stack,
        spill_store_bytes=sum(stores for _, stores, _ in spills),
        spill_load_bytes=sum(loads for _, _, loads in spills),
        instructions=mix.total(),
        mix=count_kinds(mix),
    )
    _keep(binary)
    return binary


def disassemble(cubin: bytes) -> tuple[int, int, Counter[str]]:
    """(registers, stack bytes, opcodes with their count) of a binary; NOP, which pads, is left out."""
    text = listing(cubin)
    usage = [tuple(map(int, found)) for found in _USAGE.findall(text)]
    opcodes = opcodes_of(text)
    if not usage or not opcodes:
        raise StaticError("cuobjdump cannot read this binary: its output has another form")
    return max(registers for registers, _ in usage), max(stack for _, stack in usage), opcodes


def listing(cubin: bytes) -> str:
    """What cuobjdump says of a binary: its use of registers and stack, and its machine code."""
    return zlib.decompress(_compressed(cubin)).decode()


# Cases of one worker launch the same kernels, and cuobjdump takes half as long as the compiler.
@lru_cache(maxsize=128)
def _compressed(cubin: bytes) -> bytes:
    """The listing, which has megabytes, in a tenth of them."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", "-sass", file.name]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise StaticError(f"cuobjdump cannot read this binary: {done.stderr.strip() or 'it gives no reason'}")
    return zlib.compress(done.stdout.encode(), 1)


def opcodes_of(listing: str) -> Counter[str]:
    """Opcodes with their count in cuobjdump's listing, predicates and padding left out."""
    return Counter(opcode for opcode in _INSTRUCTION.findall(listing) if opcode != "NOP")


def count_kinds(opcodes: Counter[str]) -> dict[str, int]:
    """Instructions by kind; global loads and stores by width in bits."""
    mix = dict.fromkeys(MIX, 0)
    for opcode, count in opcodes.items():
        name, *modifiers = opcode.split(".")
        if name in ("LDG", "STG"):
            mix[f"{name.lower()}_{width_of(modifiers)}"] += count
        elif found := _KIND.fullmatch(name):
            mix[str(found.lastgroup)] += count
    return mix


def _cached(hash_: str) -> Path:
    return cache_folder() / "static" / "binaries" / f"{hash_}.json"


def _keep(binary: Binary) -> None:
    keep(_cached(binary.hash), json.dumps(asdict(binary)))
