"""The way of a warp: through small programs drawn by hand, and through compiled kernels whose trips are known."""

from __future__ import annotations

import time

import pytest

from suite.static.timing.constants import Bank
from suite.static.timing.paths import Paths, UnknownPath, depends_on, trace
from suite.static.timing.sass import Instruction
from tests.suite.static.timing.made import parsed

NO_CONSTANTS = Bank()


def constants(**words: int) -> Bank:
    """A bank with words by offset: `c160=7`."""
    made = Bank()
    for name, value in words.items():
        made.write(int(name[1:], 16), (value & 0xFFFFFFFF).to_bytes(4, "little"))
    return made


COUNTED = """
    MOV R0, c[0x0][0x160]
    ISETP.LT.AND P0, PT, R0, 0x1, PT
    @P0 EXIT
    FADD R5, R5, R6
    IADD3 R0, R0, -0x1, RZ
    ISETP.NE.AND P1, PT, R0, RZ, PT
    @P1 BRA 3
    STG.E [R2.64], R5
    EXIT
"""


def test_a_loop_with_a_bound_of_the_launch() -> None:
    code = parsed(COUNTED)
    paths = Paths(code)
    assert paths.trace(constants(c160=5)) == [0, 1, 1, 1, 1, 1, 2]
    assert paths.trace(constants(c160=0)) == [0]
    assert paths.slice == {0, 1, 4, 5}
    assert paths.depends_on == frozenset()
    assert trace(code, constants(c160=1)) == [0, 1, 2]


def test_the_place_in_the_grid_decides() -> None:
    code = parsed(COUNTED.replace("MOV R0, c[0x0][0x160]", "S2R R0, SR_CTAID.Y"))
    assert depends_on(code) == {"ctaid.y"}
    assert [len(trace(code, NO_CONSTANTS, ctaid=(9, y, 9))) for y in range(4)] == [1, 3, 4, 5]


def test_what_decides_no_jump_may_be_unknown() -> None:
    code = parsed("""
        LDG.E R3, [R2.64]
        ISETP.NE.AND P2, PT, R3, RZ, PT
        @P2 STG.E [R2.64], R3
        S2UR UR4, SR_CTAID.X
        UISETP.GE.AND UP0, UPT, UR4, 0x2, UPT
        BRA.U UP0, 7
        FADD R5, R5, R6
        EXIT
    """)
    assert [trace(code, NO_CONSTANTS, ctaid=(x, 0, 0)) for x in (1, 2)] == [[0, 1, 2], [0, 2]]


DATA = """
    S2R R4, SR_CTAID.X
    IMAD.WIDE R2, R4, 0x4, c[0x0][0x160]
    LDG.E.CONSTANT R3, desc[UR4][R2.64+0x4]
    IADD3 R0, R0, 0x1, RZ
    ISETP.GE.AND P0, PT, R0, R3, PT
    @!P0 BRA 3
    EXIT
"""


def test_a_jump_on_data_is_refused_with_where_it_comes_from() -> None:
    code, held = parsed(DATA), constants(c160=0x1000, c164=2)
    message = r"`@!P0 BRA 3` at 0x0050 depends on LDG\.E\.CONSTANT at 0x0020, which depends on data"
    with pytest.raises(UnknownPath, match=message):
        trace(code, held)
    asked = []

    def memory(address: int, size: int) -> int:
        asked.append((address, size))
        return 3

    assert trace(code, held, ctaid=(5, 0, 0), memory=memory) == [0, 1, 1, 1, 2]
    # One lane as the other: each asks.
    assert set(asked) == {(0x200001018, 4)}
    with pytest.raises(UnknownPath, match="depends on LDG"):
        trace(code, held, memory=lambda address, size: None)


def test_a_constant_that_is_not_known_is_refused() -> None:
    with pytest.raises(UnknownPath, match=r"depends on c\[0x0\]\[0x160\], which is not known"):
        trace(parsed(COUNTED), NO_CONSTANTS)


def test_a_comparison_of_data_may_be_guessed() -> None:
    code = parsed("FSETP.GT.AND P0, PT, R3, R4, PT\n@P0 BRA 3\nFADD R5, R5, R6\nEXIT")
    with pytest.raises(UnknownPath, match=r"FSETP\.GT\.AND at 0x0000, which is not followed"):
        trace(code, NO_CONSTANTS)
    asked = []

    def guess(instruction: Instruction) -> bool:
        asked.append(instruction.address)
        return True

    assert trace(code, NO_CONSTANTS, guess=guess) == [0, 2]
    assert trace(code, NO_CONSTANTS, guess=lambda each: False) == [0, 1, 2]
    assert set(asked) == {0}


def test_a_path_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suite.static.timing.paths.LIMIT", 100)
    with pytest.raises(UnknownPath, match="does not end within 100 blocks"):
        trace(parsed("MOV R0, 0x1\nBRA 0\nEXIT"), NO_CONSTANTS)


def test_lanes_that_part_execute_both_ways() -> None:
    """Threads 0 to 15 go one way, the others another; the warps after the first all go the second way."""
    code = parsed("""
        S2R R0, SR_TID.X
        ISETP.LT.AND P0, PT, R0, 0x10, PT
        @P0 BRA 5
        MOV R1, 0x2
        BRA 6
        MOV R1, 0x3
        IADD3 R1, R1, -0x1, RZ
        ISETP.NE.AND P1, PT, R1, RZ, PT
        @P1 BRA 6
        EXIT
    """)
    paths = Paths(code)
    assert paths.depends_on == {"tid"}
    # Block 3 is the loop that the halves leave after two and three trips: the warp makes three.
    assert paths.trace(NO_CONSTANTS) == [0, 1, 2, 3, 3, 3, 4]
    assert paths.trace(NO_CONSTANTS, warp=1) == [0, 1, 3, 3, 4]


def test_lanes_that_end_leave_the_others() -> None:
    code = parsed("""
        S2R R0, SR_TID.X
        ISETP.NE.AND P0, PT, R0, RZ, PT
        @P0 EXIT
        MOV R1, 0x1
        EXIT
    """)
    assert trace(code, NO_CONSTANTS) == [0, 1]
    assert trace(code, NO_CONSTANTS, warp=1) == [0]


def test_one_lane_is_elected() -> None:
    code = parsed("""
        ELECT P0, URZ, PT
        @!P0 BRA 5
        ELECT P1, URZ, PT
        @!P1 BRA 5
        FADD R1, R1, R2
        EXIT
    """)
    assert trace(code, NO_CONSTANTS) == [0, 1, 2, 3]


def test_an_end_inside_of_the_only_loop_joins_lanes() -> None:
    """The loop has no way out but EXIT, and still what stands in it has a place where lanes meet again."""
    code = parsed("""
        S2R R0, SR_TID.X
        ISETP.LT.AND P0, PT, R0, 0x10, PT
        @P0 BRA 4
        FADD R1, R1, R2
        IADD3 R3, R3, 0x1, RZ
        ISETP.GE.AND P1, PT, R3, 0x3, PT
        @P1 EXIT
        BRA 1
    """)
    assert trace(code, NO_CONSTANTS) == [0, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3]


@pytest.mark.parametrize(
    "wait",
    [
        "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R3\n@!P0 BRA 0",
        "SYNCS.PHASECHK.TRANS64.TRYWAIT P0, [UR4], R3\nPLOP3.LUT P1, PT, P0, PT, PT, 0x80, 0x0\n@!P1 BRA 0",
        "ATOMG.E.CAS.STRONG.GPU PT, R4, [R2], R6, R7\nISETP.NE.AND P0, PT, R4, RZ, PT\n@P0 BRA 0",
        "ATOMG.E.CAS.STRONG.GPU PT, R4, [R2], R6, R7\nISETP.NE.AND P0, PT, R4, RZ, PT\n@!P0 BRA 4\nBRA 0",
    ],
)
def test_a_wait_passes_at_once(wait: str) -> None:
    code = parsed(f"{wait}\nFADD R1, R1, R2\nEXIT")
    found = trace(code, NO_CONSTANTS)
    assert len(found) == len(set(found)) == 2


def test_an_atomic_that_waits_for_nothing_is_refused() -> None:
    code = parsed("ATOMG.E.ADD.STRONG.GPU PT, R4, [R2], R6\nISETP.NE.AND P0, PT, R4, RZ, PT\n@P0 BRA 0\nEXIT")
    with pytest.raises(UnknownPath, match="ATOMG"):
        trace(code, NO_CONSTANTS)


def test_the_way_to_a_trap_is_not_taken() -> None:
    code = parsed("""
        LDS.U8 R2, [UR4]
        ISETP.NE.AND P0, PT, R2, RZ, PT
        @P0 BRA 4
        EXIT
        MOV R2, 0x60
        CALL.REL.NOINC 7
        EXIT
        BPT.TRAP 0x1
        RET.REL.NODEC R2 0x0
    """)
    assert trace(code, NO_CONSTANTS) == [0, 1]


def test_a_subroutine_returns_to_where_it_was_called() -> None:
    code = parsed("""
        MOV R8, 0x30
        MOV R9, 0x0
        CALL.REL.NOINC 7
        MOV R8, 0x60
        MOV R9, 0x0
        CALL.REL.NOINC 7
        EXIT
        FADD R1, R1, R2
        RET.REL.NODEC R8 0x0
    """)
    assert trace(code, NO_CONSTANTS) == [0, 3, 1, 3, 2]


def test_flags_in_one_register_are_told_apart() -> None:
    """The first is data, the second is known; the register has both."""
    code = parsed("""
        FSETP.GT.AND P0, PT, R3, R4, PT
        S2R R0, SR_CTAID.X
        ISETP.NE.AND P1, PT, R0, RZ, PT
        LOP3.LUT R7, R7, 0xfffffffe, RZ, 0xc0, !PT
        @P0 LOP3.LUT R7, R7, 0x1, RZ, 0xfc, !PT
        LOP3.LUT R7, R7, 0xfffffffd, RZ, 0xc0, !PT
        @P1 LOP3.LUT R7, R7, 0x2, RZ, 0xfc, !PT
        P2R R8, PR, RZ, 0x3
        R2P PR, R8, 0x2
        LOP3.LUT P2, RZ, R7, 0x2, RZ, 0xc0, !PT
        @!P1 BRA 13
        @!P2 BRA 13
        FADD R1, R1, R2
        EXIT
    """)
    assert trace(code, NO_CONSTANTS) == [0, 3]
    assert trace(code, NO_CONSTANTS, ctaid=(1, 0, 0)) == [0, 1, 2, 3]
    with pytest.raises(UnknownPath, match="FSETP"):
        trace(
            parsed(
                "\n".join(
                    str(line)
                    for line in (
                        "FSETP.GT.AND P0, PT, R3, R4, PT",
                        "@P0 LOP3.LUT R7, R7, 0x1, RZ, 0xfc, !PT",
                        "LOP3.LUT P2, RZ, R7, 0x3, RZ, 0xc0, !PT",
                        "@!P2 BRA 4",
                        "EXIT",
                    )
                )
            ),
            NO_CONSTANTS,
        )


def test_a_counter_on_the_stack() -> None:
    code = parsed("""
        LDC R1, c[0x0][0x28]
        VIADD R1, R1, 0xfffffff0
        MOV R4, 0x3
        STL [R1+0x8], R4
        FADD R4, R5, R6
        LDL R4, [R1+0x8]
        IADD3 R4, R4, -0x1, RZ
        STL [R1+0x8], R4
        ISETP.NE.AND P0, PT, R4, RZ, PT
        @P0 BRA 4
        EXIT
    """)
    assert trace(code, NO_CONSTANTS) == [0, 1, 1, 1, 2]
    moved = code[:5] + parsed("STL [R9], R4")[:1] + code[5:]
    with pytest.raises(UnknownPath, match="LDL"):
        trace(
            [
                Instruction(**{**vars(each), "address": 16 * n, "target": 64 if each.target else None})
                for n, each in enumerate(moved)
            ],
            NO_CONSTANTS,
        )


def test_eight_thousand_trips_are_found_quickly() -> None:
    code = parsed("""
        S2R R9, SR_TID.X
        MOV R0, RZ
        FADD R5, R5, R6
        LOP3.LUT R3, R0, 0x3, RZ, 0xc0, !PT
        ISETP.NE.AND P0, PT, R3, RZ, PT
        @P0 BRA 7
        FADD R5, R5, R6
        IADD3 R0, R0, 0x1, RZ
        ISETP.GE.AND P1, PT, R0, 0x2000, PT
        @!P1 BRA 2
        EXIT
    """)
    start = time.perf_counter()
    found = trace(code, NO_CONSTANTS)
    took = time.perf_counter() - start
    assert (found.count(1), found.count(2)) == (8192, 2048)
    # A tenth of it is what it takes on an idle machine.
    assert took < 1
