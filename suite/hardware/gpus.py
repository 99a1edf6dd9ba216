"""Datasheet peaks of GPUs, in the table GPUS: shown beside measured ceilings, never instead of them.

    >>> known("NVIDIA H200").gbs
    4800

A GPU that is not listed has no figures: none are guessed. Peaks are dense, with float32 accumulation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

MiB = 1024 * 1024
# Results of a special-function unit (CUDA C++ Programming Guide, throughput of native arithmetic instructions).
SPECIAL_PER_CLOCK = 16


@dataclass(frozen=True)
class Gpu:
    """What a vendor says of a GPU.

    name:      as the driver reports it; `pattern` matches its spellings
    arch:      "sm_90"
    sms:       streaming multiprocessors
    tflops:    dense peak by dtype: bfloat16, float16, tf32, float32
    gbs:       memory bandwidth, GB/s, powers of ten
    clock_mhz: the boost clock at which the peaks hold, or None where the vendor does not say
    l2_bytes:  last-level cache
    source:    the vendor's document
    """

    name: str
    pattern: str
    arch: str
    sms: int
    tflops: Mapping[str, float]
    gbs: float
    clock_mhz: int | None
    l2_bytes: int
    source: str

    @property
    def special_gops(self) -> float | None:
        """Special functions in 10^9 a second at the boost clock: 16 a clock and SM, as the CUDA programming guide has
        for the architectures listed here. None where the clock is not known, and for sm_103, whose units are faster.
        """
        if self.clock_mhz is None or self.arch == "sm_103":
            return None
        return SPECIAL_PER_CLOCK * self.sms * self.clock_mhz / 1e3

    def datasheet(self) -> dict[str, object]:
        """The `datasheet` entry of a run's environment."""
        return {
            "name": self.name, "gbs": self.gbs, "tflops": dict(self.tflops), "special_gops": self.special_gops,
            "clock_mhz": self.clock_mhz, "source": self.source,
        }  # fmt: skip


def _peaks(half: float, tf32: float, fp32: float) -> dict[str, float]:
    return {"bfloat16": half, "float16": half, "tf32": tf32, "float32": fp32}


_A100 = _peaks(312, 156, 19.5)
GPUS = (
    Gpu("NVIDIA A100-SXM4-80GB", r"NVIDIA A100-SXM4-80GB|A100-SXM-80GB", "sm_80", 108, _A100, 2039, 1410, 40 * MiB,
        "NVIDIA A100 Tensor Core GPU datasheet"),
    Gpu("NVIDIA A100-SXM4-40GB", r"NVIDIA A100-SXM4-40GB|A100-SXM4-40GB", "sm_80", 108, _A100, 1555, 1410, 40 * MiB,
        "NVIDIA A100 Tensor Core GPU datasheet"),
    Gpu("NVIDIA A100 80GB PCIe", r"NVIDIA A100 80GB PCIe", "sm_80", 108, _A100, 1935, 1410, 40 * MiB,
        "NVIDIA A100 Tensor Core GPU datasheet"),
    Gpu("NVIDIA A100-PCIE-40GB", r"(NVIDIA )?A100-PCIE-40GB", "sm_80", 108, _A100, 1555, 1410, 40 * MiB,
        "NVIDIA A100 Tensor Core GPU datasheet"),
    Gpu("NVIDIA A30", r"NVIDIA A30", "sm_80", 56, _peaks(165, 82, 10.3), 933, 1440, 24 * MiB,
        "NVIDIA A30 Tensor Core GPU datasheet"),
    Gpu("NVIDIA A10", r"NVIDIA A10", "sm_86", 72, _peaks(125, 62.5, 31.2), 600, 1695, 6 * MiB,
        "NVIDIA A10 Tensor Core GPU datasheet"),
    Gpu("NVIDIA RTX A6000", r"NVIDIA RTX A6000", "sm_86", 84, _peaks(154.8, 77.4, 38.7), 768, 1800, 6 * MiB,
        "NVIDIA Ampere GA102 GPU architecture whitepaper"),
    Gpu("NVIDIA A40", r"NVIDIA A40", "sm_86", 84, _peaks(149.7, 74.8, 37.4), 696, 1740, 6 * MiB,
        "NVIDIA A40 datasheet and Ampere GA102 GPU architecture whitepaper"),
    Gpu("NVIDIA GeForce RTX 3090", r"(NVIDIA )?GeForce RTX 3090", "sm_86", 82, _peaks(71, 35.6, 35.6), 936, 1695,
        6 * MiB, "NVIDIA Ampere GA102 GPU architecture whitepaper"),
    Gpu("NVIDIA L4", r"NVIDIA L4", "sm_89", 58, _peaks(121, 60, 30.3), 300, 2040, 48 * MiB,
        "NVIDIA L4 Tensor Core GPU datasheet"),
    Gpu("NVIDIA L40S", r"NVIDIA L40S", "sm_89", 142, _peaks(362.05, 183, 91.6), 864, 2520, 96 * MiB,
        "NVIDIA L40S datasheet"),
    Gpu("NVIDIA GeForce RTX 4090", r"(NVIDIA )?GeForce RTX 4090", "sm_89", 128, _peaks(165.2, 82.6, 82.6), 1008, 2520,
        72 * MiB, "NVIDIA Ada GPU architecture whitepaper"),
    Gpu("NVIDIA H100 80GB HBM3", r"NVIDIA H100( SXM5?)?( 80GB HBM3)?", "sm_90", 132, _peaks(989.4, 494.7, 66.9), 3350,
        1830, 50 * MiB, "NVIDIA H100 Tensor Core GPU architecture whitepaper"),
    Gpu("NVIDIA H100 PCIe", r"NVIDIA H100 PCIe", "sm_90", 114, _peaks(756, 378, 51), 2000, 1620, 50 * MiB,
        "NVIDIA H100 Tensor Core GPU datasheet"),
    Gpu("NVIDIA H100 NVL", r"NVIDIA H100 NVL", "sm_90", 132, _peaks(835.5, 417.5, 60), 3900, None, 50 * MiB,
        "NVIDIA H100 Tensor Core GPU datasheet"),
    Gpu("NVIDIA H200", r"NVIDIA H200", "sm_90", 132, _peaks(989.5, 494.5, 67), 4800, 1830, 60 * MiB,
        "NVIDIA H200 Tensor Core GPU datasheet"),
    Gpu("NVIDIA H200 NVL", r"NVIDIA H200 NVL", "sm_90", 132, _peaks(835.5, 417.5, 60), 4800, None, 60 * MiB,
        "NVIDIA H200 Tensor Core GPU datasheet; SMs and L2 as the driver reports them"),
    Gpu("NVIDIA GH200 480GB", r"NVIDIA GH200 480GB", "sm_90", 132, _peaks(990, 494, 67), 4000, None, 60 * MiB,
        "NVIDIA GH200 Grace Hopper Superchip datasheet; SMs and L2 as the driver reports them"),
    Gpu("NVIDIA GH200 144G HBM3e", r"NVIDIA GH200 144G HBM3e", "sm_90", 132, _peaks(990, 494, 67), 4900, None,
        60 * MiB, "NVIDIA GH200 Grace Hopper Superchip datasheet; SMs and L2 as the driver reports them"),
    Gpu("NVIDIA B200", r"NVIDIA B200", "sm_100", 148, _peaks(2250, 1125, 75), 8000, None, 126 * MiB,
        "NVIDIA HGX B200 and DGX B200 datasheets"),
    Gpu("NVIDIA GB200", r"NVIDIA GB200", "sm_100", 152, _peaks(2500, 1250, 80), 8000, None, 126 * MiB,
        "NVIDIA GB200 NVL72 datasheet and Blackwell tuning guide (L2); SMs as the driver reports them"),
    Gpu("NVIDIA B300 SXM6 AC", r"NVIDIA B300( SXM6( AC)?)?", "sm_103", 148, _peaks(2250, 1125, 75), 8000, None,
        126 * MiB, "NVIDIA HGX B300 datasheet; SMs and L2 as the driver reports them"),
    Gpu("NVIDIA GeForce RTX 5090", r"(NVIDIA )?GeForce RTX 5090", "sm_120", 170, _peaks(209.5, 104.8, 104.8), 1792,
        2407, 96 * MiB, "NVIDIA RTX Blackwell GPU architecture whitepaper"),
    Gpu("NVIDIA RTX PRO 6000 Blackwell Workstation Edition", r"NVIDIA RTX PRO 6000 Blackwell Workstation Edition",
        "sm_120", 188, _peaks(503.8, 251.9, 125), 1792, 2617, 128 * MiB,
        "NVIDIA RTX Blackwell PRO GPU architecture whitepaper and datasheet; clock as the driver reports it"),
)  # fmt: skip


def known(name: str) -> Gpu | None:
    """The GPU that a driver reports under this name, or None: no figure is guessed for a GPU that is not listed."""
    return next((gpu for gpu in GPUS if re.fullmatch(gpu.pattern, name.strip(), re.IGNORECASE)), None)


def visible_gpus(named: str | None, count: int) -> list[str]:
    """The entries of CUDA_VISIBLE_DEVICES by which each visible GPU can be chosen alone, in CUDA's order.

    named: the variable's value, None where it is not set
    count: how many GPUs torch sees, which bounds them: an index beyond the machine's hides all after it
    """
    if named is None:
        return [str(i) for i in range(count)]
    found: list[str] = []
    for entry in (each.strip() for each in named.split(",")):
        index = re.match(r"\d+", entry)
        name = str(int(index[0])) if index else entry
        kinds = {"" if each.isdigit() else each[:4] for each in (*found, name)}
        if not (index or entry.startswith(("GPU-", "MIG-"))) or len(kinds) > 1:
            break
        if name in found:
            # CUDA takes a list that names one GPU twice for none at all.
            return []
        found.append(name)
    return found[:count]
