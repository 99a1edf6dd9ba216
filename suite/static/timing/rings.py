"""The mbarriers of a kernel, by the rings that they make: one for each stage of a pipeline, side by side in memory.

What completes the phases of a ring is told by the instructions that name one of its barriers: loads by TMA that were
announced, tcgen05 products that were committed, or threads that hand a buffer back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from suite.static.timing.registers import Address, address
from suite.static.timing.sass import Instruction

_PLACE = re.compile(r"\[([^\]]*)\]")
_BYTES = 8
# A barrier on which bytes are awaited is one that TMA completes, even where threads arrive on it too.
_STRENGTH = ("expect", "commit", "arrive")


@dataclass
class Rings:
    """Rings by number.

    of:          by position of an instruction that names a barrier, its ring; those that are not found are missing
    slots:       barriers of each ring
    handed_back: rings on which threads arrive, and nothing else
    """

    of: dict[int, int] = field(default_factory=dict)
    slots: list[int] = field(default_factory=list)
    handed_back: set[int] = field(default_factory=set)


def rings_of(code: Sequence[Instruction], roles: Mapping[int, str | None]) -> Rings:
    """The rings that instructions name.

    roles: by position, what an instruction does to its barrier: "expect", "arrive", "commit"; None where it waits or is
           told which barrier to use
    """
    places = {at: place for at in roles if (place := _place(code, at)) is not None}
    made = {_place(code, at) for at, each in enumerate(code) if each.opcode.startswith("SYNCS.EXCH")} - {None}
    named = set(places.values())
    used = dict[int, str]()
    for at, place in sorted(places.items()):
        if role := roles[at]:
            used[place.offset] = min(used.get(place.offset, role), role, key=_STRENGTH.index)
    indexed = {place.offset for place in named if place.indexed}
    found, numbers = Rings(), dict[int, int]()
    last, role, ring = None, None, False
    for offset in sorted({place.offset for place in named | made if place}):
        own = used.get(offset)
        # A barrier that no index leads to stands alone, unless it follows one that an index does lead to.
        goes_on = ring and last is not None and offset == last + _BYTES and offset not in indexed
        if not goes_on or (own and role and own != role):
            found.slots.append(0)
            role, ring = None, offset in indexed
        role, last = role or own, offset
        numbers[offset] = len(found.slots) - 1
        found.slots[-1] += 1
        if role == "arrive":
            found.handed_back.add(numbers[offset])
    found.of = {at: numbers[place.offset] for at, place in places.items()}
    return found


def _place(code: Sequence[Instruction], at: int) -> Address | None:
    """Where the barrier is that an instruction names."""
    text = _PLACE.search(code[at].operands)
    if text is None:
        return None
    parts = [part for part in text[1].split("+") if part not in ("RZ", "URZ")]
    offset = sum(int(part, 16) for part in parts if part.startswith("0x"))
    registers = [part for part in parts if not part.startswith("0x")]
    if code[at].name.startswith("U") and code[at].name != "UTCBAR":
        # A copy by TMA has the address of the data in a register, and that of the barrier in the next.
        return address(code, at, f"UR{int(registers[0][2:]) + 1}") if registers else None
    if not registers:
        return Address(offset, False)
    found = address(code, at, registers[-1], offset)
    # Without a register that leads to shared memory, the offset that is written there must do.
    return found or (Address(offset, False) if offset else None)
