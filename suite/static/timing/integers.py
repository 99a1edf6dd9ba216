"""What integer instructions compute: the part of the machine code that says where control goes.

`operation` gives what an instruction reads and writes, and a function from the one to the other. Values are 32 bits
without sign; a predicate is 0 or 1; 64 bits are two registers, the lower half first. Floating point is here where a
division of integers needs it. An instruction that is not known here has no operation: `written` then says which
registers it changes.

Sources: NVIDIA's "CUDA Binary Utilities", which names the instructions; what they do was read from pairs of PTX and
machine code.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from suite.static.timing.sass import Instruction

ALL = 0xFFFFFFFF
_CARRY, _WIDE = 1 << 32, 1 << 64

# Registers by number: those of a thread, those of a warp, and the predicates of both; then words on the stack.
UNIFORM, PREDICATES, UNIFORM_PREDICATES, STACK = 256, 512, 520, 528
_BASES = {"R": 0, "UR": UNIFORM, "P": PREDICATES, "UP": UNIFORM_PREDICATES}
_COUNTS = {"R": 255, "UR": 255, "P": 7, "UP": 7}


class Literal(NamedTuple):
    """A number in the instruction."""

    value: int


class Constant(NamedTuple):
    """32 bits of a constant bank."""

    bank: int
    offset: int


class Special(NamedTuple):
    """A register that tells the thread which it is, such as SR_CTAID.X."""

    name: str


Source = int | Literal | Constant | Special


@dataclass(frozen=True)
class Operation:
    """What an instruction computes.

    reads:    registers by number, and other sources
    writes:   registers by number
    function: from as many values as there are sources to a value, or to a tuple of as many as are written
    across:   whether it is given, instead of each value, a tuple of the value in every lane that is active
    bits:     "each": a bit of the result depends on one bit at most of each value, so that it may be known where others
              are not; "test": the same, and the second result says whether the first is not zero
    unknown:  registers that it writes too, and whose values are not known
    """

    reads: tuple[Source, ...]
    writes: tuple[int, ...]
    function: Callable[..., object]
    across: bool = False
    bits: str = ""
    unknown: tuple[int, ...] = ()


@dataclass(frozen=True)
class Load:
    """A load from global memory.

    address: sources, as parts (low half, high half or None, factor) whose sum with `offset` is the address
    size:    bytes; signed: whether fewer than four are extended by their sign
    writes:  registers that are loaded
    """

    address: tuple[tuple[Source, Source | None, int], ...]
    offset: int
    size: int
    signed: bool
    writes: tuple[int, ...]

    @property
    def reads(self) -> tuple[Source, ...]:
        return tuple(each for low, high, _ in self.address for each in (low, high) if each is not None)


class Operand(NamedTuple):
    """An operand: its source, what is done to it before use ("-", "~", "!", "|" or ""), and its suffixes."""

    source: Source
    change: str
    suffixes: tuple[str, ...]
    predicate: bool = False


class _NotKnownError(Exception):
    """The instruction has a form that is not followed."""


_OPERAND = re.compile(r"([-~!]?)(\|?)(U?[RP])(\d+|Z|T)\|?((?:\.\w+)*)")
_BANK = re.compile(r"([-~]?)(\|?)cx?\[(0x[0-9a-f]+)\]\[(0x[0-9a-f]+)\]\|?((?:\.\w+)*)")
_NUMBER = re.compile(r"([-~!]?)(0x[0-9a-f]+|\d+)")


@lru_cache(maxsize=1 << 15)
def operand(text: str) -> Operand | None:
    """The operand that is written so; None where it is an address, a float, or of another form."""
    if match := _OPERAND.fullmatch(text):
        change, absolute, file, number, suffixes = match.groups()
        if number in "ZT":
            source: Source = Literal(int(number == "T"))
        else:
            source = _BASES[file] + int(number)
        return Operand(source, change + absolute, tuple(suffixes.split(".")[1:]), file.endswith("P"))
    if match := _BANK.fullmatch(text):
        change, absolute, bank, offset, suffixes = match.groups()
        return Operand(Constant(int(bank, 16), int(offset, 16)), change + absolute, tuple(suffixes.split(".")[1:]))
    if match := _NUMBER.fullmatch(text):
        value = int(match[2], 0)
        value = -value if match[1] == "-" else ~value if match[1] == "~" else value
        return Operand(Literal(value & ALL), "", ())
    return None


def split(operands: str) -> list[str]:
    """Operands as they are written, one by one."""
    return [each.strip() for each in operands.split(",")] if operands else []


def guard(predicate: str) -> tuple[int | None, bool]:
    """The register of an instruction's predicate, and whether it is inverted; None: PT."""
    found = operand(predicate.lstrip("!"))
    assert found is not None, predicate
    return found.source if isinstance(found.source, int) else None, predicate.startswith("!")


class _Form:
    """The operands of an instruction, taken one after another."""

    def __init__(self, instruction: Instruction) -> None:
        self.name = instruction.name
        self.modifiers = frozenset(instruction.modifiers)
        self.left = [operand(each) for each in split(instruction.operands)]
        self.reads: list[Source] = []
        self.changes: list[Callable[[int], int] | None] = []
        self.writes: list[int] = []
        self.signed = not self.modifiers & {"U32", "U64", "U16", "U8"}

    def target(self, width: int = 1) -> None:
        """The next operand is written. RZ and PT take nothing: what is written there goes to no register."""
        found = self._next()
        for part in range(width):
            self.writes.append(found.source + part if isinstance(found.source, int) else -1)

    def predicate_targets(self) -> int:
        """The predicates that come next are written; how many."""
        count = 0
        while self.left and _is_predicate(self.left[0]):
            self.target()
            count += 1
        return count

    def source(self, wide: bool = False) -> None:
        found = self._next()
        if set(found.suffixes) - {"reuse", "64"}:
            raise _NotKnownError
        if found.change not in ("", *_CHANGES) or (wide and found.change):
            raise _NotKnownError
        self.reads.append(found.source)
        self.changes.append(_CHANGES[found.change] if found.change else None)
        if wide:
            self.reads.append(_upper(found.source))
            self.changes.append(None)

    def sources(self, count: int) -> None:
        for _ in range(count):
            self.source()

    def number(self) -> int:
        found = self._next()
        if not isinstance(found.source, Literal):
            raise _NotKnownError
        return found.source.value

    def _next(self) -> Operand:
        if not self.left or (found := self.left.pop(0)) is None:
            raise _NotKnownError
        return found

    def done(self, function: Callable[..., object], across: bool = False, bits: str = "") -> Operation:
        writes = tuple(self.writes)
        changes = tuple(self.changes)
        if any(changes):
            function = _changed(function, changes)
        return Operation(tuple(self.reads), writes, function, across, bits)


def _is_predicate(found: Operand | None) -> bool:
    return found is not None and found.predicate


def _upper(source: Source) -> Source:
    """The upper half of 64 bits. A number in the instruction is extended by its sign."""
    if isinstance(source, int):
        return source + 1
    if isinstance(source, Constant):
        return Constant(source.bank, source.offset + 4)
    if isinstance(source, Literal):
        return Literal(ALL if source.value >> 31 else 0)
    raise _NotKnownError


# A negated value may be 2**32: that of zero then carries, as the hardware's sum with the inverted value and 1 does.
_CHANGES: dict[str, Callable[[int], int]] = {
    "-": lambda x: _CARRY - x,
    "~": lambda x: x ^ ALL,
    "!": lambda x: x ^ 1,
    "|": lambda x: abs(_signed(x)),
    "-|": lambda x: -abs(_signed(x)) & ALL,
}


def _changed(function: Callable[..., object], changes: Sequence[Callable[[int], int] | None]) -> Callable[..., object]:
    places = [(place, change) for place, change in enumerate(changes) if change]
    if len(places) == 1:
        ((place, change),) = places
        if len(changes) == 1:
            return lambda a: function(change(a))
        if len(changes) == 3:
            if place == 0:
                return lambda a, b, c: function(change(a), b, c)
            if place == 1:
                return lambda a, b, c: function(a, change(b), c)
            return lambda a, b, c: function(a, b, change(c))

    def changed(*values: int) -> object:
        taken = list(values)
        for place, change in places:
            taken[place] = change(taken[place])
        return function(*taken)

    return changed


def _signed(x: int) -> int:
    x &= ALL
    return x - _CARRY if x >> 31 else x


def _float(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits & ALL))[0]


def _bits(value: float) -> int:
    try:
        return struct.unpack("<I", struct.pack("<f", value))[0]
    except OverflowError:
        return 0x7F800000 if value > 0 else 0xFF800000


def _mov(form: _Form) -> Operation:
    wide = "64" in form.modifiers
    form.target(1 + wide)
    form.source(wide)
    return form.done((lambda a, b: (a, b)) if wide else (lambda a: a))


def _add3(form: _Form) -> Operation:
    """The sum of three, with up to two carries in and out: a carry of two sets both."""
    wide = "64" in form.modifiers
    form.target(1 + wide)
    carries = form.predicate_targets()
    for _ in range(min(3, len(form.left))):
        form.source(wide)
    count = len(form.reads)
    if "X" in form.modifiers:
        while form.left:
            form.source()
    elif form.left:
        raise _NotKnownError
    if wide:
        if carries and any(each >= 0 for each in form.writes[2:]):
            raise _NotKnownError

        def sum64(*values: int) -> tuple[int, ...]:
            total = sum(values[:count:2]) + (sum(values[1:count:2]) << 32) + sum(values[count:])
            return (total & ALL, total >> 32 & ALL, *[0] * carries)

        return form.done(sum64)
    if all(each < 0 for each in form.writes[1:]):
        del form.writes[1:]
        if len(form.reads) == 3:
            return form.done(lambda a, b, c: (a + b + c) & ALL)
        return form.done(lambda *values: sum(values) & ALL)

    def total(*values: int) -> tuple[int, ...]:
        found = sum(values)
        over = found >> 32
        return (found & ALL, int(over >= 1), int(over >= 2))[: 1 + carries]

    return form.done(total)


def _mad(form: _Form) -> Operation:
    """a × b + c: its lower half, its upper half (HI), or both (WIDE), c having 64 bits in the latter two."""
    wide, high, signed = "WIDE" in form.modifiers, "HI" in form.modifiers, form.signed
    form.target(1 + wide)
    carries = form.predicate_targets()
    if not wide and not high:
        form.sources(3)
        if "X" in form.modifiers:
            form.source()
        if carries and any(each >= 0 for each in form.writes[1:]):
            raise _NotKnownError
        del form.writes[1:]
        if len(form.reads) == 3:
            return form.done(lambda a, b, c: (a * b + c) & ALL)
        return form.done(lambda a, b, c, carry: (a * b + c + carry) & ALL)
    form.sources(2)
    form.source(wide=True)
    if "X" in form.modifiers:
        form.source()

    def product(a: int, b: int, low: int, upper: int, carry: int = 0) -> object:
        made = _signed(a) * _signed(b) if signed else (a & ALL) * (b & ALL)
        total = (made & (_WIDE - 1)) + (upper << 32 | low) + carry
        if high:
            return (total >> 32 & ALL, *[int(total >> 64 > 0)] * carries) if carries else total >> 32 & ALL
        return (total & ALL, total >> 32 & ALL, *[int(total >> 64 > 0)] * carries)

    return form.done(product)


def _add(form: _Form) -> Operation:
    wide = "64" in form.modifiers
    form.target(1 + wide)
    if form.predicate_targets() and any(each >= 0 for each in form.writes[1 + wide :]):
        raise _NotKnownError
    del form.writes[1 + wide :]
    form.source(wide)
    form.source(wide)
    if form.left:
        raise _NotKnownError
    if wide:
        return form.done(lambda a, b, c, d: ((a + c) & ALL, ((a + c) // _CARRY + b + d) & ALL))
    return form.done(lambda a, b: (a + b) & ALL)


def _min_max(form: _Form) -> Operation:
    """The smaller of two where the predicate is true, else the larger; VIADDMNMX adds before, VIMNMX3 takes three."""
    signed, adds, three = form.signed, form.name.endswith("ADDMNMX"), form.name.endswith("3")
    if form.modifiers & {"RELU", "64", "S16X2", "U16X2", "S64"} or (form.modifiers & {"S16", "U16"}):
        raise _NotKnownError
    form.target()
    if len(form.left) > (4 if adds or three else 3) and form.predicate_targets():
        if any(each >= 0 for each in form.writes[1:]):
            raise _NotKnownError
        del form.writes[1:]
    form.sources(len(form.left))
    if len(form.reads) != (4 if adds or three else 3):
        raise _NotKnownError
    key = _signed if signed else lambda x: x & ALL

    def choose(smaller: int, *values: int) -> int:
        # A predicate that is not known must not count as true.
        return (min if smaller & 1 else max)(*map(key, values)) & ALL

    if adds:
        return form.done(lambda a, b, c, smaller: choose(smaller, a + b, c))
    return form.done(lambda *values: choose(values[-1], *values[:-1]))


def _lea(form: _Form) -> Operation:
    """(a << shift) + b; HI: the upper half of (a with its upper half, shifted), plus b; X: plus a carry."""
    high, extends = "HI" in form.modifiers, "SX32" in form.modifiers
    form.target()
    carries = form.predicate_targets()
    if carries and form.writes[-1] < 0 and carries == 1:
        form.writes.pop()
        carries = 0
    if carries > 1:
        raise _NotKnownError
    form.sources(2)
    if high and not extends:
        form.source()
    shift = form.number()
    upper = len(form.reads) == 3
    if "X" in form.modifiers:
        form.source()
    elif form.left:
        raise _NotKnownError

    def address(a: int, b: int, *more: int) -> object:
        if not high:
            total = ((a << shift) & ALL) + b + sum(more)
        else:
            rest = more[1:] if upper else more
            whole = (more[0] & ALL) << 32 | (a & ALL) if upper else _signed(a)
            total = (whole << shift >> 32 & ALL) + b + sum(rest)
        return (total & ALL, int(total >> 32 > 0)) if carries else total & ALL

    return form.done(address)


def _shift(form: _Form) -> Operation:
    """64 bits, the lower half first and the upper one last, shifted by what stands between; HI: the upper half."""
    left, high, signed = "L" in form.modifiers, "HI" in form.modifiers, bool(form.modifiers & {"S32", "S64"})
    wraps = "W" in form.modifiers
    limit = 64 if form.modifiers & {"U64", "S64"} else 32
    form.target()
    form.sources(3)

    def shifted(low: int, by: int, upper: int) -> int:
        by = by & ALL & (limit - 1) if wraps else min(by & ALL, limit)
        value = (upper & ALL) << 32 | (low & ALL)
        if not left and signed and upper >> 31 & 1:
            value -= _WIDE
        value = value << by if left else value >> by
        return value >> 32 & ALL if high else value & ALL

    return form.done(shifted)


def _lop3(form: _Form) -> Operation:
    """Any function of three bits, by its table; a predicate says whether the result is not zero."""
    form.writes = []
    tests = form.predicate_targets()
    form.target()
    form.sources(3)
    table = form.number()
    combine = form.left[0] if form.left else None
    if tests:
        form.writes = form.writes[-1:] + form.writes[:-1]
        both = "PAND" in form.modifiers
        form.source() if combine else form.reads.append(Literal(0))
        if not combine:
            form.changes.append(None)
        bits = _table(table)

        def tested(a: int, b: int, c: int, p: int) -> tuple[int, ...]:
            found = bits(a, b, c)
            told = int(found != 0)
            return found, (told & p if both else told | p)

        return form.done(tested, bits="test" if tests == 1 else "")
    return form.done(_table(table), bits="each")


_NAMED_TABLES: dict[int, Callable[[int, int, int], int]] = {
    0xC0: lambda a, b, c: a & b,
    0xFC: lambda a, b, c: a | b,
    0x3C: lambda a, b, c: a ^ b,
    0xFE: lambda a, b, c: a | b | c,
    0xF8: lambda a, b, c: a & b | c,
    0x33: lambda a, b, c: b ^ ALL,
    0x0F: lambda a, b, c: a ^ ALL,
}


def _table(table: int) -> Callable[[int, int, int], int]:
    """Bit 4a + 2b + c of the table is the result for bits a, b and c."""
    if table in _NAMED_TABLES:
        return _NAMED_TABLES[table]
    terms = [(ALL * (1 - (n >> 2)), ALL * (1 - (n >> 1 & 1)), ALL * (1 - (n & 1))) for n in range(8) if table >> n & 1]

    def looked_up(a: int, b: int, c: int) -> int:
        found = 0
        for x, y, z in terms:
            found |= (a ^ x) & (b ^ y) & (c ^ z)
        return found & ALL

    return looked_up


def _plop3(form: _Form) -> Operation:
    """Two functions of three predicates, by their tables."""
    form.target()
    form.target()
    form.sources(3)
    first, second = form.number(), form.number()
    if form.writes[1] < 0:
        # Predicates that a table does not depend on may be unknown.
        matters = [any((first >> n ^ first >> (n ^ bit)) & 1 for n in range(8)) for bit in (4, 2, 1)]
        for place, needed in enumerate(matters):
            if not needed:
                form.reads[place], form.changes[place] = Literal(0), None
        form.writes.pop()
        return form.done(lambda a, b, c: first >> (a << 2 | b << 1 | c) & 1, bits="each")

    def looked_up(a: int, b: int, c: int) -> tuple[int, int]:
        n = a << 2 | b << 1 | c
        return first >> n & 1, second >> n & 1

    return form.done(looked_up, bits="each")


# Equality is told by a difference, which a value that is not known does not have.
_COMPARE: dict[str, Callable[[int, int], int]] = {
    "LT": lambda a, b: int(a < b),
    "LE": lambda a, b: int(a <= b),
    "GT": lambda a, b: int(a > b),
    "GE": lambda a, b: int(a >= b),
    "EQ": lambda a, b: int(a - b == 0),
    "NE": lambda a, b: int(a - b != 0),
    "T": lambda a, b: 1,
    "F": lambda a, b: 0,
}
_COMBINE: dict[str, Callable[[int, int], int]] = {
    "AND": lambda a, b: a & b,
    "OR": lambda a, b: a | b,
    "XOR": lambda a, b: a ^ b,
}


def _setp(form: _Form) -> Operation:
    """A comparison, combined with a predicate; EX: of the upper halves, where that of the lower ones is given last.

    A second predicate takes the opposite of the comparison, combined with the same.
    """
    kind = next((each for each in _COMPARE if each in form.modifiers), "")
    combine = next((each for each in _COMBINE if each in form.modifiers), "")
    wide = bool(form.modifiers & {"U64", "S64", "64"})
    if not kind or not combine:
        raise _NotKnownError
    compare, joined, signed = _COMPARE[kind], _COMBINE[combine], form.signed
    form.target()
    form.target()
    second = form.writes[1] >= 0
    if not second:
        form.writes.pop()
    form.source(wide)
    form.source(wide)
    form.source()
    extends = "EX" in form.modifiers
    if extends:
        form.source()
    # The combination with a constant is done here.
    alone = combine == "AND" and form.reads[-1] == Literal(1) and form.changes[-1] is None
    if alone and not (extends or second or wide):
        form.reads.pop()
        form.changes.pop()
        if not signed:
            return form.done(lambda a, b: compare(a & ALL, b & ALL))
        # The order of signed numbers is that of unsigned ones with the highest bit turned.
        return form.done(lambda a, b: compare(a & ALL ^ 0x80000000, b & ALL ^ 0x80000000))

    def told(a: int, b: int, p: int, lower: int = 0) -> object:
        x, y = (_signed(a), _signed(b)) if signed else (a & ALL, b & ALL)
        found = compare(x, y)
        if extends:
            if kind == "EQ":
                found &= lower
            elif kind == "NE":
                found |= lower
            else:
                found = lower if x - y == 0 else found
        return (joined(found, p), joined(found ^ 1, p)) if second else joined(found, p)

    def told_wide(a: int, ah: int, b: int, bh: int, p: int) -> object:
        x, y = ((ah & ALL) << 32 | a), ((bh & ALL) << 32 | b)
        if signed:
            x, y = (value - _WIDE if value >> 63 else value for value in (x, y))
        found = compare(x, y)
        return (joined(found, p), joined(found ^ 1, p)) if second else joined(found, p)

    return form.done(told_wide if wide else told)


def _select(form: _Form) -> Operation:
    wide = "64" in form.modifiers
    if form.modifiers - {"64"}:
        raise _NotKnownError
    form.target(1 + wide)
    form.source(wide)
    form.source(wide)
    form.source()
    if wide:
        return form.done(lambda a, b, c, d, p: (a, b) if p else (c, d))
    return form.done(lambda a, b, p: a if p else b)


def _unary(function: Callable[[int], int]) -> Callable[[_Form], Operation]:
    def build(form: _Form) -> Operation:
        if form.modifiers - {"U32", "S32"}:
            raise _NotKnownError
        form.target()
        form.source()
        return form.done(function)

    return build


def _find_leading_one(form: _Form) -> Operation:
    """The position of the highest bit that is one (of a negative number: zero); SH: how far it is from the top."""
    signed, distance = form.signed, "SH" in form.modifiers
    form.target()
    if form.predicate_targets() and any(each >= 0 for each in form.writes[1:]):
        raise _NotKnownError
    del form.writes[1:]
    form.source()

    def found(x: int) -> int:
        x &= ALL
        if signed and x >> 31:
            x ^= ALL
        if not x:
            return ALL
        return 32 - x.bit_length() if distance else x.bit_length() - 1

    return form.done(found)


def _permute(form: _Form) -> Operation:
    """Four of the eight bytes of the first and the third operand, by the digits of the second; +8: the byte's sign."""
    if form.modifiers:
        raise _NotKnownError
    form.target()
    form.sources(3)

    def permuted(a: int, digits: int, b: int) -> int:
        whole, found = (b & ALL) << 32 | (a & ALL), 0
        for place in range(4):
            digit = digits >> 4 * place & 15
            byte = whole >> 8 * (digit & 7) & 255
            if digit & 8:
                byte = 255 if byte >> 7 else 0
            found |= byte << 8 * place
        return found

    return form.done(permuted)


def _mask(form: _Form) -> Operation:
    """BMSK: `width` ones from position `first` on."""
    wraps = "W" in form.modifiers
    form.target()
    form.sources(2)

    def made(first: int, width: int) -> int:
        first, width = (first & 31, width & 31) if wraps else (min(first, 32), min(width, 32))
        return ((1 << width) - 1 << first) & ALL

    return form.done(made)


def _sign_extend(form: _Form) -> Operation:
    """SGXT: the lower `width` bits, extended by their sign, or by zeros with U32."""
    signed, wraps = form.signed, "W" in form.modifiers
    form.target()
    form.sources(2)

    def extended(x: int, width: int) -> int:
        width = width & 31 if wraps else min(width, 32)
        x &= (1 << width) - 1
        return (x - (1 << width)) & ALL if signed and width and x >> width - 1 else x

    return form.done(extended)


def _reverse(x: int) -> int:
    return int(f"{x & ALL:032b}"[::-1], 2)


def _bank_load(form: _Form) -> Operation:
    """LDC and its kin, at an address that the instruction names."""
    count = next((int(each) // 32 for each in ("64", "128") if each in form.modifiers), 1)
    if form.modifiers & {"U8", "S8", "U16", "S16"}:
        raise _NotKnownError
    form.target(count)
    found = form._next()
    if not isinstance(found.source, Constant) or found.change:
        raise _NotKnownError
    at = found.source
    form.reads = [Constant(at.bank, at.offset + 4 * part) for part in range(count)]
    return form.done((lambda a: a) if count == 1 else (lambda *values: values))


def _uniform_from_register(form: _Form) -> Operation:
    """R2UR: the value of the first active lane."""
    if form.left and _is_predicate(form.left[0]) and form._next().source != Literal(1):
        raise _NotKnownError
    form.target()
    form.source()
    return form.done(lambda values: values[0], across=True)


def _vote(form: _Form) -> Operation:
    """Whether a predicate holds in any lane, or in all; the register, which lanes it holds in, is known at the ends."""
    kind = next((each for each in ("ANY", "ALL", "EQ") if each in form.modifiers), "")
    if not kind:
        raise _NotKnownError
    if form.left and not _is_predicate(form.left[0]):
        form.target()
        ballot = form.writes[0] >= 0
    else:
        form.writes.append(-1)
        ballot = False
    form.target()
    form.source()

    def told(values: Sequence[int]) -> tuple[object, int]:
        held = {value & 1 for value in values}
        if ballot and len(held) > 1:
            raise TypeError("the lanes between are not known")
        found = {"ANY": 1 in held, "ALL": held == {1}, "EQ": len(held) == 1}[kind]
        return (ALL if held == {1} else 0), int(found)

    return form.done(told, across=True)


def _shuffle(form: _Form) -> Operation:
    """SHFL of a value that all lanes have gives that value."""
    form.target()
    if form.writes[0] >= 0:
        raise _NotKnownError
    form.target()
    form.source()

    def shuffled(values: Sequence[int]) -> tuple[int, int]:
        if len({value & ALL for value in values}) > 1:
            raise TypeError("another lane's value is not known")
        return 0, values[0]

    return form.done(shuffled, across=True)


def _predicates_to_register(form: _Form) -> Operation:
    """P2R, UP2UR: the predicates as bits, where the mask has ones; else the bits of the register."""
    base = UNIFORM_PREDICATES if form.name.startswith("U") else PREDICATES
    form.target()
    form.left.pop(0)
    form.source()
    mask = form.number()
    if form.modifiers:
        raise _NotKnownError
    bits = [bit for bit in range(7) if mask >> bit & 1]
    form.reads += [base + bit for bit in bits]
    form.changes += [None] * len(bits)

    def packed(x: int, *predicates: int) -> int:
        found = x & ~mask & ALL
        for bit, value in zip(bits, predicates, strict=True):
            found |= value << bit
        return found

    return form.done(packed, bits="each")


def _register_to_predicates(form: _Form) -> Operation:
    """R2P, UR2UP: bits of a register as predicates, where the mask has ones."""
    base = UNIFORM_PREDICATES if form.name.startswith("U") else PREDICATES
    form.left.pop(0)
    byte = form.left[0].suffixes if form.left and form.left[0] else ()
    shift = 8 * next((int(each[1]) for each in byte if re.fullmatch(r"B\d", each)), 0)
    found = form._next()
    if found.change:
        raise _NotKnownError
    form.reads.append(found.source)
    form.changes.append(None)
    mask = form.number()
    bits = [bit for bit in range(7) if mask >> bit & 1]
    form.writes = [base + bit for bit in bits]
    return form.done(lambda x: tuple(x >> shift + bit & 1 for bit in bits), bits="each")


def _int_to_float(form: _Form) -> Operation:
    """I2F; RP rounds up, which the reciprocal of a division is started from."""
    kinds, up = form.modifiers - {"RP", "F32"}, "RP" in form.modifiers
    wide = bool(kinds & {"U64", "S64"})
    signed = not kinds & {"U32", "U64"}
    if kinds - {"U32", "S32", "U64", "S64"}:
        raise _NotKnownError
    form.target()
    form.source(wide)

    def converted(low: int, upper: int = 0) -> int:
        x = (upper << 32 | low) & (_WIDE - 1 if wide else ALL)
        if signed and x >> (63 if wide else 31):
            x -= _WIDE if wide else _CARRY
        bits = _bits(float(x))
        if up and _float(bits) < x:
            bits += 1 if x >= 0 else -1
        return bits

    return form.done(converted)


def _float_to_int(form: _Form) -> Operation:
    """F2I, which cuts off and saturates."""
    if "TRUNC" not in form.modifiers or form.modifiers & {"F64", "F16"}:
        raise _NotKnownError
    wide, signed = bool(form.modifiers & {"U64", "S64"}), not form.modifiers & {"U32", "U64"}
    form.target(1 + wide)
    form.source()
    width = 64 if wide else 32
    lowest, highest = (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)

    def converted(bits: int) -> object:
        value = _float(bits)
        whole = (
            0 if math.isnan(value) else highest if value == math.inf else lowest if value == -math.inf else int(value)
        )
        whole = min(max(whole, lowest), highest) & (1 << width) - 1
        return (whole & ALL, whole >> 32) if wide else whole

    return form.done(converted)


def _reciprocal(form: _Form) -> Operation:
    if form.modifiers != {"RCP"}:
        raise _NotKnownError
    form.target()
    form.source()

    def inverse(bits: int) -> int:
        value = _float(bits)
        return _bits(1 / value) if value else 0x7F800000 | (bits & 0x80000000)

    return form.done(inverse)


def _wait(form: _Form) -> Operation:
    """SYNCS: a wait for a barrier has succeeded."""
    if "TRYWAIT" not in form.modifiers:
        raise _NotKnownError
    form.target()
    return form.done(lambda: 1)


_BUILDERS: dict[str, Callable[[_Form], Operation]] = {
    **dict.fromkeys(("MOV", "UMOV", "MOV32I", "R2R"), _mov),
    **dict.fromkeys(("IADD3", "UIADD3"), _add3),
    **dict.fromkeys(("IMAD", "UIMAD"), _mad),
    **dict.fromkeys(("IADD", "VIADD", "UIADD", "UVIADD", "IADD32I"), _add),
    **dict.fromkeys(
        ("IMNMX", "VIMNMX", "VIMNMX3", "VIADDMNMX", "UIMNMX", "UVIMNMX", "UVIMNMX3", "UVIADDMNMX"), _min_max
    ),
    **dict.fromkeys(("LEA", "ULEA"), _lea),
    **dict.fromkeys(("SHF", "USHF"), _shift),
    **dict.fromkeys(("LOP3", "ULOP3"), _lop3),
    **dict.fromkeys(("PLOP3", "UPLOP3"), _plop3),
    **dict.fromkeys(("ISETP", "UISETP"), _setp),
    **dict.fromkeys(("SEL", "USEL", "FSEL", "UFSEL"), _select),
    **dict.fromkeys(("IABS", "UIABS"), _unary(lambda x: abs(_signed(x)))),
    **dict.fromkeys(("POPC", "UPOPC"), _unary(lambda x: f"{x & ALL:b}".count("1"))),
    **dict.fromkeys(("BREV", "UBREV"), _unary(_reverse)),
    **dict.fromkeys(("FLO", "UFLO"), _find_leading_one),
    **dict.fromkeys(("PRMT", "UPRMT"), _permute),
    **dict.fromkeys(("BMSK", "UBMSK"), _mask),
    **dict.fromkeys(("SGXT", "USGXT"), _sign_extend),
    **dict.fromkeys(("LDC", "ULDC", "LDCU"), _bank_load),
    **dict.fromkeys(("VOTE", "VOTEU"), _vote),
    **dict.fromkeys(("P2R", "UP2UR"), _predicates_to_register),
    **dict.fromkeys(("R2P", "UR2UP"), _register_to_predicates),
    **dict.fromkeys(("I2F", "I2FP", "UI2F", "UI2FP"), _int_to_float),
    **dict.fromkeys(("F2I", "UF2I"), _float_to_int),
    "R2UR": _uniform_from_register,
    "SHFL": _shuffle,
    "MUFU": _reciprocal,
    "SYNCS": _wait,
}


def operation(instruction: Instruction) -> Operation | Load | None:
    """What the instruction computes; None where that is not followed, or it writes nothing that could be."""
    try:
        return _operation(instruction)
    except _NotKnownError:
        return None


def on_stack(instruction: Instruction) -> Operation | None:
    """A load from the stack or a store to it, as a copy of words with numbers from STACK; None where it has no number.

    A word is counted from where the stack pointer is.
    """
    texts = split(instruction.operands)
    stores = instruction.name == "STL"
    place, data = texts if stores else reversed(texts)
    match, found = _ON_STACK.fullmatch(place), operand(data)
    size = next((_SIZES[each] for each in instruction.modifiers if each in _SIZES), 4)
    offset = int(match[1] or "0", 16) if match else 0
    if match is None or found is None or found.change or (size >= 4 and offset % 4):
        return None
    if size < 4:
        # Part of a word.
        changed = STACK + offset // 4 if stores else found.source
        return Operation((), (), lambda: (), unknown=(changed,) if isinstance(changed, int) else ())
    registers = [found.source + n if isinstance(found.source, int) else found.source for n in range(size // 4)]
    words = [STACK + offset // 4 + n for n in range(size // 4)]
    copy = (lambda x: x) if len(words) == 1 else lambda *values: values
    if stores:
        return Operation(tuple(registers), tuple(words), copy)
    return Operation(tuple(words), tuple(each if isinstance(each, int) else -1 for each in registers), copy)


def _operation(instruction: Instruction) -> Operation | Load | None:
    name, texts = instruction.name, split(instruction.operands)
    if name in ("LDG", "LD"):
        return _load(instruction, texts)
    if name == "UTCATOMSWS":
        return _allocated(instruction, texts)
    if name in ("S2R", "S2UR", "CS2R") and len(texts) == 2:
        return _read_special(instruction, texts)
    if name == "HFMA2" and len(texts) == 5 and texts[1:3] == ["-RZ", "RZ"]:
        return _two_halves(texts)
    if name == "ELECT":
        return _elect(instruction)
    if name not in _BUILDERS or not texts:
        return None
    return _BUILDERS[name](_Form(instruction))


def _read_special(instruction: Instruction, texts: Sequence[str]) -> Operation:
    target = operand(texts[0])
    assert target is not None
    if texts[1] != "SRZ":
        if instruction.name == "CS2R":
            raise _NotKnownError
        writes = (target.source if isinstance(target.source, int) else -1,)
        return Operation((Special(texts[1].removeprefix("SR_").upper()),), writes, lambda a: a)
    width = 1 if "32" in instruction.modifiers or instruction.name != "CS2R" else 2
    if not isinstance(target.source, int):
        raise _NotKnownError
    writes = tuple(target.source + part for part in range(width))
    return Operation((), writes, lambda: 0 if width == 1 else (0, 0))


def _two_halves(texts: Sequence[str]) -> Operation:
    """HFMA2 of zeros: two floats of 16 bits, by which the compiler may write any number."""
    target = operand(texts[0])
    if target is None or not isinstance(target.source, int):
        raise _NotKnownError
    try:
        upper, lower = (struct.unpack("<H", struct.pack("<e", float(text)))[0] for text in texts[3:])
    except (ValueError, OverflowError):
        raise _NotKnownError from None
    value = upper << 16 | lower
    return Operation((), (target.source,), lambda: value)


def _elect(instruction: Instruction) -> Operation:
    """ELECT chooses the first active lane."""
    targets = [operand(text) for text in split(instruction.operands)]
    found = next(each for each in targets if each is not None and _is_predicate(each))
    if not isinstance(found.source, int):
        raise _NotKnownError
    return Operation((Special("ELECTED"),), (found.source,), lambda a: a)


def _allocated(instruction: Instruction, texts: Sequence[str]) -> Operation:
    """UTCATOMSWS: tensor memory is found at the first try."""
    found = [operand(text) for text in texts[:2]]
    if "FIND_AND_SET" not in instruction.modifiers or not all(each and isinstance(each.source, int) for each in found):
        raise _NotKnownError
    success, place = (each.source for each in found if each and isinstance(each.source, int))
    return Operation((), (success,), lambda: 1, unknown=(place,))


_ON_STACK = re.compile(r"\[R1(?:\+(0x[0-9a-f]+))?\]")
_ADDRESS = re.compile(r"(?:u?desc\[\w+\])?(?:cx?\[\w+\])?\[([^\]]*)\]")
_SIZES = {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16, "256": 32}


def _load(instruction: Instruction, texts: Sequence[str]) -> Load:
    size = next((_SIZES[each] for each in instruction.modifiers if each in _SIZES), 4)
    if len(texts) != 2 or (target := operand(texts[0])) is None or not (match := _ADDRESS.fullmatch(texts[1])):
        raise _NotKnownError
    parts, offset = list[tuple[Source, Source | None, int]](), 0
    for piece in re.findall(r"[-+]?[^-+]+", match[1]):
        sign, word = (-1, piece[1:]) if piece[0] == "-" else (1, piece.lstrip("+"))
        if (found := operand(word)) is None or set(found.suffixes) - {"64", "U32", "reuse"}:
            raise _NotKnownError
        if isinstance(found.source, Literal):
            # A constant is signed by what stands before it, or by having more than 31 bits.
            offset += sign * _signed(found.source.value)
        else:
            parts.append((found.source, _upper(found.source) if "64" in found.suffixes else None, sign))
    # A uniform register has 64 bits in an address, whether it stands alone or beside another.
    parts = [(low, _upper(low) if isinstance(low, int) and low >= UNIFORM else high, s) for low, high, s in parts]
    first = target.source if isinstance(target.source, int) else None
    writes = tuple(-1 if first is None else first + n for n in range(max(1, size // 4)))
    return Load(tuple(parts), offset, size, bool({"S8", "S16"} & set(instruction.modifiers)), writes)


# What writes no register that its first operand names.
_SILENT = re.compile(
    r"ST[GSLM]?|STSM|STTM|STAS|RED[GSUX]?|REDAS|LDGSTS|LDGDEPBAR|DEPBAR|BAR|UTMA\w+|UBLK\w+|UTC\w+|MEMBAR|CCTL\w*|ERRBAR|FENCE"
    r"|WARPSYNC|WARPGROUP|NOP|BRA|BRX|BRXU|JMP|JMX|CALL|RET|EXIT|KILL|BSSY|BSYNC|BREAK|YIELD|NANOSLEEP|ACQBULK|BPT"
    r"|ARRIVES|USETMAXREG|UCGABAR\w*|ENDCOLLECTIVE|PREEXIT|CGAERRBAR|UGETNEXTWORKID|ACQSHMINIT|UARRIVE\w*"
)
_TESTS = re.compile(r"U?[FDHI]SETP2?|FCHK|U?PSETP|U?P?LOP3|SYNCS|PLOP3|UPLOP3")


def written(instruction: Instruction) -> tuple[int, ...]:
    """The registers that an instruction without an operation changes, in doubt rather too many."""
    name, modifiers = instruction.name, instruction.modifiers
    if _SILENT.fullmatch(name) and name != "REDUX":
        return ()
    found = list[int]()
    targets = [operand(text) for text in split(instruction.operands)]
    while targets and _is_predicate(targets[0]):
        source = targets.pop(0)
        assert source is not None
        if isinstance(source.source, int):
            found.append(source.source)
    first = targets[0].source if targets and targets[0] is not None else None
    if isinstance(first, int) and first < PREDICATES and not _only_tests(name, found):
        end = UNIFORM if first < UNIFORM else PREDICATES
        found += range(first, min(first + _width(name, modifiers), end))
    if name in ("R2P", "UR2UP"):
        base = UNIFORM_PREDICATES if name == "UR2UP" else PREDICATES
        found += range(base, base + 7)
    # A predicate after the register: the carry of a sum.
    for each in targets[1:3]:
        if each is None or not _is_predicate(each) or each.change:
            break
        if isinstance(each.source, int):
            found.append(each.source)
    return tuple(found)


def _only_tests(name: str, found: Sequence[int]) -> bool:
    return bool(_TESTS.fullmatch(name)) and not (name.endswith("LOP3") and not found)


def _width(name: str, modifiers: Sequence[str]) -> int:
    """How many registers a result has."""
    for each in modifiers:
        if match := re.fullmatch(r"64x(\d+)x\d+", each):
            return max(1, int(match[1]) // 2)
    if name == "LDTM":
        # So many repetitions of 32 bits a lane, of which lanes of half a warp have two or four times as much.
        times = max((int(each[1:]) for each in modifiers if re.fullmatch(r"x\d+", each)), default=1)
        return times * (4 if "256bit" in "".join(modifiers) else 2 if "128bit" in "".join(modifiers) else 1)
    if name.endswith("MMA") and name != "HFMA2":
        return 4
    if name == "LDSM":
        return next((int(each) for each in modifiers if each in ("2", "4")), 1)
    for each in ("256", "128"):
        if each in modifiers:
            return int(each) // 32
    wide = {"64", "WIDE", "F64", "S64", "U64", "EX64"} & set(modifiers)
    return 2 if wide or (name[0] == "D" and name != "DEPBAR") or name == "CS2R" or name.endswith("2") else 1
