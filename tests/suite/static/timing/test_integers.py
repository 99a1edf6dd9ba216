"""What integer instructions compute, against Python's own arithmetic."""

from __future__ import annotations

import random

import pytest

from suite.static.timing.integers import (
    ALL,
    PREDICATES,
    STACK,
    UNIFORM,
    UNIFORM_PREDICATES,
    Constant,
    Literal,
    Operation,
    Special,
    on_stack,
    operation,
    written,
)
from suite.static.timing.sass import Instruction

BASES = {"R": 0, "UR": UNIFORM, "P": PREDICATES, "UP": UNIFORM_PREDICATES}
CONSTANT = 0x01234567


def instruction(text: str) -> Instruction:
    opcode, _, operands = text.partition(" ")
    return Instruction(0, "", opcode, operands, 1, False, None, None, ())


def number(name: str) -> int:
    file = name.rstrip("0123456789")
    return BASES[file] + int(name[len(file) :])


def results(text: str, **registers: int) -> list[int]:
    """What an instruction writes, in the order of its operands; registers that are not named hold zero."""
    made = operation(instruction(text))
    assert isinstance(made, Operation), text
    held = {number(name): value & ALL for name, value in registers.items()}
    values = []
    for each in made.reads:
        assert not isinstance(each, Special)
        value = (
            each.value if isinstance(each, Literal) else CONSTANT if isinstance(each, Constant) else held.get(each, 0)
        )
        values.append((value,) if made.across else value)
    found = made.function(*values)
    several = list(found) if isinstance(found, tuple) else [found]
    return [value for value, to in zip(several, made.writes, strict=True) if to >= 0]


def signed(x: int) -> int:
    return x - (1 << 32) if x >> 31 else x


NUMBERS = [0, 1, 2, 0x7FFFFFFF, 0x80000000, ALL, *random.Random(0).choices(range(1 << 32), k=6)]
PAIRS = [(a, b) for a in NUMBERS for b in NUMBERS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MOV R0, R1", lambda a, b, c: a),
        ("IMAD.MOV.U32 R0, RZ, RZ, R2", lambda a, b, c: b),
        ("IMAD.MOV R0, RZ, RZ, -R2", lambda a, b, c: -b),
        ("IMAD.IADD R0, R1, 0x1, -R2", lambda a, b, c: a - b),
        ("IMAD.SHL.U32 R0, R1, 0x80, RZ", lambda a, b, c: a << 7),
        ("IMAD R0, R1.reuse, R2, R3", lambda a, b, c: a * b + c),
        ("IMAD R0, R1, R2, -R3", lambda a, b, c: a * b - c),
        ("IMAD.X R0, R1, 0x1, R2, P3", lambda a, b, c: a + b),
        ("IMAD.HI.U32 R0, R1, R2, RZ", lambda a, b, c: a * b >> 32),
        ("IMAD.HI R0, R1, R2, RZ", lambda a, b, c: signed(a) * signed(b) >> 32),
        ("IADD3 R0, R1, -R2, R3", lambda a, b, c: a - b + c),
        ("IADD3 R0, PT, PT, R1, -0x10, RZ", lambda a, b, c: a - 16),
        ("IADD3 R0, R1, c[0x0][0x160], RZ", lambda a, b, c: a + CONSTANT),
        ("IADD3 R0, R1, ~R2, RZ", lambda a, b, c: a + ~b),
        ("VIADD R0, R1, 0xffffffff", lambda a, b, c: a - 1),
        ("VIADD R0, R1, -R2", lambda a, b, c: a - b),
        ("VIADDMNMX R0, R1, 0x1, R2, PT", lambda a, b, c: min(signed((a + 1) & ALL), signed(b))),
        ("VIADDMNMX.U32 R0, R1, -0x1, R2, !PT", lambda a, b, c: max((a - 1) & ALL, b)),
        ("VIMNMX R0, R1, R2, PT", lambda a, b, c: min(signed(a), signed(b))),
        ("VIMNMX.U32 R0, R1, R2, !PT", lambda a, b, c: max(a, b)),
        ("VIMNMX.S32 R0, R1, R2, PT", lambda a, b, c: min(signed(a), signed(b))),
        ("VIMNMX3 R0, R1, R2, R3, !PT", lambda a, b, c: max(map(signed, (a, b, c)))),
        ("IMNMX R0, R1, R2, !PT", lambda a, b, c: max(signed(a), signed(b))),
        ("IABS R0, R1", lambda a, b, c: abs(signed(a))),
        ("LEA R0, R1, R2, 0x3", lambda a, b, c: (a << 3) + b),
        ("LEA.HI R0, R1, R2, RZ, 0x5", lambda a, b, c: (a >> 27) + b),
        ("LEA.HI.SX32 R0, R1, R2, 0x1e", lambda a, b, c: (signed(a) >> 2) + b),
        ("LEA.HI.X R0, R1, R2, R3, 0x2, P0", lambda a, b, c: ((c << 32 | a) >> 30) + b),
        ("SHF.L.U32 R0, R1, 0x7, RZ", lambda a, b, c: a << 7),
        ("SHF.R.U32.HI R0, RZ, 0x7, R1", lambda a, b, c: a >> 7),
        ("SHF.R.S32.HI R0, RZ, 0x1f, R1", lambda a, b, c: signed(a) >> 31),
        ("SHF.R.U64 R0, R1, 0x9, R2", lambda a, b, c: (b << 32 | a) >> 9),
        ("SHF.R.S64 R0, R1, 0x9, R2", lambda a, b, c: (signed(b) << 32 | a) >> 9),
        ("SHF.L.U64.HI R0, R1, 0x9, R2", lambda a, b, c: (b << 32 | a) << 9 >> 32),
        ("SHF.L.U32 R0, R1, R2, RZ", lambda a, b, c: a << min(b, 32)),
        ("SHF.R.U32.HI R0, RZ, R2, R1", lambda a, b, c: a >> min(b, 32)),
        ("SHF.L.W.U32 R0, R1, 0x21, RZ", lambda a, b, c: a << 1),
        ("SEL R0, R1, R2, P0", lambda a, b, c: b),
        ("SEL R0, R1, R2, !P0", lambda a, b, c: a),
        ("PRMT R0, R1, 0x5410, R2", lambda a, b, c: (b & 0xFFFF) << 16 | a & 0xFFFF),
        ("PRMT R0, R1, 0x7632, R2", lambda a, b, c: b & 0xFFFF0000 | a >> 16),
        ("PRMT R0, R1, 0x9910, RZ", lambda a, b, c: (a & 0xFFFF) - (1 << 16) * (a >> 15 & 1)),
        ("BMSK R0, 0x4, 0x3", lambda a, b, c: 0x70),
        ("SGXT.U32 R0, R1, 0x5", lambda a, b, c: a & 31),
        ("SGXT R0, R1, 0x5", lambda a, b, c: (a & 31) - 32 * (a >> 4 & 1)),
        ("POPC R0, R1", lambda a, b, c: bin(a).count("1")),
        ("BREV R0, R1", lambda a, b, c: int(f"{a:032b}"[::-1], 2)),
        ("FLO.U32 R0, R1", lambda a, b, c: a.bit_length() - 1),
        ("FLO.U32.SH R0, R1", lambda a, b, c: 32 - a.bit_length() if a else -1),
        ("HFMA2.MMA R0, -RZ, RZ, 1, 5.9604644775390625e-08", lambda a, b, c: 0x3C000001),
        ("R2UR UR0, R1", lambda a, b, c: a),
        ("LDC R0, c[0x0][0x160]", lambda a, b, c: CONSTANT),
    ],
)
def test_one_result(text: str, expected: object) -> None:
    for (a, b), c in zip(PAIRS, [*NUMBERS] * len(NUMBERS), strict=True):
        assert results(text, R1=a, R2=b, R3=c) == [expected(a, b, c) & ALL], (a, b, c)  # type: ignore[operator]


@pytest.mark.parametrize("u", ["", "U"])
def test_a_sum_of_64_bits_carries(u: str) -> None:
    for a, b in PAIRS:
        x, y = (a << 32 | b), (b << 32 | a)
        for sign, flip, sum_ in (("", "", x + y), ("-", "~", x - y)):
            low, carry = results(f"{u}IADD3 {u}R4, {u}P0, {u}R0, {sign}{u}R2, {u}RZ", **{f"{u}R0": b, f"{u}R2": a})
            high = results(
                f"{u}IADD3.X {u}R5, {u}R1, {flip}{u}R3, {u}RZ, {u}P0, !{u}PT",
                **{f"{u}R1": a, f"{u}R3": b, f"{u}P0": carry},
            )
            assert high[0] << 32 | low == sum_ & (1 << 64) - 1


def test_a_sum_of_three_carries_twice() -> None:
    low, first, second = results("IADD3 R2, P0, P1, R3, UR6, R8", R3=ALL, UR6=ALL, R8=ALL)
    assert (low, first, second) == (ALL - 2, 1, 1)
    assert results("IADD3.X R3, PT, PT, RZ, UR5, R9, P0, P1", UR5=1, R9=2, P0=first, P1=second) == [5]
    assert results("UIADD3.64 UR8, UPT, UPT, UR4, UR6, URZ", UR4=ALL, UR5=1, UR6=1, UR7=2) == [0, 4]
    assert results("UIADD3.64 UR8, UR4, -0x1, URZ", UR4=0, UR5=1) == [ALL, 0]


def test_a_product_of_64_bits() -> None:
    for a, b in PAIRS:
        for kind, product in ((".U32", a * b), ("", signed(a) * signed(b))):
            low, high = results(f"IMAD.WIDE{kind} R4, R0, R1, R2", R0=a, R1=b, R2=b, R3=a)
            assert high << 32 | low == product + (a << 32 | b) & (1 << 64) - 1
    assert results("IMAD.HI.U32 R3, R3, R7, R2", R3=0x80000000, R7=4, R2=0) == [0x80000002]
    assert results("LEA R4, P1, R0, R2, 0x4", R0=0x10000000, R2=5) == [5, 0]
    assert results("LEA R4, P1, R0, R2, 0x2", R0=0x3FFFFFFF, R2=5) == [1, 1]


@pytest.mark.parametrize("expression", ["a & b | c", "a ^ b ^ c", "a & ~b", "~a | b & c", "(a & b) ^ (b | c)", "~c"])
def test_a_logical_table(expression: str) -> None:
    """The table of a function is its value for these three bytes, as the PTX manual says of lop3."""
    table = eval(expression, {"a": 0xF0, "b": 0xCC, "c": 0xAA}) & 0xFF
    for a, b in PAIRS:
        expected = eval(expression, {"a": a, "b": b, "c": a ^ b << 1 & ALL}) & ALL
        registers = {"R1": a, "R2": b, "R3": a ^ b << 1 & ALL}
        assert results(f"LOP3.LUT R0, R1, R2, R3, {table:#x}, !PT", **registers) == [expected]
        tested = results(f"LOP3.LUT P1, RZ, R1, R2, R3, {table:#x}, !PT", **registers)
        assert tested == [int(expected != 0)]
    for n in range(8):
        a, b, c = n >> 2, n >> 1 & 1, n & 1
        expected = eval(expression, {"a": a, "b": b, "c": c}) & 1
        registers = {"P0": a, "UP1": b, "P2": c}
        assert results(f"PLOP3.LUT P4, PT, P0, UP1, P2, {table:#x}, 0x0", **registers) == [expected]
        both = results(f"PLOP3.LUT P4, P5, P0, UP1, !P2, {table:#x}, {table ^ 255:#x}", **registers | {"P2": c ^ 1})
        assert both == [expected, expected ^ 1]


COMPARISONS = {"LT": "<", "LE": "<=", "GT": ">", "GE": ">=", "EQ": "==", "NE": "!="}


@pytest.mark.parametrize("kind", COMPARISONS)
@pytest.mark.parametrize("u", ["", "U"])
def test_comparisons_of_32_and_64_bits(kind: str, u: str) -> None:
    for a, b in PAIRS:
        for type_, key in ((".U32", lambda x: x), ("", signed)):
            expected = int(eval(f"x {COMPARISONS[kind]} y", {"x": key(a), "y": key(b)}))
            head, tail = f"{u}ISETP.{kind}{type_}", f"{u}R0, {u}R2, "
            held = {f"{u}R0": a, f"{u}R2": b, f"{u}P3": 1}
            assert results(f"{head}.AND {u}P0, {u}PT, {tail}{u}PT", **held) == [expected]
            assert results(f"{head}.AND {u}P0, {u}P1, {tail}{u}P3", **held) == [expected, expected ^ 1]
            assert results(f"{head}.AND {u}P0, {u}PT, {tail}!{u}P3", **held) == [0]
            assert results(f"{head}.OR {u}P0, {u}PT, {tail}{u}P3", **held) == [1]
            assert results(f"{head}.XOR {u}P0, {u}PT, {tail}{u}P3", **held) == [expected ^ 1]
            (low,) = results(f"{u}ISETP.{kind}.U32.AND {u}P1, {u}PT, {u}R0, {u}R2, {u}PT", **held)
            upper = {f"{u}R1": b, f"{u}R3": b ^ a & 1, f"{u}P1": low}
            (wide,) = results(f"{head}.AND.EX {u}P0, {u}PT, {u}R1, {u}R3, {u}PT, {u}P1", **upper)
            whole = {"x": (key(b) << 32) + a, "y": (key(b ^ a & 1) << 32) + b}
            assert wide == int(eval(f"x {COMPARISONS[kind]} y", whole)), (a, b)


def test_predicates_as_bits() -> None:
    assert results("P2R R0, PR, R1, 0x5", R1=ALL, P0=1, P1=1, P2=0) == [ALL ^ 4]
    assert results("UP2UR UR0, UPR, URZ, 0x20", UP5=1) == [32]
    assert results("R2P PR, R4, 0x7", R4=5) == [1, 0, 1]
    assert results("R2P PR, R4.B1, 0x3", R4=0x200) == [0, 1]


def test_a_division_as_the_compiler_writes_it() -> None:
    """The reciprocal's error is mended by the steps after it."""
    generator = random.Random(1)
    for _ in range(300):
        n, d = generator.getrandbits(generator.randint(1, 32)), generator.getrandbits(generator.randint(1, 31)) or 1
        (x,) = results("I2F.U32.RP R0, R1", R1=d)
        (x,) = results("MUFU.RCP R0, R1", R1=x)
        (x,) = results("F2I.FTZ.U32.TRUNC.NTZ R0, R1", R1=x + 0x0FFFFFFE)
        (q,) = results("IMAD.HI.U32 R3, R3, R7, R2", R3=x, R7=-x * d, R2=0)
        (q,) = results("IMAD.HI.U32 R3, R3, R4, RZ", R3=q, R4=n)
        rest = (n - q * d) & ALL
        for _ in range(2):
            q, rest = (q + 1, rest - d) if rest >= d else (q, rest)
        assert (q, rest) == divmod(n, d)


def test_conversions() -> None:
    assert results("I2F.S64 R0, R2", R2=ALL, R3=ALL) == [0xBF800000]
    assert results("I2F.U64.RP R0, R2", R2=1, R3=1) == [0x4F800001]
    assert results("F2I.U64.TRUNC R0, R2", R2=0x4F800001) == [512, 1]
    assert results("F2I.TRUNC.NTZ R0, R2", R2=0xBFC00000) == [ALL]
    assert results("F2I.FTZ.U32.TRUNC.NTZ R0, R2", R2=0x7F800000) == [ALL]


def test_votes_and_shuffles_of_what_all_lanes_have() -> None:
    made = operation(instruction("VOTE.ANY R3, P1, P0"))
    assert isinstance(made, Operation)
    assert made.across
    assert made.function((1, 1)) == (ALL, 1)
    assert made.function((0, 0)) == (0, 0)
    with pytest.raises(TypeError):
        made.function((0, 1))
    assert results("VOTEU.ALL UP0, P3", P3=1) == [1]
    assert results("SHFL.IDX PT, R4, R5, RZ, 0x1f", R5=7) == [7]


def test_waits_and_tensor_memory_succeed_at_once() -> None:
    assert results("SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR41], RZ") == [1]
    made = operation(instruction("UTCATOMSWS.FIND_AND_SET.ALIGN UP0, UR5, UR5"))
    assert isinstance(made, Operation)
    assert (made.writes, made.function(), made.unknown) == ((UNIFORM_PREDICATES,), 1, (UNIFORM + 5,))


def test_words_on_the_stack_have_numbers() -> None:
    made = on_stack(instruction("STL.64 [R1+0x10], R6"))
    assert made is not None
    assert (made.reads, made.writes) == ((6, 7), (STACK + 4, STACK + 5))
    made = on_stack(instruction("LDL.LU R6, [R1]"))
    assert made is not None
    assert (made.reads, made.writes) == ((STACK,), (6,))
    assert on_stack(instruction("LDL R6, [R2]")) is None
    half = on_stack(instruction("STL.S16 [R1+0x12], R6"))
    assert half is not None
    assert half.unknown == (STACK + 4,)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LDS.128 R4, [R2]", [4, 5, 6, 7]),
        ("HGMMA.64x128x16.F32.BF16 R24, R88, gdesc[UR4].tnspB, R24", range(24, 88)),
        ("LDTM.x16 R8, tmem[UR4]", range(8, 24)),
        ("DADD R8, R2, R4", [8, 9]),
        ("FSETP.GEU.AND P1, PT, |R3|, 1.17e-38, PT", [PREDICATES + 1]),
        ("ATOMG.E.CAS.STRONG.GPU PT, R4, [R2], R6, R7", [4]),
        ("SHFL.UP P0, R3, R20, 0x1, RZ", [PREDICATES, 3]),
        ("STG.E.128 desc[UR4][R2.64], R4", []),
        ("STS [R4], R5", []),
        ("BAR.SYNC.DEFER_BLOCKING 0x0", []),
        ("REDUX.SUM UR7, R2", [UNIFORM + 7]),
    ],
)
def test_what_is_not_followed_still_writes(text: str, expected: object) -> None:
    assert list(written(instruction(text))) == list(expected)  # type: ignore[call-overload]


@pytest.mark.parametrize("text", ["FADD R0, R1, R2", "MUFU.EX2 R0, R1", "PRMT R0, R1.H0_H0, 0x1, R2", "S2R R0", "NOP"])
def test_what_is_not_followed_has_no_operation(text: str) -> None:
    assert operation(instruction(text)) is None
