"""On a device: ceilings against the datasheet and against each other."""

from __future__ import annotations

from typing import Any

import pytest

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    from suite.ceilings import measure_ceilings

    return measure_ceilings("cuda")


@pytest.fixture(scope="module")
def sheet():
    import torch

    from suite.hardware.gpus import known

    gpu = known(torch.cuda.get_device_name())
    if gpu is None:
        pytest.skip("no datasheet is known for this GPU")
    return gpu


def test_none_exceeds_the_datasheet_and_none_is_far_below(found: dict[str, Any], sheet) -> None:
    memory = found["copy"][-1]["gbs"]
    assert 0.6 * sheet.gbs < memory < 1.02 * sheet.gbs
    for dtype in ("bfloat16", "float16", "tf32"):
        assert 0.4 * sheet.tflops[dtype] < found["matmul"][dtype]["tflops"] < 1.05 * sheet.tflops[dtype]


def test_reads_alone_are_no_slower_than_a_copy(found: dict[str, Any], sheet) -> None:
    assert 0.97 * found["copy"][-1]["gbs"] < found["read"]["gbs"] < 1.02 * sheet.gbs


def test_the_cache_is_faster_than_memory(found: dict[str, Any], sheet) -> None:
    assert found["l2"]["bytes"] <= sheet.l2_bytes / 2
    assert found["l2"]["gbs"] > 1.1 * found["copy"][-1]["gbs"]


def test_special_functions_run_at_sixteen_a_clock_and_sm(found: dict[str, Any], sheet) -> None:
    from suite.ceilings.clocks import spin_mhz

    clock = spin_mhz("cuda")
    assert clock is not None
    expected = 16 * sheet.sms * clock / 1e3
    assert 0.7 * expected < found["special"]["gops"] < 1.1 * expected


def test_a_graph_launches_faster_than_the_host(found: dict[str, Any]) -> None:
    us = {how: each["us"] for how, each in found["launch"].items()}
    assert 0 < us["graph"] < us["torch"] < us["roundtrip"]
    assert us["graph"] < us["triton"] < us["roundtrip"]


def test_the_clock_is_no_higher_than_the_highest() -> None:
    from suite.ceilings.clocks import clocks_of, spin_mhz

    highest = clocks_of("cuda").get("max_sm_mhz")
    if highest is None:
        pytest.skip("NVML does not tell the highest clock here")
    clock = spin_mhz("cuda")
    assert clock is not None
    assert 0.1 * highest < clock < 1.02 * highest
