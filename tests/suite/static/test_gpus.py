"""The datasheet table: names as drivers report them, no guess for a GPU that is not listed."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from suite import targets
from suite.hardware.gpus import GPUS, known
from suite.targets import REPRESENTATIVES, Target


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
        ("NVIDIA H200 NVL", "sm_90", 132),
        ("NVIDIA GH200 480GB", "sm_90", 132),
        ("NVIDIA GB200", "sm_100", 152),
        ("NVIDIA B300 SXM6 AC", "sm_103", 148),
        ("NVIDIA GeForce RTX 5090", "sm_120", 170),
        ("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", "sm_120", 188),
        ("NVIDIA A40", "sm_86", 84),
    ],
)
def test_known(name: str, arch: str, sms: int) -> None:
    gpu = known(name)
    assert gpu
    assert (gpu.arch, gpu.sms) == (arch, sms)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "NVIDIA H2000",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 5090 D",
        # Another clock and power limit, and another memory.
        "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        "NVIDIA H20",
        "NVIDIA L40",
    ],
)
def test_unknown_gpus_have_no_figures(name: str) -> None:
    assert known(name) is None


def test_every_name_is_its_own() -> None:
    assert [known(gpu.name) for gpu in GPUS] == list(GPUS)


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_figures_agree_with_the_architecture(gpu) -> None:
    """Dense peaks are SMs x FLOPs a clock x clock: what an architecture's tensor cores do in a clock is fixed."""
    a_clock = {"sm_80": 2048, "sm_86": 512, "sm_89": 512, "sm_90": 4096, "sm_100": 8192, "sm_103": 8192, "sm_120": 512}[
        gpu.arch
    ]
    if gpu.arch in ("sm_86", "sm_89", "sm_120") and "GeForce" not in gpu.name:
        # The professional cards accumulate in float32 at full rate.
        a_clock = 1024
    if gpu.clock_mhz:
        peak = gpu.sms * a_clock * gpu.clock_mhz / 1e6
        assert gpu.tflops["bfloat16"] == pytest.approx(peak, rel=0.03)
    assert gpu.tflops["bfloat16"] >= gpu.tflops["tf32"] >= gpu.tflops["float32"]


def test_faster_special_functions_have_no_figure() -> None:
    """The units of sm_103 give more results per clock than those of other architectures."""
    ultra = replace(GPUS[0], arch="sm_103")
    assert GPUS[0].special_gops == pytest.approx(16 * 108 * 1.41)
    assert ultra.special_gops is None


def test_representatives_are_listed_and_agree() -> None:
    for arch, target in REPRESENTATIVES.items():
        gpu = known(target.name)
        assert gpu
        assert (gpu.arch, gpu.sms, gpu.l2_bytes) == (arch, target.sms, target.l2_bytes)


def test_an_h200_has_the_cache_that_torch_reports() -> None:
    gpu = known("NVIDIA H200")
    assert gpu
    assert gpu.l2_bytes == 60 * 2**20


@pytest.mark.parametrize(
    ("major", "minor", "threads", "shared", "blocks", "tile_class"),
    [
        (8, 0, 2048, 163, 32, 80),
        (8, 7, 1536, 163, 16, 80),
        (8, 6, 1536, 99, 16, 86),
        (8, 9, 1536, 99, 24, 86),
        (9, 0, 2048, 227, 32, 90),
        (10, 0, 2048, 227, 32, 100),
        (10, 3, 2048, 227, 32, 100),
        (11, 0, 1536, 227, 24, 100),
        (12, 0, 1536, 99, 24, 86),
        (12, 1, 1536, 99, 24, 86),
    ],
)
def test_a_real_device_becomes_a_target(
    major: int, minor: int, threads: int, shared: int, blocks: int, tile_class: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = SimpleNamespace(
        name="a GPU",
        major=major,
        minor=minor,
        multi_processor_count=7,
        shared_memory_per_block_optin=shared * 1024,
        shared_memory_per_multiprocessor=(shared + 1) * 1024,
        regs_per_multiprocessor=65536,
        max_threads_per_multi_processor=threads,
        L2_cache_size=5,
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: answer)
    targets._of_gpu.cache_clear()
    try:
        found = targets.target()
    finally:
        targets._of_gpu.cache_clear()
    assert found == Target(
        f"sm_{major}{minor}", "a GPU", 7, shared * 1024, (shared + 1) * 1024, 65536, threads, blocks, 5
    )
    assert found.tile_class == tile_class


@pytest.mark.parametrize(("arch", "tile_class"), [("cpu", 80), ("sm_75", 80), ("sm_110", 100)])
def test_every_target_has_a_class_of_tiles(arch: str, tile_class: int) -> None:
    assert Target(arch).tile_class == tile_class
