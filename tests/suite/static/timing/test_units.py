"""What instructions need, by opcode; addresses and constants in registers; rings of mbarriers."""

from __future__ import annotations

import pytest

from suite.static.timing import units
from suite.static.timing.machines import ARCHITECTURES
from suite.static.timing.registers import Address, address, immediate
from suite.static.timing.rings import rings_of
from suite.static.timing.units import Hints, Need, needs_of
from tests.suite.static.timing.made import HOPPER, one, program


def need(opcode: str, operands: str = "R0, R1, R2, R3", arch: str = "sm_90") -> Need:
    (found,) = needs_of(program(one(opcode, operands)), ARCHITECTURES[arch], Hints())
    return found


# opcode, unit, and cycles of it on sm_80, sm_90 and sm_100; where the compiler's stalls between two tell them, those.
UNITS = [
    ("FFMA", "fma", (2, 1, 1)), ("FADD", "fma", (2, 1, 1)),
    ("FFMA2", "fma", (4, 2, 2)), ("IMAD", "fma", 2), ("IMAD.MOV.U32", "fma", 2),
    ("IMAD.WIDE.U32", "fma", 4), ("IMAD.HI.U32", "fma", 4), ("HADD2.F32", "fma", 2), ("VIADD", "fma", 2),
    ("LOP3.LUT", "alu", 2), ("IADD3.X", "alu", 2), ("ISETP.GE.AND", "alu", 2), ("FSETP.GT.AND", "alu", 2),
    ("FSEL", "alu", 2), ("SHF.R.U32.HI", "alu", 2), ("PRMT", "alu", 2), ("F2FP.BF16.F32.PACK_AB", "alu", 2),
    ("I2FP.F32.S32", "alu", 2), ("R2UR", "alu", 2), ("ELECT", "alu", 2), ("CS2R", ("issue", "alu", "alu"), (1, 2, 2)),
    ("MUFU.EX2", "special", 8), ("F2I.FTZ.U32.TRUNC.NTZ", "special", 8), ("I2F.RP", "special", 8),
    ("POPC", "special", 8),
    ("UIADD3.X", "uniform", 2), ("USHF.L.U32", "uniform", 2), ("UMOV", "uniform", 1), ("VOTEU.ALL", "uniform", 1),
    ("HMMA.16816.F32.BF16", "tensor", (8, 6, 8)), ("HMMA.1688.F32.TF32", "tensor", (8, 6, 8)),
    ("HMMA.1688.F32", "tensor", 4), ("LDS", "shared", 1), ("LDS.64", "shared", 2), ("LDS.128", "shared", 4),
    ("LDS.U16", "shared", 1), ("STS.128", "shared", 4), ("LDSM.16.M88", "shared", 1), ("LDSM.16.MT88.4", "shared", 4),
    ("STSM.16.M88.2", "shared", 2), ("SHFL.BFLY", "shared", 1), ("REDUX", "shared", 2), ("LDL.64", "shared", 2),
    ("LDG.E", "shared", 1), ("LDG.E.128", "shared", 4), ("LDGSTS.E.BYPASS.128", "shared", 4), ("STG.E.64", "shared", 2),
    ("LDTM.x32", "tmem", 32 * 128 / 57), ("S2R", "issue", 1), ("ULDC.64", "issue", 1), ("LDC", "issue", 1),
    ("BRA", "issue", 1), ("BAR.SYNC.DEFER_BLOCKING", "issue", 1), ("WARPGROUP.ARRIVE", "issue", 1), ("NOP", "issue", 1),
    ("SYNCS.CCTL.IV", "issue", 1), ("FENCE.VIEW.ASYNC.S", "issue", 1), ("DEPBAR.LE", "issue", 1), ("EXIT", "issue", 1),
]  # fmt: skip


@pytest.mark.parametrize(("opcode", "unit", "cycles"), UNITS, ids=[opcode for opcode, *_ in UNITS])
def test_units_and_cycles(opcode: str, unit: str | tuple[str, ...], cycles: float | tuple[float, ...]) -> None:
    for n, arch in enumerate(("sm_80", "sm_90", "sm_100")):
        found = need(opcode, arch=arch)
        assert (found.unit, found.cycles) == (
            unit if isinstance(unit, str) else unit[n],
            pytest.approx(cycles[n] if isinstance(cycles, tuple) else cycles),
        )


@pytest.mark.parametrize(
    ("opcode", "operands", "does"),
    [
        ("LDG.E", "R0, [R2.64]", units.LOAD), ("LDGSTS.E.128", "[R0], [R2.64]", units.COPY),
        ("STG.E", "[R2.64], R0", units.STORE), ("RED.E.ADD", "[R2.64], R0", units.STORE),
        ("ATOMG.E.ADD", "RZ, [R2.64], R0", units.STORE), ("ATOMG.E.ADD", "PT, R4, [R2.64], R0", units.LOAD),
        ("LDGDEPBAR", "", units.COMMIT), ("DEPBAR.LE", "SB0, 0x1", units.DRAIN),
        ("DEPBAR.LE", "SB1, 0x36", units.PLAIN),
        ("WARPGROUP.DEPBAR.LE", "gsb0, 0x1", units.WGMMA_WAIT), ("WARPGROUP.ARRIVE", "", units.PLAIN),
        ("BAR.SYNC.DEFER_BLOCKING", "0x0", units.BARRIER), ("BAR.ARV", "0x1, 0x40", units.ARRIVE),
        ("BAR.RED.POPC.DEFER_BLOCKING", "0x1, P1", units.BARRIER),
        ("SYNCS.PHASECHK.TRANS64.TRYWAIT", "P0, [UR4], RZ", units.PHASE_WAIT),
        ("SYNCS.PHASECHK.TRANS64", "PT, [UR4], RZ", units.PLAIN),
        ("SYNCS.ARRIVE.TRANS64", "RZ, [UR4], R4", units.PHASE_EXPECT),
        ("SYNCS.ARRIVE.TRANS64.A1T0", "RZ, [UR4], RZ", units.PHASE_ARRIVE),
        ("SYNCS.EXCH.64", "URZ, [UR4], UR6", units.PLAIN), ("SYNCS.CCTL.IV", "[UR4]", units.PLAIN),
        ("UTMALDG.4D", "[UR8], [UR10]", units.TMA), ("UBLKCP.S.G", "[UR6], [UR4], UR8", units.TMA),
        ("UTCHMMA", "gdesc[UR4], gdesc[UR6], tmem[UR8], tmem[UR10], idesc[UR11], UPT", units.TENSOR_ISSUE),
        ("UTCBAR", "[UR4], URZ", units.TENSOR_COMMIT),
    ],
)  # fmt: skip
def test_what_instructions_do(opcode: str, operands: str, does: int) -> None:
    assert need(opcode, operands).does == does


def test_bytes_from_and_to_the_cache() -> None:
    widths = {"LDG.E.U16": 64, "LDG.E": 128, "LDG.E.64": 256, "LDG.E.128": 512, "LDG.E.ENL2.256": 1024, "STG.E.U8": 32}
    assert {opcode: need(opcode).bytes for opcode in widths} == widths
    assert need("LDS.128").bytes == need("LDL").bytes == 0


def test_barriers_have_numbers_and_counts() -> None:
    named = need("BAR.SYNC.DEFER_BLOCKING", "0x3, 0x80")
    assert (named.number, named.threads) == (3, 128)
    assert need("BAR.SYNC.DEFER_BLOCKING", "0x0").threads == 0


@pytest.mark.parametrize(
    ("opcode", "operands", "cycles"),
    [
        ("HGMMA.64x256x16.F32.BF16", "R24, gdesc[UR4], R24", 128), ("HGMMA.64x64x16.F32", "R24, R56, gdesc[UR8]", 32),
        ("HGMMA.64x128x8.F32.TF32", "R24, R88, gdesc[UR4], R24", 64), ("HGMMA.64x16x8.F32.TF32", "R32, gdesc[UR4]", 20),
        ("QGMMA.64x128x32.F32.E4M3.E4M3", "R24, gdesc[UR4], R24", 64), ("IGMMA.64x128x32.S8.S8", "R24, gdesc[UR4]", 64),
    ],
)  # fmt: skip
def test_products_of_warpgroups(opcode: str, operands: str, cycles: float) -> None:
    assert need(opcode, operands).cycles == cycles
    assert need(opcode, operands).number == 0
    assert need(opcode, operands + ", gsb0").number == 1


def test_latencies_where_a_scoreboard_is_raised() -> None:
    latency = HOPPER.latency
    kinds = {"MUFU.EX2": "special", "LDS": "lds", "LDSM.16.M88.4": "ldsm", "STS": "sts", "SHFL.IDX": "shuffle",
             "S2R": "special_register", "S2UR": "special_register", "LDC": "constant", "ULDC": "constant",
             "R2UR": "special_register", "LDL": "l1", "FENCE.VIEW.ASYNC.S": "fence"}  # fmt: skip
    assert {opcode: need(opcode).latency for opcode in kinds} == {key: latency[kind] for key, kind in kinds.items()}
    assert need("ATOMS.ADD", "R4, [R2], R3").latency == latency["lds"]
    assert need("ATOMS.ADD", "RZ, [R2], R3").latency == latency["sts"]


# Registers

WINDOW = [one("UMOV", "UR6, 0x400"), one("ULEA", "UR6, UR5, UR6, 0x18")]


def test_a_constant_in_a_register_is_the_last_written() -> None:
    code = program(one("UMOV", "UR4, 0x10"), one("UMOV", "UR4, 0x8100490"), one("UMOV", "UR5, UR4"), one("NOP"))
    assert immediate(code, 3, "UR4") == 0x8100490
    assert immediate(code, 1, "UR4") == 0x10
    assert immediate(code, 3, "UR5") is None
    assert immediate(code, 0, "UR4") is None


def test_addresses_are_followed_through_moves_sums_and_indices() -> None:
    code = program(
        WINDOW,
        one("UIADD3", "UR8, UPT, UPT, UR6, 0x18240, URZ"),
        one("UMOV", "UR9, UR8"),
        one("IMAD.U32", "R3, RZ, RZ, UR9"),
        one("R2UR", "UR10, R3"),
        one("ULEA", "UR11, UR20, UR10, 0x3"),
        one("UIADD3", "UR11, UR11, -0x40, URZ"),
        one("ULOP3.LUT", "UR12, UR11, 0x3, URZ, 0xc0, !UPT"),
    )
    assert address(code, 2, "UR6") == Address(0, False)
    assert address(code, 6, "UR10") == Address(0x18240, False)
    assert address(code, 8, "UR11", 8) == Address(0x18208, True)
    assert address(code, 9, "UR12") is None
    assert address(code, 9, "UR30") is None


def test_a_register_that_is_written_from_itself_ends() -> None:
    assert address(program([one("UIADD3", "UR4, UR4, 0x8, URZ")] * 100), 100, "UR4") is None


# Rings


def wait(place: str):
    return one("SYNCS.PHASECHK.TRANS64.TRYWAIT", f"P0, [{place}], RZ")


def rings(*parts, **roles: str):
    """Rings of the barriers that the instructions below the first two name, by the offset from them."""
    code = program(WINDOW, *parts)
    found = rings_of(code, {at: roles.get(f"_{at - 2}") for at in range(2, len(code)) if code[at].name != "ULEA"})
    return [found.of.get(at) for at in range(2, len(code))], found


def test_barriers_that_no_index_leads_to_stand_alone() -> None:
    numbers, _ = rings(wait("UR6+0x100"), wait("UR6+0x108"), wait("UR6+0x100"), wait("UR6"))
    assert numbers == [1, 2, 1, 0]


def test_barriers_that_an_index_leads_to_are_a_ring() -> None:
    ring = [one("ULEA", "UR8, UR20, UR6, 0x3"), wait("UR8+0x100"), wait("UR6+0x108"), wait("UR6+0x110")]
    numbers, found = rings(ring, wait("UR6+0x120"), wait("UR8+0x130"), wait("UR8+0x140"))
    assert numbers[1:4] == [0, 0, 0]
    assert numbers[4:] == [1, 2, 3]
    assert found.slots == [3, 1, 1, 1]


def test_rings_side_by_side_are_told_apart_by_what_completes_them() -> None:
    made = [one("SYNCS.EXCH.64", f"URZ, [UR6+{0x100 + 8 * n:#x}], UR4") for n in range(4)]
    expect = one("SYNCS.ARRIVE.TRANS64", "RZ, [UR8+0x100], R4")
    arrive = one("SYNCS.ARRIVE.TRANS64.A1T0", "RZ, [UR8+0x110], RZ")
    code = program(WINDOW, one("ULEA", "UR8, UR20, UR6, 0x3"), expect, arrive, made)
    found = rings_of(code, {3: "expect", 4: "arrive"})
    assert found.of == {3: 0, 4: 1}
    assert found.slots == [2, 2]
    assert found.handed_back == {1}


def test_a_barrier_behind_a_ring_that_something_else_completes_is_none_of_it() -> None:
    expect = one("SYNCS.ARRIVE.TRANS64", "RZ, [UR8+0x100], R4")
    made = [one("SYNCS.EXCH.64", f"URZ, [UR6+{0x100 + 8 * n:#x}], UR4") for n in range(3)]
    done = [one("UIADD3", "UR9, UR6, 0x110, URZ"), one("UTCBAR", "[UR9], URZ")]
    code = program(WINDOW, one("ULEA", "UR8, UR20, UR6, 0x3"), expect, made, done)
    found = rings_of(code, {3: "expect", 8: "commit"})
    assert (found.of, found.slots) == ({3: 0, 8: 1}, [2, 1])


def test_a_barrier_that_loads_complete_is_not_handed_back_by_threads() -> None:
    both = [one("SYNCS.ARRIVE.TRANS64", "RZ, [UR6+0x100], R4"), one("SYNCS.ARRIVE.TRANS64.A1T0", "RZ, [UR6+0x100], RZ")]
    assert not rings_of(program(WINDOW, both), {2: "expect", 3: "arrive"}).handed_back


def test_a_tma_load_names_its_barrier_in_the_next_register() -> None:
    code = program(WINDOW, one("UIADD3", "UR9, UR6, 0x100, URZ"), one("UTMALDG.4D", "[UR8], [UR10]"), wait("UR6+0x100"))
    found = rings_of(code, {3: None, 4: None})
    assert found.of[3] == found.of[4]


def test_an_address_that_is_not_found_has_no_ring_unless_an_offset_is_written() -> None:
    code = program(WINDOW, wait("UR30"), wait("UR30+0x100"), wait("UR6+0x100"))
    assert rings_of(code, {2: None, 3: None, 4: None}).of == {3: 0, 4: 0}
    (found,) = needs_of(program(wait("UR30")), HOPPER)
    assert found.number == units.UNNAMED
