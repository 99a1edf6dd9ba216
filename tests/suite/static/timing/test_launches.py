"""Times of launches of small kernels on a small GPU: waves, programs of different lengths, memory, and the launch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from suite.static.model import Launch, Prediction, Residency
from suite.static.timing.constants import Bank
from suite.static.timing.launches import Kernel, predict
from suite.static.timing.machines import Machine
from suite.static.timing.paths import Paths
from suite.static.timing.programs import PLACES, programs_of
from suite.static.timing.sass import Instruction
from tests.suite.static.timing.made import HOPPER, one, program

# At 1 GHz a cycle is a nanosecond. What a launch costs is nothing where a test does not ask for it.
GPU = Machine("toy", HOPPER, 4, 1.0, 1000.0, 10_000.0, 2**20, 0.0)
FFMA = one("FFMA", "R8, R9, R10, R8", 4)
EXIT = one("EXIT")


def launch(*grid: int, warps: int = 4, blocks: int = 2) -> Launch:
    x, y, z = (*grid, 1, 1)[:3]
    return Launch("kernel", (x, y, z), warps=warps, residency=Residency(blocks, 0.5, "registers", None))


def kernel(*parts: Instruction | list[Instruction]) -> Kernel:
    return Kernel(program(*parts), Bank())


def predicted(one_launch: Launch, of: Kernel, dram_bytes: int = 0, gpu: Machine = GPU) -> Prediction:
    found, _ = predict(one_launch, of, gpu, dram_bytes)
    assert found.ms is not None, found.reason
    return found


def counted(register: str, chain: int) -> list[Instruction]:
    """A loop of as many trips as the place of the program in the grid, and one, each a chain of multiply-adds."""
    code = program(
        one("S2R", f"R0, SR_CTAID.{register}", sets=0),
        one("IADD3", "R0, R0, 0x1, RZ", 4, waits=(0,)),
        [FFMA] * chain,
        one("IADD3", "R0, R0, -0x1, RZ", 4),
        one("ISETP.NE.AND", "P0, PT, R0, RZ, PT", 12),
        one("BRA", "0x20", 5, predicate="P0"),
        EXIT,
    )
    jump = next(at for at, each in enumerate(code) if each.name == "BRA")
    code[jump] = replace(code[jump], target=0x20)
    return code


CHAIN = kernel([FFMA] * 1000, EXIT)
# A chain of 1000 of four cycles, and the exit.
ONE_BLOCK = 4001


# Waves


@pytest.mark.parametrize(("count", "waves"), [(1, 1), (4, 1), (8, 1), (9, 2), (16, 2), (17, 3), (80, 10)])
def test_blocks_of_equal_length_run_in_waves(count: int, waves: int) -> None:
    """Eight blocks fit: two on each of four SMs. A block's chain leaves room for another."""
    assert predicted(launch(count), CHAIN).cycles == pytest.approx(waves * ONE_BLOCK, rel=0.01)


def test_the_last_wave_is_of_the_blocks_that_are_left() -> None:
    """Blocks that share a unit take twice as long when two are on an SM; the last wave has one on each."""
    busy = kernel([one("MUFU.EX2", "R0, R1")] * 500, EXIT)
    alone, full = (predicted(launch(count), busy).cycles for count in (4, 8))
    assert full == pytest.approx(2 * alone, rel=0.01)
    assert predicted(launch(12), busy).cycles == pytest.approx(full + alone, rel=0.01)
    assert predicted(launch(13), busy).cycles == pytest.approx(2 * full, rel=0.01)
    # The place along other axes counts as well.
    assert predicted(launch(2, 2, 3), busy).cycles == predicted(launch(12), busy).cycles


def test_a_kernel_of_which_no_block_fits_has_the_reason() -> None:
    found, _ = predict(launch(4, blocks=0), CHAIN, GPU, 0)
    assert (found.ms, found.reason) == (None, "no block fits on an SM")


def test_a_way_that_depends_on_data_is_assumed_to_be_the_shorter_and_told() -> None:
    jump = replace(one("BRA", "0x3f0", 5, predicate="P0"), target=0x3F0)
    test = one("ISETP.NE.AND", "P0, PT, R0, RZ, PT", 12, waits=(0,))
    code = program(one("LDG.E", "R0, [R2.64]", sets=0), test, jump, [FFMA] * 60, EXIT)
    found = predicted(launch(4), Kernel(code, Bank()))
    assert found.instructions == 4
    assert len(found.notes) == 1


# Programs of different lengths


def test_programs_that_go_one_way_are_one() -> None:
    code = counted("X", 4)
    (only,) = programs_of(Paths(code), Bank(), (1, 7, 5), warps=4)
    assert only.share == 1
    assert only.places == ((0, 3, 2),)
    assert len(programs_of(Paths(code), Bank(), (8, 7, 5), warps=4)) == 8


def test_programs_stand_for_their_share() -> None:
    found = programs_of(Paths(counted("Y", 4)), Bank(), (3, 16, 1), warps=4)
    assert len(found) == min(PLACES, 16)
    assert sum(program.share for program in found) == pytest.approx(1)
    assert {place for program in found for place in program.places} == {(1, y, 0) for y in range(16)}
    many = programs_of(Paths(counted("Y", 4)), Bank(), (3, 1000, 1), warps=4)
    places = sorted(place for program in many for place in program.places)
    assert (places[0][1], places[-1][1]) == (0, 999)
    assert len(places) <= PLACES


def test_a_launch_of_one_wave_takes_as_long_as_its_longest_program() -> None:
    found = predicted(launch(8), Kernel(counted("X", 100), Bank()))
    assert found.cycles == pytest.approx(8 * (400 + 21 + 6), rel=0.03)


def test_programs_are_handed_out_in_the_order_of_the_grid() -> None:
    """The n-th of 64 takes n trips: the longest come last, and begin when the first eight slots are free."""
    trip = 400 + 21 + 6
    found = predicted(launch(64), Kernel(counted("X", 100), Bank()))
    free = [0] * 8
    for number in range(64):
        first = min(range(8), key=free.__getitem__)
        free[first] += number + 1
    assert found.cycles == pytest.approx(max(free) * trip, rel=0.05)
    assert found.cycles > 64 * 65 / 2 / 8 * trip
    # The mean of a program's instructions: those of a trip, 32.5 times.
    assert found.instructions == pytest.approx(32.5 * 103 + 3, rel=0.02)


def test_a_long_grid_takes_the_mean_of_its_programs() -> None:
    """Along y, each place stands for many programs; the tail matters little."""
    found = predicted(launch(1000, 8), Kernel(counted("Y", 100), Bank()))
    assert found.cycles == pytest.approx(1000 * 36 / 8 * 427, rel=0.05)


# Memory, and the launch


def test_a_launch_takes_no_less_than_its_bytes() -> None:
    found = predicted(launch(4), CHAIN, dram_bytes=10**7)
    assert found.ms == pytest.approx(10**7 / 1000e9 * 1e3)
    assert found.bound == "memory"
    assert found.busy["dram"] == pytest.approx(1)


def test_what_passes_the_cache_bounds_as_well() -> None:
    loads = kernel([one("LDG.E.128", "R0, [R2.64]", sets=0)] * 100, one("NOP", waits=(0,)), EXIT)
    slow = replace(GPU, l2_gbs=100.0)
    found = predicted(launch(8), loads, gpu=slow)
    assert found.ms == pytest.approx(8 * 4 * 100 * 512 / 100e9 * 1e3, rel=0.1)
    assert found.bound == "memory"
    assert found.busy["l2"] == pytest.approx(1, rel=0.1)


def test_loads_from_memory_wait_longer_than_those_from_the_cache() -> None:
    each = [one("LDG.E", "R0, [R2.64]", sets=0), one("NOP", waits=(0,))]
    loads = kernel(each * 20, EXIT)
    moved = 4 * 20 * 128
    cache, memory = (predicted(launch(1), loads, dram_bytes=size).cycles for size in (0, moved))
    latency = HOPPER.latency
    assert (memory - cache) / 20 == pytest.approx(latency["dram"] - latency["l2"], rel=0.05)
    assert predicted(launch(1), loads, dram_bytes=100 * moved).cycles < 2 * memory


def test_a_launch_costs_its_overhead() -> None:
    gpu = replace(GPU, launch_us=2.0)
    plain, found = predicted(launch(4), CHAIN), predicted(launch(4), CHAIN, gpu=gpu)
    assert found.ms == pytest.approx(plain.ms + 0.002)
    assert (plain.bound, found.bound) == ("chain", "chain")
    assert found.cycles == plain.cycles
    assert predicted(launch(4), kernel([FFMA] * 10, EXIT), gpu=gpu).bound == "launch"


def test_a_faster_clock_shortens_what_is_not_memory() -> None:
    fast = replace(GPU, clock_ghz=2.0)
    assert predicted(launch(4), CHAIN, gpu=fast).ms == pytest.approx(predicted(launch(4), CHAIN).ms / 2)


# What bounds


@pytest.mark.parametrize(
    ("opcode", "operands", "bound"),
    [
        ("MUFU.EX2", "R0, R1", "special"), ("LDS.128", "R0, [R4]", "shared"), ("LOP3.LUT", "R0, R1, R2, R3", "issue"),
        ("FFMA", "R0, R1, R2, R3", "issue"), ("IMAD", "R0, R1, R2, R3", "issue"),
        ("HGMMA.64x256x16.F32.BF16", "R24, gdesc[UR4], R24", "tensor"),
    ],
)  # fmt: skip
def test_what_bounds_a_launch(opcode: str, operands: str, bound: str) -> None:
    found = predicted(launch(8, warps=8), kernel([one(opcode, operands)] * 400, EXIT))
    assert found.bound == bound
    assert max(found.busy.values()) <= 1.1


def test_shares_of_time_that_units_are_busy() -> None:
    found = predicted(launch(4), kernel([one("MUFU.EX2", "R0, R1"), *[one("NOP")] * 7] * 100, EXIT))
    assert found.busy["special"] == pytest.approx(1, abs=0.02)
    assert found.busy["issue"] == pytest.approx(1, abs=0.02)
    # Of two SMs of four that have a block, half.
    half = predicted(launch(2), kernel([one("MUFU.EX2", "R0, R1"), *[one("NOP")] * 7] * 100, EXIT))
    assert half.busy["special"] == pytest.approx(0.5, abs=0.02)


def test_what_had_to_be_assumed_is_told() -> None:
    code = kernel(one("SYNCS.PHASECHK.TRANS64.TRYWAIT", "P0, [UR4], RZ"), EXIT)
    assert predicted(launch(4), code).notes == ("a barrier for which no arrival is known was taken as passed",)


# Loops


@pytest.mark.parametrize("trips", [3, 9, 10, 50, 1000])
def test_a_loop_takes_its_trips(trips: int) -> None:
    code = counted("X", 100)
    code[1] = replace(code[1], operands=f"R0, RZ, {trips:#x}, RZ")
    found = predicted(launch(4), Kernel(code, Bank()))
    assert found.cycles == pytest.approx(trips * (400 + 21 + 6) + 30, rel=0.02)
    assert found.instructions == trips * 103 + 3


def test_a_long_loop_is_predicted_at_once() -> None:
    """Its trips are not walked: the time to predict it does not grow with them."""
    code = counted("X", 100)
    code[1] = replace(code[1], operands="R0, RZ, 0x4000, RZ")
    found = predicted(launch(8, warps=16), Kernel(code, Bank()))
    assert found.cycles == pytest.approx(0x4000 * 800, rel=0.1)
