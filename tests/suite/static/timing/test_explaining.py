"""Why a launch takes its predicted time: on a kernel whose loop is known."""

from __future__ import annotations

import json
import re

import pytest

from suite.static.capturing import Recorder
from suite.static.model import Explanation, Launch, Profile
from suite.static.rows import explanation
from suite.static.stub_driver import pretending, target_of
from suite.static.timing.explaining import kind_of
from suite.static.timing.lines import lines_of
from suite.static.timing.sass import Instruction
from tests.suite.static import toys


@pytest.fixture(scope="module")
def launch() -> Launch:
    """A chain of products in a loop of 8 trips."""
    with pretending(target_of("sm_90")) as target, Recorder(target, explains=True) as recorder:
        toys.spilling()
    (found,) = recorder.launches
    return found


def why(launch: Launch) -> Explanation:
    assert launch.explained is not None
    return launch.explained


def test_the_main_loop_and_its_trips(launch: Launch) -> None:
    found = why(launch)
    assert found.trips == pytest.approx(8, abs=1)
    assert re.fullmatch(r"0x[0-9a-f]{4,} to 0x[0-9a-f]{4,}", found.loop)
    assert re.fullmatch(r"tests/suite/static/toys\.py:\d+-\d+", found.lines)
    assert found.cycles > 100
    assert found.instructions["tensor"] > 0
    assert found.instructions["spills"] > 0


def test_waits_name_instructions_and_lines(launch: Launch) -> None:
    waits = why(launch).waits
    assert waits
    assert [each.cycles for each in waits] == sorted((each.cycles for each in waits), reverse=True)
    assert all(each.waits_for for each in waits)
    assert any(each.line.startswith("tests/suite/static/toys.py:") for each in waits)
    assert any(re.fullmatch(r"[A-Z][\w.]* at 0x[0-9a-f]{4,}", each.maker) for each in waits)


def test_what_ifs_are_times_of_the_same_launch(launch: Launch) -> None:
    found = why(launch).what_ifs
    assert launch.predicted is not None
    assert launch.predicted.ms is not None
    assert set(found) == {"loads free", "barriers free", "no latency", "one more block an SM"}
    assert 0 < found["loads free"] <= launch.predicted.ms * 1.001
    assert 0 < found["no latency"] < launch.predicted.ms


def test_it_is_told_as_text_and_survives_json(launch: Launch) -> None:
    profile = Profile("op/impl/case", "sm_90", launches=(launch,))
    text = "\n".join(explanation(profile))
    assert "spilling_kernel: " in text
    assert "us predicted, bound by " in text
    assert "main loop: 0x" in text
    assert "what if: loads free " in text
    assert Profile.from_dict(json.loads(json.dumps(profile.to_dict()))) == profile


def test_nothing_is_explained_unless_it_is_asked_for() -> None:
    with pretending(target_of("sm_90")) as target, Recorder(target) as recorder:
        toys.copy()
    assert recorder.launches[0].predicted is not None
    assert recorder.launches[0].explained is None
    assert list(explanation(Profile("op/impl/case", "sm_90", launches=tuple(recorder.launches)))) == []


@pytest.mark.parametrize(
    ("opcode", "kind"),
    [
        ("HGMMA.64x64x16.F32.BF16", "tensor"),
        ("UTCHMMA", "tensor"),
        ("LDGSTS.E.BYPASS.128", "global memory"),
        ("LDL.64", "spills"),
        ("LDSM.16.M88.4", "shared memory"),
        ("SHFL.BFLY", "shuffles"),
        ("MUFU.EX2", "special functions"),
        ("F2FP.BF16.F32.PACK_AB", "conversions"),
        ("FFMA", "fp32"),
        ("FADD2", "fp32"),
        ("FSEL", "selects and masks"),
        ("BAR.SYNC.DEFER_BLOCKING", "synchronisation"),
        ("BSSY", "synchronisation"),
        ("IMAD.MOV.U32", "moves"),
        ("IMAD.WIDE.U32", "integers and addresses"),
        ("UIADD3", "integers and addresses"),
        ("BRA", "jumps"),
    ],
)
def test_kinds_of_instructions(opcode: str, kind: str) -> None:
    made = Instruction(0, "", opcode, "", 1, False, None, None, ())
    assert kind_of(made) == kind


def test_source_lines_of_a_listing() -> None:
    listing = """
\t.section\t.debug_line,"",@progbits
        /*0000*/                   NOP ;
\t.section\t.text.kernel,"ax",@progbits
        /*0000*/                   LDC R1, c[0x0][0x28] ;
\t//## File "/else/where.py", line 12
        /*0010*/                   S2R R0, SR_TID.X ;
        /*0020*/                   IADD3 R0, R0, 0x1, RZ ;
\t//## File "/x/site-packages/fla/ops/chunk.py", line 7 inlined at "/else/where.py", line 13
        /*10000*/                  EXIT ;
"""
    assert lines_of(listing) == {0x10: "/else/where.py:12", 0x20: "/else/where.py:12", 0x10000: "fla/ops/chunk.py:7"}
