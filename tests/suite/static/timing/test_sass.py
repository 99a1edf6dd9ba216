"""Control codes, decoded by hand from what ptxas wrote; the bits stand beside each word."""

from __future__ import annotations

import pytest

from suite.static.timing.sass import Instruction, decode

HEAD = "\t\tFunction : kernel\n"
ZEROS = f"0x{0:016x}"


def lines(address: str, text: str, low: str, high: str) -> str:
    return f"        /*{address}*/                   {text} ;          /* {low} */\n          /* {high} */\n"


# text, the higher word, and (stall, yields, sets, reads, waits)
WORDS = [
    # 0x000eae00 >> 9 = 0b000 0000 0111 0101 0111: waits 000000, reads 111, sets 010, yield 1, stall 0111.
    ("S2R R140, SR_TID.X", "0x000eae0000002100", (7, False, 2, None, ())),
    # 0x044fe200 >> 9 = 0b10 0010 0111 1111 0001: waits 000100, reads 111, sets 111, yield 1, stall 0001.
    ("LOP3.LUT R2, R140.reuse, 0x20, RZ, 0xc0, !PT", "0x044fe200078ec0ff", (1, False, None, None, (2,))),
    # 0x000fc400 >> 9 = 0b0111 1110 0010: waits 000000, reads 111, sets 111, yield 0, stall 0010.
    ("SHF.R.S32.HI R141, RZ, 0x1f, R0", "0x000fc40000011400", (2, True, None, None, ())),
    # 0x0085e200 >> 9 = 0b100 0010 1111 0001: waits 001000, reads 010, sets 111, yield 1, stall 0001.
    ("STS.128 [R5], R8", "0x0085e20000000c00", (1, False, None, 2, (3,))),
    # 0x03f1e400 >> 9 = 0b1 1111 1000 1111 0010: waits 111111, reads 000, sets 111, yield 1, stall 0010.
    ("STG.E [R2.64], R4", "0x03f1e4000c101904", (2, False, None, 0, (0, 1, 2, 3, 4, 5))),
    # 0x0002a200 >> 9 = 0b1 0101 0001: waits 000000, reads 001, sets 010, yield 1, stall 0001.
    ("LDG.E.128 R8, desc[UR4][R2.64]", "0x0002a2000c1e1d00", (1, False, 2, 1, ())),
]


@pytest.mark.parametrize(("text", "high", "expected"), WORDS, ids=[text.split()[0] for text, *_ in WORDS])
def test_control_codes(text: str, high: str, expected: tuple[object, ...]) -> None:
    (found,) = decode(HEAD + lines("0010", text, "0x00000000008c7919", high))
    assert (found.stall, found.yields, found.sets, found.reads, found.waits) == expected
    assert found.address == 16


def test_text_is_taken_apart() -> None:
    texts = {
        "0000": "@!P0 LDG.E.64 R4, desc[UR4][R2.64+0x80]",
        "0010": "@P4 BRA 0xd70",
        "0020": "BRA.U UP0, 0x0",
        "10030": "EXIT",
    }
    listing = HEAD + "".join(lines(address, text, ZEROS, ZEROS) for address, text in texts.items())
    load, jump, uniform, end = decode(listing)
    assert (load.predicate, load.opcode, load.operands) == ("!P0", "LDG.E.64", "R4, desc[UR4][R2.64+0x80]")
    assert (load.name, load.modifiers, load.target) == ("LDG", ("E", "64"), None)
    assert (jump.predicate, jump.target) == ("P4", 0xD70)
    assert (uniform.opcode, uniform.operands, uniform.target) == ("BRA.U", "UP0, 0x0", 0)
    assert end == Instruction(0x10030, "", "EXIT", "", 0, True, 0, 0, (), None)


def test_half_an_instruction_and_two_functions_are_refused() -> None:
    whole = lines("0000", "EXIT", ZEROS, ZEROS)
    with pytest.raises(ValueError, match="the instruction at 0x0000 has one half of its 128 bits only"):
        decode(HEAD + whole.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match="2 functions; one is read at a time"):
        decode(2 * (HEAD + whole))
