"""The datasheet table: names as drivers report them, no guess for a GPU that is not listed."""

from __future__ import annotations

import pytest

from suite.hardware.gpus import GPUS, known
from suite.targets import REPRESENTATIVES


@pytest.mark.parametrize(
    ("name", "arch", "sms"),
    [
        ("NVIDIA H200", "sm_90", 132),
        ("NVIDIA H100 80GB HBM3", "sm_90", 132),
        ("NVIDIA H100 PCIe", "sm_90", 114),
        ("NVIDIA A100-SXM4-80GB", "sm_80", 108),
        ("A100-SXM4-40GB", "sm_80", 108),
        ("NVIDIA B200", "sm_100", 148),
        ("NVIDIA GeForce RTX 4090", "sm_89", 128),
    ],
)
def test_known(name: str, arch: str, sms: int) -> None:
    gpu = known(name)
    assert gpu
    assert (gpu.arch, gpu.sms) == (arch, sms)


@pytest.mark.parametrize(
    "name", ["", "NVIDIA H2000", "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D"]
)
def test_unknown_gpus_have_no_figures(name: str) -> None:
    assert known(name) is None


def test_every_name_is_its_own() -> None:
    assert [known(gpu.name) for gpu in GPUS] == list(GPUS)


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_figures_agree_with_the_architecture(gpu) -> None:
    """Dense peaks are SMs x FLOPs a clock x clock: what an architecture's tensor cores do in a clock is fixed."""
    a_clock = {"sm_80": 2048, "sm_86": 512, "sm_89": 512, "sm_90": 4096, "sm_100": 8192}[gpu.arch]
    if gpu.name in ("NVIDIA A10", "NVIDIA RTX A6000", "NVIDIA L4", "NVIDIA L40S"):
        # The professional cards accumulate in float32 at full rate.
        a_clock = 1024
    if gpu.clock_mhz:
        peak = gpu.sms * a_clock * gpu.clock_mhz / 1e6
        assert gpu.tflops["bfloat16"] == pytest.approx(peak, rel=0.03)
    assert gpu.tflops["bfloat16"] >= gpu.tflops["tf32"] >= gpu.tflops["float32"]


def test_representatives_are_listed_and_agree() -> None:
    for arch, target in REPRESENTATIVES.items():
        gpu = known(target.name)
        assert gpu
        assert (gpu.arch, gpu.sms, gpu.l2_bytes) == (arch, target.sms, target.l2_bytes)
