"""The tables of machines against the vendors' datasheets."""

from __future__ import annotations

import pytest

from suite.hardware.gpus import known
from suite.static.timing import machines
from suite.static.timing.machines import ARCHITECTURES, PARTITIONS, Machine, machine_of

PRODUCTS = sorted(machines._PRODUCTS)
# The clock behind the peak of a product that its datasheet does not tell: dense FLOP/s over those of a cycle.
CLOCKS = {"NVIDIA B200": 1.856, "NVIDIA GB200": 2.008}


def table(gpu: str) -> Machine:
    machine = machine_of(gpu)
    assert machine is not None
    return machine


def peak_clock(gpu: str) -> float:
    sheet = known(gpu)
    assert sheet is not None
    return sheet.clock_mhz / 1e3 if sheet.clock_mhz else CLOCKS[gpu]


def test_an_unknown_gpu_has_no_table() -> None:
    assert machine_of("NVIDIA GeForce RTX 3090") is None
    assert machine_of("something else") is None


@pytest.mark.parametrize("gpu", PRODUCTS)
def test_products_are_those_of_the_datasheets(gpu: str) -> None:
    sheet, machine = known(gpu), table(gpu)
    assert sheet is not None
    assert sheet.name == machine.gpu == gpu
    assert machine.architecture.name == sheet.arch
    assert (machine.sms, machine.l2_bytes) == (sheet.sms, sheet.l2_bytes)
    assert 0.8 * sheet.gbs <= machine.dram_gbs <= sheet.gbs < machine.l2_gbs
    # Kernels run at the boost clock or a little above.
    assert peak_clock(gpu) * 0.95 <= machine.clock_ghz <= peak_clock(gpu) * 1.1


@pytest.mark.parametrize("gpu", PRODUCTS)
def test_tensor_units_reach_the_datasheets_peak(gpu: str) -> None:
    sheet, machine = known(gpu), table(gpu)
    assert sheet is not None
    arch = machine.architecture
    # A warp's own product m16n8k16, or the asynchronous ones.
    each = arch.fma_tensor or 16 * 8 * 16 / arch.products["16816"]
    tflops = 2 * each * PARTITIONS * machine.sms * peak_clock(gpu) / 1e3
    assert tflops == pytest.approx(sheet.tflops["bfloat16"], rel=0.02)
    # Half the multiply-adds take as long in TF32.
    assert arch.products["1688.TF32"] == arch.products["16816"]


@pytest.mark.parametrize("gpu", PRODUCTS)
def test_multiply_adders_reach_the_datasheets_peak(gpu: str) -> None:
    sheet, machine = known(gpu), table(gpu)
    assert sheet is not None
    # This peak holds at the highest clock, unlike that of the tensor units. GB200's is 80 in round numbers.
    tflops = 2 * machine.architecture.lanes["fp32"] * PARTITIONS * machine.sms * machine.clock_ghz / 1e3
    assert tflops == pytest.approx(sheet.tflops["float32"], rel=0.05 if gpu == "NVIDIA GB200" else 0.01)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_tables_are_whole(name: str) -> None:
    arch = ARCHITECTURES[name]
    assert arch.name == name
    assert arch.latency.keys() == ARCHITECTURES["sm_80"].latency.keys()
    assert arch.lanes.keys() == {"fp32", "imad", "int", "special"}
    assert arch.lanes["fp32"] in (arch.lanes["imad"], 2 * arch.lanes["imad"])
    assert all(cycles > 0 for cycles in [*arch.latency.values(), *arch.products.values()])
    assert arch.latency["lds"] < arch.latency["l1"] < arch.latency["l2"] < arch.latency["dram"]
