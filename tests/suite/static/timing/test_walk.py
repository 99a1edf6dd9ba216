"""Walks of small programs whose cycles are known by hand, and what must hold for any program."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from suite.static.timing import units
from suite.static.timing.machines import ARCHITECTURES, PARTITIONS
from suite.static.timing.units import Hints, needs_of
from suite.static.timing.walk import L2_QUEUE, LOST, TENSOR_QUEUE, Supply, walk
from tests.suite.static.timing.made import HOPPER, SUPPLY, chance, one, program, walked

LATENCY = HOPPER.latency
FFMA = "R0, R1, R2, R0"
# What a test adds to find out when an asynchronous result is there.
AFTER = one("NOP", waits=(0,))


def hgmma(n: int, commit: bool = False, a: str = "gdesc[UR4]"):
    return one(f"HGMMA.64x{n}x16.F32.BF16", f"R24, {a}, R24" + (", gsb0" if commit else ""))


def left(groups: int):
    return one("WARPGROUP.DEPBAR.LE", f"gsb0, {groups:#x}")


# Units of a partition


def test_a_chain_takes_its_stalls() -> None:
    assert walked(program([one("FFMA", FFMA, 4)] * 50)).cycles == 200


@pytest.mark.parametrize(("arch", "each"), [("sm_80", 2), ("sm_90", 1), ("sm_100", 1)])
def test_independent_multiply_adds_take_the_units_throughput(arch: str, each: int) -> None:
    code = program([one("FFMA", FFMA)] * 100)
    assert walked(code, arch=ARCHITECTURES[arch]).cycles == 100 * each - (each - 1)


@pytest.mark.parametrize(
    ("opcode", "each"),
    [
        ("IMAD", 2), ("IMAD.WIDE", 4), ("IMAD.HI.U32", 4), ("HADD2", 2), ("LOP3.LUT", 2), ("F2FP.BF16.F32.PACK_AB", 2),
        ("MUFU.EX2", 8), ("F2I", 8), ("UIADD3", 2), ("UMOV", 1), ("HMMA.16816.F32.BF16", 6), ("CS2R", 2), ("NOP", 1),
    ],
)  # fmt: skip
def test_cycles_of_each_unit(opcode: str, each: int) -> None:
    code = program([one(opcode, "R0, R1, R2, R3")] * 40)
    assert walked(code).cycles == 39 * each + 1


def test_a_wait_names_the_instruction_that_it_is_for() -> None:
    code = program(one("LDS", "R0, [R4]", sets=0), one("MUFU.EX2", "R1, R2", sets=1), one("FADD", FFMA, waits=(0, 1)))
    found = walked(code)
    assert found.makers == {(2, "shared"): 0}
    code = program(one("MUFU.EX2", "R1, R2", sets=1), one("FADD", FFMA, waits=(1,)))
    assert walked(code).makers == {(1, "special"): 0}


def test_integers_and_floats_share_the_multiply_adders() -> None:
    """The compiler leaves two cycles between IMAD and FMUL: one port takes both."""
    mixed = program([one("IMAD", FFMA), one("FFMA", FFMA)] * 40)
    assert walked(mixed).cycles == 40 * (2 + 1)


def test_warps_of_one_partition_share_its_units() -> None:
    code = program([one("LOP3.LUT", "R0, R1, R2, R3")] * 40)
    assert walked(code, warps=4).cycles == walked(code).cycles == 79
    assert walked(code, warps=12).cycles == 3 * 80 - 1


def test_a_partition_issues_one_instruction_a_cycle() -> None:
    code = program([one("NOP")] * 40)
    assert walked(code, warps=4).cycles == 40
    assert walked(code, warps=8).cycles == 80


def test_a_stall_of_one_warp_is_filled_by_another() -> None:
    code = program([one("FFMA", FFMA, 4)] * 40)
    assert walked(code, warps=16).cycles == pytest.approx(160, abs=4)
    assert walked(code, warps=32).cycles == pytest.approx(320, abs=4)


def test_warps_that_do_the_same_stay_together() -> None:
    """Else those served last would go on alone when the others are done, and a part of the way would tell no pace."""
    code = program([one("NOP", "", 6)] * 40)
    found = walked(code, warps=32)
    assert found.cycles == pytest.approx(320, abs=6)
    assert min(found.ends) > 300


# The units of the whole SM, and memory


def test_the_partitions_share_the_shared_memory() -> None:
    """128 bytes a cycle: LDS.128 of one warp has 512."""
    code = program([one("LDS.128", "R0, [R4]", sets=0)] * 20, AFTER)
    for warps in (1, 4):
        assert walked(code, warps=warps).cycles == 4 * 20 * warps - 4 + LATENCY["lds"] + 3 + 1


def test_a_full_queue_holds_a_warp_back() -> None:
    code = program([one("LDS.128", "R0, [R4]")] * 100)
    assert walked(code).cycles == 4 * 99 - HOPPER.lsu_queue + 1


def test_a_load_takes_its_latency_and_its_bandwidth() -> None:
    code = program(one("LDG.E", "R0, [R2.64]", sets=0), AFTER)
    assert walked(code, supply=Supply(latency=400, bytes=64)).cycles == 128 / 64 + 400 + 1
    many = program([one("LDG.E.128", "R0, [R2.64]", sets=0)] * 30, AFTER)
    assert walked(many, supply=Supply(latency=400, bytes=16)).cycles == 30 * 512 / 16 + 400 + 1


def test_loads_fill_the_queue_of_the_cache() -> None:
    code = program([one("LDG.E.128", "R0, [R2.64]", sets=0)] * 300)
    assert walked(code, supply=Supply(400, 8)).cycles == pytest.approx(299 * 64 - L2_QUEUE, abs=70)


def test_a_store_takes_bandwidth_but_is_not_waited_for() -> None:
    store = program(one("STG.E.128", "[R2.64], R0"), one("NOP"))
    assert walked(store).cycles == 2
    both = program(one("STG.E.128", "[R2.64], R0"), one("LDG.E", "R0, [R2.64]", sets=0), AFTER)
    assert walked(both).cycles == (512 + 128) / 64 + 400 + 1


def test_operands_are_read_before_they_may_be_written() -> None:
    code = program(one("STS", "[R4], R0", reads=3), one("NOP", waits=(3,)))
    assert walked(code).cycles == LATENCY["operands"] + 2


def test_a_scoreboard_is_free_when_the_last_that_raised_it_is_done() -> None:
    code = program(one("LDG.E", "R0, [R2.64]", sets=0), one("LDS", "R1, [R4]", sets=0), AFTER)
    assert walked(code).cycles == 403
    assert walked(program(code[0], replace(code[1], sets=1), one("NOP", waits=(1,)))).cycles < 50


def test_stalls_say_where_a_warp_waits_and_why() -> None:
    found = walked(program(one("LDG.E", "R0, [R2.64]", sets=0), one("NOP", waits=(0,)), one("MUFU.EX2", "R0, R1")))
    assert found.stalls == {(1, "load"): 401.0}


def test_marks_are_when_they_are_reached_and_a_jump_costs() -> None:
    code = program([one("FFMA", FFMA, 4)] * 3)
    found = walked(code, ways=[[0, 1, 2, 0, 1, 2]], marks=[[0, 3, 5]])
    assert found.times == [{0: 0, 3: 12 + HOPPER.jump, 5: 20 + HOPPER.jump}]
    assert found.cycles == found.ends[0] == 24 + HOPPER.jump


def test_blocks_share_what_an_sm_has() -> None:
    code = program([one("MUFU.EX2", "R0, R1")] * 20)
    assert walked(code, warps=4, blocks=2).cycles == 2 * walked(code, warps=4).cycles + 7
    short = program([one("FFMA", FFMA, 4)] * 20)
    assert walked(short, warps=4, blocks=2).cycles == walked(short, warps=4).cycles + 1


# Copies into shared memory


@pytest.mark.parametrize("ahead", [1, 2, 3, 4])
def test_copies_that_are_groups_ahead_hide_their_latency(ahead: int) -> None:
    """A trip computes for 200 cycles; with n groups left the copies of n trips are under way, of 400 cycles each."""
    work = [one("FFMA", FFMA, 10)] * 20
    copy = [one("LDGSTS.E.128", "[R4], [R2.64]"), one("LDGDEPBAR", sets=0)]
    trip = [*copy, one("DEPBAR.LE", f"SB0, {ahead - 1:#x}"), *work]
    code = program(copy * (ahead - 1), trip)
    first = 2 * (ahead - 1)
    way = [*range(first), *[at for _ in range(30) for at in range(first, len(code))]]
    # The marks are where trips 10 and 20 begin.
    marks = [first + 10 * len(trip), first + 20 * len(trip)]
    began, ended = sorted(walked(code, ways=[way], marks=[marks]).times[0].values())
    pace = (ended - began) / 10
    expected = 400 + 200 if ahead == 1 else max(200, (400 + 200) / ahead)
    assert pace == pytest.approx(expected, abs=25)


def test_a_wait_for_copies_leaves_the_newest_groups() -> None:
    copy = [one("LDGSTS.E.128", "[R4], [R2.64]"), one("LDGDEPBAR", sets=0)]
    slow = Supply(latency=100, bytes=2)
    for groups, done in ((0, 3), (1, 2), (2, 1), (3, 0)):
        code = program(copy * 3, one("DEPBAR.LE", f"SB0, {groups:#x}"))
        assert walked(code, supply=slow).cycles == (256 * done + 100 + 1 if done else 7)


def test_another_scoreboard_counts_no_copies() -> None:
    code = program(one("LDGSTS.E.128", "[R4], [R2.64]"), one("LDGDEPBAR", sets=0), one("DEPBAR.LE", "SB1, 0x0"))
    assert walked(code).cycles == 3


# Asynchronous products of a warpgroup


@pytest.mark.parametrize("n", [64, 128, 192, 256])
def test_products_of_a_warpgroup_take_half_their_columns(n: int) -> None:
    code = program([hgmma(n)] * 19, hgmma(n, commit=True), left(0))
    assert walked(code, warps=4).cycles == 20 * n / 2 + LATENCY["wgmma"] + 1


@pytest.mark.parametrize(("n", "shared", "registers"), [(8, 18, 8), (16, 20, 8), (32, 24, 16), (64, 32, 32)])
def test_narrow_products_are_bound_by_reading_shared_memory(n: int, shared: int, registers: int) -> None:
    for a, cycles in (("gdesc[UR4]", shared), ("R88", registers)):
        code = program(hgmma(n, commit=True, a=a), left(0))
        assert walked(code).cycles == cycles + LATENCY["wgmma"] + 1


def test_a_wait_for_products_leaves_the_newest_groups() -> None:
    code = [hgmma(128, commit=True), hgmma(256, commit=True)]
    assert walked(program(code, left(0))).cycles == 64 + 128 + LATENCY["wgmma"] + 1
    assert walked(program(code, left(1))).cycles == 64 + LATENCY["wgmma"] + 1
    assert walked(program(code, left(2))).cycles == 3
    # What is waited for once is done; the next wait finds the second group.
    assert walked(program(code, left(1), left(0))).cycles == 64 + 128 + LATENCY["wgmma"] + 1


def test_products_that_were_not_committed_are_not_waited_for() -> None:
    assert walked(program(hgmma(256), left(0))).cycles == 2


def test_a_warp_runs_ahead_of_the_tensor_unit_by_a_queue() -> None:
    code = program([hgmma(256)] * 20)
    assert walked(code).cycles == 128 * 19 - TENSOR_QUEUE + 1


def test_two_blocks_share_the_tensor_units() -> None:
    code = program([hgmma(256)] * 20, hgmma(256, commit=True), left(0))
    alone, both = walked(code, warps=4).cycles, walked(code, warps=4, blocks=2).cycles
    assert both == 2 * (alone - LATENCY["wgmma"] - 1) + LATENCY["wgmma"] + 1


# Barriers

BAR = one("BAR.SYNC.DEFER_BLOCKING", "0x0")


def test_the_slowest_warp_opens_a_barrier() -> None:
    code = program([one("FFMA", FFMA, 15)] * 10, BAR, one("NOP"))
    ways = [[10, 11], range(12), [10, 11]]
    found = walked(code, ways=ways)
    met = 150 + LATENCY["barrier"] + 3 * LATENCY["barrier_warp"]
    assert found.ends == [met + 2] * 3
    assert found.stalls[10, "barrier"] == met * 2 + (met - 150)


def test_named_barriers_count_their_threads() -> None:
    """Warps 0 and 1 meet at one barrier, 2 and 3 at another; no pair waits for the other."""
    code = program(
        one("BAR.SYNC", "0x1, 0x40"), one("NOP"), [one("FFMA", FFMA, 15)] * 20, one("BAR.SYNC", "0x2, 0x40"), one("NOP")
    )
    first, second = [0, 1], range(2, 24)
    found = walked(code, ways=[first, first, second, second])
    met = LATENCY["barrier"] + 2 * LATENCY["barrier_warp"]
    assert found.ends == [met + 2] * 2 + [300 + met + 2] * 2
    assert not found.doubts


def test_who_arrives_only_does_not_wait() -> None:
    code = program(
        [one("FFMA", FFMA, 15)] * 20, one("BAR.ARV", "0x1, 0x40"), one("NOP"), one("BAR.SYNC", "0x1, 0x40"), one("NOP")
    )
    found = walked(code, ways=[range(22), [22, 23]])
    assert found.ends[0] == 302
    assert found.ends[1] == 300 + LATENCY["barrier"] + 2 * LATENCY["barrier_warp"] + 2


def test_who_arrives_first_goes_on_at_once() -> None:
    code = program(one("BAR.ARV", "0x1, 0x40"), one("NOP"), [one("FFMA", FFMA, 15)] * 20, one("BAR.SYNC", "0x1, 0x40"))
    found = walked(code, ways=[[0, 1], range(2, 23)])
    assert found.ends == [2, 300 + LATENCY["barrier"] + 2 * LATENCY["barrier_warp"] + 1]
    assert not found.doubts


def test_blocks_have_barriers_of_their_own() -> None:
    code = program(BAR, one("NOP"))
    met = LATENCY["barrier"] + 2 * LATENCY["barrier_warp"]
    assert walked(code, warps=2, blocks=3).cycles <= met + 2 + 2


def test_a_barrier_that_not_all_come_to_is_told_and_passed() -> None:
    code = program(BAR, one("NOP"))
    found = walked(code, ways=[[0, 1], [1]])
    assert found.doubts == [LOST]
    assert found.cycles < 100
    # Told once, however often.
    assert walked(program([BAR, one("NOP")] * 9), ways=[range(18), [1]]).doubts == [LOST]


# Loads by TMA. The barrier's address is that of shared memory, which ULEA shifts into place, and an offset.

HINTS = Hints(tma_bytes=6400)
WINDOW = [one("UMOV", "UR6, 0x400"), one("ULEA", "UR6, UR5, UR6, 0x18")]


def tma(offset: int):
    """What loads a tile, and announces it on the barrier at an offset."""
    return [
        one("UIADD3", f"UR9, UR6, {offset:#x}, URZ"),
        one("SYNCS.ARRIVE.TRANS64", f"RZ, [UR6+{offset:#x}], R4", predicate="P0"),
        one("UTMALDG.4D", "[UR8], [UR10]", predicate="UP0"),
    ]


def phase(offset: int, register: str = "UR6"):
    """A wait for a barrier, whose success a jump waits for."""
    return [one("SYNCS.PHASECHK.TRANS64.TRYWAIT", f"P0, [{register}+{offset:#x}], RZ", 2, sets=0), AFTER]


TMA_TAKES = 6400 / 64 + 400 + LATENCY["tma"]


@pytest.mark.parametrize("warps", [1, 4])
def test_a_load_by_tma_is_waited_for_by_all_warps_and_made_by_one(warps: int) -> None:
    code = program(WINDOW, tma(0x100), phase(0x100))
    found = walked(code, warps=warps, hints=HINTS)
    assert found.cycles == pytest.approx(6 + TMA_TAKES + LATENCY["barrier"], abs=4)
    assert not found.doubts


def test_a_wait_does_not_pass_before_the_load_is_under_way() -> None:
    """Warp 1 comes between the announcement and the load."""
    code = program(WINDOW, tma(0x100)[:2], [one("FFMA", FFMA, 15)] * 20, tma(0x100)[2], phase(0x100))
    waiting = [0, 1, *range(len(code) - 2, len(code))]
    found = walked(code, ways=[range(len(code)), waiting], hints=HINTS)
    assert found.ends[1] > 300 + TMA_TAKES
    assert not found.doubts


@pytest.mark.parametrize("stages", [1, 2, 3])
def test_a_ring_of_tma_loads_hides_latency(stages: int) -> None:
    """Trips of 300 cycles whose loads are `stages - 1` trips ahead; an index leads to the ring's barriers."""
    base = 0x200
    work = [one("FFMA", FFMA, 10)] * 30
    prologue = [each for stage in range(stages - 1) for each in tma(base + 8 * stage)]
    trip = [
        one("ULEA", "UR12, UR20, UR6, 0x3"),
        one("SYNCS.ARRIVE.TRANS64", f"RZ, [UR12+{base:#x}], R4"),
        one("UIADD3", f"UR9, UR12, {base:#x}, URZ"),
        one("UTMALDG.4D", "[UR8], [UR10]"),
        *phase(base, "UR12"),
        *work,
    ]
    code = program(WINDOW, prologue, trip)
    first = 2 + len(prologue)
    way = [*range(first), *[at for _ in range(20) for at in range(first, len(code))]]
    marks = [first + 8 * len(trip), first + 16 * len(trip)]
    found = walked(code, ways=[way], marks=[marks], hints=HINTS)
    began, ended = sorted(found.times[0].values())
    takes = TMA_TAKES + LATENCY["barrier"]
    assert (ended - began) / 8 == pytest.approx(max(300, (takes + 300) / stages), rel=0.1)
    assert not found.doubts


def test_loads_on_two_barriers_are_told_apart() -> None:
    """The second barrier's load is large and late; a wait for the first does not wait for it."""
    code = program(WINDOW, tma(0x100), [one("FFMA", FFMA, 15)] * 40, tma(0x400), phase(0x100))
    assert walked(code, hints=HINTS).cycles < 6 + 640 + LATENCY["barrier"] + 10
    code = program(WINDOW, tma(0x100), [one("FFMA", FFMA, 15)] * 40, tma(0x400), phase(0x400))
    assert walked(code, hints=HINTS).cycles > 600 + TMA_TAKES


def test_a_load_completes_the_barrier_that_it_names() -> None:
    """Two announcements, then the load of the first: the second is not under way."""
    both = [*tma(0x100)[:2], *tma(0x400)[:2]]
    load = [one("UIADD3", "UR9, UR6, 0x100, URZ"), one("UTMALDG.4D", "[UR8], [UR10]")]
    assert not walked(program(WINDOW, both, load, phase(0x100)), hints=HINTS).doubts
    assert walked(program(WINDOW, both, load, phase(0x400)), hints=HINTS).doubts == [LOST]


def test_loads_complete_the_phases_of_a_ring_in_their_order() -> None:
    """Both are announced before the first is loaded."""
    index = one("ULEA", "UR12, UR20, UR6, 0x3")
    announce = one("SYNCS.ARRIVE.TRANS64", "RZ, [UR12+0x100], R4")
    load = [one("UIADD3", "UR9, UR12, 0x100, URZ"), one("UTMALDG.4D", "[UR8], [UR10]")]
    work = [one("FFMA", FFMA, 15)] * 100
    code = program(WINDOW, index, announce, announce, load, work, load, phase(0x100, "UR12"), phase(0x100, "UR12"))
    found = walked(code, hints=HINTS)
    assert not found.doubts
    assert found.cycles == pytest.approx(1500 + TMA_TAKES + LATENCY["barrier"], abs=30)
    # The first came long ago.
    assert (len(code) - 4, "tma") not in found.stalls


def test_a_phase_waits_for_all_of_its_loads() -> None:
    code = program(WINDOW, tma(0x100), tma(0x100)[2:] * 9, phase(0x100))
    assert walked(code, hints=HINTS).cycles > 10 * 100 + 400


def test_a_load_without_a_known_barrier_completes_the_one_announced_last() -> None:
    code = program(WINDOW, tma(0x100)[1], one("UTMALDG.4D", "[UR40], [UR10]"), phase(0x100))
    found = walked(code, hints=HINTS)
    assert not found.doubts
    assert found.cycles > TMA_TAKES


def test_a_wait_for_which_nothing_comes_is_told_and_passed() -> None:
    code = program(WINDOW, phase(0x100), phase(0x100), one("NOP"))
    found = walked(code, warps=3)
    assert found.doubts == [LOST]
    assert found.cycles < 200


def test_a_wait_in_vain_does_not_take_the_next_completion() -> None:
    code = program(WINDOW, phase(0x100), tma(0x100), phase(0x100))
    assert walked(code, hints=HINTS).cycles > TMA_TAKES


def test_a_try_alone_announces_nothing() -> None:
    """PHASECHK without TRYWAIT tests a phase; it neither waits nor completes one."""
    code = program(WINDOW, one("SYNCS.PHASECHK.TRANS64", "PT, [UR6+0x100], RZ"), phase(0x100))
    assert walked(code).doubts == [LOST]
    assert needs_of(code, HOPPER)[2].does == units.PLAIN


def test_buffers_are_handed_back_by_all_who_read_them() -> None:
    """Warp 0 loads, 1 and 2 read: the ring has two buffers, so the third load waits until both let the first go."""
    full, empty, trips = 0x200, 0x210, 12
    index = one("ULEA", "UR12, UR20, UR6, 0x3")
    load = [
        index,
        *phase(empty, "UR12"),
        one("SYNCS.ARRIVE.TRANS64", f"RZ, [UR12+{full:#x}], R4"),
        one("UIADD3", f"UR9, UR12, {full:#x}, URZ"),
        one("UTMALDG.4D", "[UR8], [UR10]"),
    ]
    read = [
        index,
        *phase(full, "UR12"),
        *[one("FFMA", FFMA, 15)] * 100,
        one("SYNCS.ARRIVE.TRANS64.A1T0", f"RZ, [UR12+{empty:#x}], RZ"),
    ]
    made = [one("SYNCS.EXCH.64", f"URZ, [UR6+{full + 8 * n:#x}], UR4") for n in range(4)]
    code = program(WINDOW, made, load, read)
    begin = list(range(6))
    loads = begin + list(range(6, 6 + len(load))) * trips
    reads = begin + list(range(6 + len(load), len(code))) * trips
    found = walked(code, ways=[loads, reads, reads], hints=Hints(tma_bytes=640))
    assert not found.doubts
    # The load of the last buffer begins when the reading of the one two before is over.
    assert found.ends[0] == pytest.approx(1500 * (trips - 2) + 600, rel=0.05)
    assert found.ends[1] == pytest.approx(1500 * trips + 600, rel=0.05)


# tcgen05

BLACKWELL = ARCHITECTURES["sm_100"]


def product(columns: int, rows: int, a: str = "gdesc[UR20]"):
    word = columns // 8 << 17 | rows // 16 << 24 | 0x490
    return [
        one("UMOV", f"UR31, {word:#x}"),
        one("UTCHMMA", f"{a}, gdesc[UR22], tmem[UR16], tmem[UR30], idesc[UR31], UPT"),
    ]


def commit(offset: int):
    return [one("UIADD3", f"UR9, UR6, {offset:#x}, URZ"), one("UTCBAR", "[UR9], URZ")]


@pytest.mark.parametrize(
    ("columns", "rows", "shared", "tensor"),
    [
        (64, 64, 32, 32),
        (128, 64, 64, 64),
        (64, 128, 48, 32),
        (96, 128, 56, 48),
        (128, 128, 64, 64),
        (256, 128, 128, 128),
    ],
)
def test_products_of_tcgen05_take_what_was_measured(columns: int, rows: int, shared: int, tensor: int) -> None:
    """Cycles of one product: SemiAnalysis's table of a B200, which machines.py cites."""
    for a, cycles in (("gdesc[UR20]", shared), ("tmem[UR20]", tensor)):
        code = program(WINDOW, product(columns, rows, a) * 10, commit(0x100), phase(0x100))
        found = walked(code, warps=4, arch=BLACKWELL)
        latency = BLACKWELL.latency["wgmma"] + 2 * BLACKWELL.latency["barrier"]
        assert found.cycles == pytest.approx(4 + 10 * cycles + latency, abs=8)
        assert not found.doubts


def test_a_product_of_unknown_shape_takes_the_mean() -> None:
    code = program(one("UTCHMMA", "gdesc[UR20], gdesc[UR22], tmem[UR16], tmem[UR30], idesc[UR31], UPT"))
    (need,) = needs_of(code, BLACKWELL, Hints(tensor_fmas=128 * 128 * 16))
    assert need.cycles == 64


def test_waits_for_products_and_for_loads_are_told_apart() -> None:
    """The wait names a barrier of the products, though loads are announced on one beside it."""
    code = program(WINDOW, tma(0x100), product(128, 128), commit(0x108), phase(0x108))
    assert walked(code, arch=BLACKWELL, hints=HINTS).cycles < 200
    code = program(WINDOW, tma(0x100), product(128, 128), commit(0x108), phase(0x100))
    assert walked(code, arch=BLACKWELL, hints=HINTS).cycles > 500


def test_a_product_takes_the_tensor_units_of_all_partitions() -> None:
    """The warps that issue them are on partitions 0 and 1: blocks have five."""
    code = program(WINDOW, product(256, 128) * 20, commit(0x100), phase(0x100))
    alone, both = (walked(code, warps=5, blocks=blocks, arch=BLACKWELL).cycles for blocks in (1, 2))
    assert both == pytest.approx(alone + 20 * 128, abs=10)


def test_one_warp_issues_the_products_of_a_block() -> None:
    """Whichever way leads to them first: here that of warp 2."""
    code = program(WINDOW, product(256, 128) * 4, commit(0x100), phase(0x100))
    waits = [0, 1, len(code) - 2, len(code) - 1]
    found = walked(code, ways=[waits, waits, range(len(code)), waits], arch=BLACKWELL)
    assert not found.doubts
    assert found.cycles == pytest.approx(walked(code, arch=BLACKWELL).cycles, abs=4)


def test_tensor_memory_is_each_partitions_own() -> None:
    code = program([one("LDTM.x32", "R4, tmem[UR7]", sets=0)] * 10, AFTER)
    one_warp = walked(code, arch=BLACKWELL).cycles
    assert one_warp == pytest.approx(10 * 32 * 128 / 57 + 10, rel=0.05)
    assert walked(code, warps=4, arch=BLACKWELL).cycles == one_warp
    assert walked(code, warps=8, arch=BLACKWELL).cycles == pytest.approx(2 * one_warp, rel=0.05)
    half = program([one("LDTM.16dp32bit_t0_t15.x32", "R4, tmem[UR7]", sets=0)] * 10, AFTER)
    assert walked(half, arch=BLACKWELL).cycles == pytest.approx(one_warp / 2, rel=0.05)


# Of any program

SEEDS = st.integers(min_value=0, max_value=10**6)
WARPS = st.sampled_from([1, 2, 4, 5, 8, 12])
MORE = settings(max_examples=40)


def slower(seed: int):
    """Architectures and supplies of which one figure is worse."""
    dice = random.Random(seed)
    for kind in dice.sample([name for name in LATENCY if name != "barrier_warp"], 5):
        yield replace(HOPPER, latency={**LATENCY, kind: LATENCY[kind] + 40}), SUPPLY
    yield replace(HOPPER, products={kind: cycles + 3 for kind, cycles in HOPPER.products.items()}), SUPPLY
    yield replace(HOPPER, shared_bytes=64), SUPPLY
    yield replace(HOPPER, lanes={**HOPPER.lanes, "int": 8, "special": 2}), SUPPLY
    yield HOPPER, replace(SUPPLY, latency=SUPPLY.latency + 200)
    yield HOPPER, replace(SUPPLY, bytes=SUPPLY.bytes / 2)


@MORE
@given(SEEDS)
def test_what_takes_longer_never_makes_a_lone_warp_faster(seed: int) -> None:
    code = chance(seed)
    cycles = walked(code).cycles
    for arch, supply in slower(seed):
        assert walked(code, arch=arch, supply=supply).cycles >= cycles - 1e-6


@settings(max_examples=15, derandomize=True)
@given(SEEDS, WARPS)
def test_what_takes_longer_makes_warps_that_share_at_most_a_seventh_faster(seed: int, warps: int) -> None:
    """Who comes first is served first: a delay may let another pass whom all wait for (Graham 1969)."""
    code = chance(seed)
    cycles = walked(code, warps=warps).cycles
    for arch, supply in slower(seed):
        assert walked(code, warps=warps, arch=arch, supply=supply).cycles >= 0.85 * cycles


@MORE
@given(SEEDS, WARPS)
def test_company_never_makes_a_warp_faster(seed: int, warps: int) -> None:
    code = chance(seed)
    alone = walked(code).cycles
    assert min(walked(code, warps=warps).ends) >= alone - 1e-6
    assert min(walked(code, warps=warps, blocks=2).ends) >= alone - 1e-6


@MORE
@given(SEEDS, WARPS)
def test_more_blocks_never_end_earlier(seed: int, warps: int) -> None:
    code = chance(seed)
    ended = [walked(code, warps=warps, blocks=blocks).cycles for blocks in (1, 2, 3)]
    assert ended == sorted(ended)


@MORE
@given(SEEDS, WARPS)
def test_no_unit_does_more_than_it_can(seed: int, warps: int) -> None:
    code, blocks = chance(seed), 2
    needs = needs_of(code, HOPPER)
    found = walk(code, needs, [range(len(code))] * warps, blocks=blocks, architecture=HOPPER, supply=SUPPLY)
    on_one = max(-(-warps * blocks // PARTITIONS), 1)
    busy = {name: sum(need.cycles for need in needs if need.unit == name) for name in {need.unit for need in needs}}
    # What is queued when the last warp is done is not waited for.
    slack = {"shared": HOPPER.lsu_queue + 8, "tensor": TENSOR_QUEUE + 128}
    for name, cycles in busy.items():
        warps_on_it = warps * blocks if name == "shared" else on_one
        assert found.cycles >= cycles * warps_on_it - slack.get(name, 8)
    assert found.cycles >= len(code) * on_one
    moved = sum(need.bytes for need in needs) * warps * blocks
    assert found.cycles >= moved / SUPPLY.bytes - L2_QUEUE - 8
    assert min(found.ends) >= sum(max(1, each.stall) for each in code)
    assert not found.doubts


@MORE
@given(SEEDS, WARPS)
def test_waiting_and_issuing_make_up_the_time_of_all_warps(seed: int, warps: int) -> None:
    code = chance(seed)
    found = walked(code, warps=warps)
    stalls = sum(max(1, each.stall) for each in code) * warps
    barriers = sum(each.name == "BAR" for each in code)
    assert sum(found.ends) == pytest.approx(stalls + sum(found.stalls.values()), abs=2 * warps * (barriers + 1))
