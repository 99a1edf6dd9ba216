"""Loops of small programs, drawn by hand."""

from __future__ import annotations

import pytest

from suite.static.timing.flow import Loop, blocks, loops
from suite.static.timing.sass import Instruction
from tests.suite.static.timing.made import parsed


def test_straight_code_has_no_loop() -> None:
    code = parsed("IADD3\nIADD3\nEXIT\nBRA 3\nNOP")
    assert loops(code) == []
    assert [(each.first, each.last, each.after) for each in blocks(code)] == [(0, 2, ()), (3, 3, (1,)), (4, 4, ())]
    assert loops([]) == []


def test_loops_inside_of_loops() -> None:
    code = parsed("MOV\nFADD\nFMUL\n@P0 BRA 2\nIADD3\n@P1 BRA 1\nEXIT")
    outer, inner = loops(code)
    assert outer == Loop(1, (5,), (1, 2, 3, 4, 5))
    assert inner == Loop(2, (3,), (2, 3))
    assert outer.holds(inner)
    assert not inner.holds(outer)
    assert not outer.holds(outer)


def test_two_jumps_back_to_one_place_are_one_loop() -> None:
    assert loops(parsed("MOV\nFADD\n@P0 BRA 1\nFMUL\n@P1 BRA 1\nEXIT")) == [Loop(1, (2, 4), (1, 2, 3, 4))]


def test_code_behind_the_end_that_jumps_back_is_no_loop() -> None:
    """A wait that did not succeed at once is tried again there, which is a loop of its own."""
    code = parsed("SYNCS\n@!P0 BRA 5\nFADD\n@P1 BRA 0\nEXIT\nSYNCS\n@!P0 BRA 5\nBRA 2")
    outer, wait = loops(code)
    assert outer == Loop(0, (3,), (0, 1, 2, 3, 5, 6, 7))
    assert wait == Loop(5, (6,), (5, 6))
    assert [each for each in loops(parsed("MOV\n@P0 BRA 4\nFADD\nEXIT\nFMUL\nBRA 2")) if each] == []


def test_a_jump_on_a_condition_among_its_operands_may_go_on() -> None:
    assert loops(parsed("MOV\nFADD\nBRA.U UP0, 1\nEXIT")) == [Loop(1, (2,), (1, 2))]
    # A call comes back.
    assert [each.after for each in blocks(parsed("CALL.REL.NOINC 2\nEXIT\nFMUL\nRET"))] == [(2, 1), (), ()]


def test_code_that_is_never_reached_makes_no_loop() -> None:
    assert loops(parsed("EXIT\nMOV\n@P0 BRA 1\nEXIT")) == []


def test_a_jump_to_nowhere_is_refused() -> None:
    code = parsed("MOV\nBRA 1\nEXIT")
    broken = [code[0], Instruction(16, "", "BRA", "0x8", 1, False, None, None, (), 8), code[2]]
    with pytest.raises(ValueError, match="the jump at 0x0010 goes to 0x0008, where no instruction begins"):
        loops(broken)
