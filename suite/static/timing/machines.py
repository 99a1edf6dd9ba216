"""What an SM takes for each kind of instruction, and what feeds it: one table an architecture.

    machine = machine_of("NVIDIA H200")
    machine.lanes["fp32"], machine.latency["lds"], machine.clock_ghz

Cycles are those of an SM's clock. An SM has four partitions; each issues one instruction of a warp a cycle. A unit with
n lanes a partition takes 32 / n cycles for a warp's instruction.

Sources, by the letters that the tables use:

G  NVIDIA, CUDA C++ Programming Guide, "Throughput of Native Arithmetic Instructions", by compute capability
H  Luo et al. 2024, "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture", arXiv:2402.13499
D  Luo et al. 2025, "Dissecting the NVIDIA Hopper Architecture through Microbenchmarking and Multiple Level Analysis",
   arXiv:2501.12084
M  Huerta et al. 2025, "Analyzing Modern NVIDIA GPU Cores", arXiv:2503.20481
A  Abdelkhalik et al. 2022, "Demystifying the Nvidia Ampere Architecture through Microbenchmarking and
   Instruction-level Analysis", arXiv:2208.11174
N  NAK of Mesa, sm80_instr_latencies.rs, which holds scheduling data that NVIDIA provided
J  Johnsonms/NVIDIA-Hopper-Benchmark on GitHub, at 2af634c: the suite of H, run again on an H100 SXM5 at 1.98 GHz
S  SemiAnalysisAI/microbench-blackwell on GitHub, at 9a068d8: a B200 at 1.965 GHz
B  ademeure/QuickRunCUDA on GitHub, f2fp-deep-dive at 3a9f5f2: a B300, which stands for the B200
P  the dense peak of the vendor's datasheet (suite/hardware/gpus.py), over SMs and clock
R  a rule of ours: no source is known; a microbenchmark on the device would replace it

G, H, D, M and A were read through notes of others that quote their tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from suite.hardware.gpus import known
from suite.targets import Target

PARTITIONS = 4
WARP = 32


@dataclass(frozen=True)
class Architecture:
    """An SM of one architecture.

    lanes:        results a cycle of a partition, by unit: fp32, imad, int, special
    latency:      cycles from issue until a result may be used, by kind, where the control code leaves that open
    products:     cycles of a partition's tensor unit for a warp's own product, by its shape, in 16 bits
    fma_tensor:   multiply-adds a cycle and partition of asynchronous products, WGMMA and tcgen05, in 16 bits; or 0
    shared_bytes: bytes a cycle of an SM's shared memory
    lsu_queue:    cycles of work that may wait before the SM's memory unit holds back a warp
    l2_bytes:     bytes a cycle that an SM takes from the L2 cache at most
    jump:         cycles that a taken jump costs beside its stall
    """

    name: str
    lanes: Mapping[str, int]
    latency: Mapping[str, float]
    products: Mapping[str, float]
    fma_tensor: float
    shared_bytes: int = 128  # G, J
    lsu_queue: float = 48  # R
    l2_bytes: float = 64  # R
    jump: float = 6  # R


@dataclass(frozen=True)
class Machine:
    """An SM's architecture in one product.

    sms:       streaming multiprocessors
    clock_ghz: the SM clock under load
    dram_gbs:  memory bandwidth that kernels reach, 10^9 bytes a second
    l2_gbs:    the same of the L2 cache
    l2_bytes:  its size
    launch_us: what one launch costs beside its blocks' time, microseconds
    """

    gpu: str
    architecture: Architecture
    sms: int
    clock_ghz: float
    dram_gbs: float
    l2_gbs: float
    l2_bytes: int
    launch_us: float


_LATENCY_80 = {
    "lds": 29,  # H
    "ldsm": 29,  # B
    "sts": 12,  # M: until the operands of a store have been read
    "special": 18,  # B: 14 to 23
    "convert": 18,  # R: as special functions
    "shuffle": 24,  # M, B
    "special_register": 22,  # R
    "constant": 29,  # M
    "barrier": 22,  # B: with 2 more a warp
    "barrier_warp": 2,  # B
    "fence": 11,  # B
    "l1": 38,  # H
    "l2": 300,  # H: 203 to the near half of the L2 cache, 398 to the far one
    "dram": 620,  # H: 466 to 623 idle
    "tensor": 25,  # H
    "wgmma": 30,  # R: cycles of a chain's last product beyond its throughput
    "tma": 105,  # H: what a TMA load takes beyond a thread's
    "operands": 10,  # M: until a memory instruction has read its operands
}
_LATENCY_90 = _LATENCY_80 | {
    "l1": 41,  # H, J
    "l2": 300,  # J: 264 below 16 MB, 300 in all, 414 to the far half
    "dram": 600,  # H, J: 479 to 640 idle
    "tensor": 24,  # J
}
_LATENCY_100 = _LATENCY_90 | {"l1": 47, "l2": 300, "dram": 800, "tensor": 20, "tma": 50}  # B; under load: S
# S: a product, its commit and the wait take 120 cycles beyond its throughput; two barriers of them are counted apart.
_LATENCY_100 |= {"wgmma": 76}
_LANES = {"fp32": 32, "imad": 16, "int": 16, "special": 4}  # G, B; special: the compiler's stalls between them
ARCHITECTURES = {
    "sm_80": Architecture(
        "sm_80",
        lanes=_LANES | {"fp32": 16},  # G
        latency=_LATENCY_80,
        products={"16816": 8, "1688": 4, "1688.TF32": 8, "1684.TF32": 4},  # P, H
        fma_tensor=0,
    ),
    "sm_90": Architecture(
        "sm_90",
        lanes=_LANES,
        latency=_LATENCY_90,
        products={"16816": 6, "1688": 4, "1688.TF32": 6, "1684.TF32": 4},  # J
        fma_tensor=512,  # P, H
    ),
    "sm_100": Architecture(
        "sm_100",
        lanes=_LANES,
        latency=_LATENCY_100,
        products={"16816": 8, "1688": 4, "1688.TF32": 8, "1684.TF32": 4},  # B
        fma_tensor=1024,  # P, S
    ),
}
# Clocks are the highest that the product boosts to; of the GB200, that of its peak (P). A launch in a CUDA graph costs
# about 1 us (B: 0.6 to 1.1). Bandwidths are shares of the datasheet's that reads and copies reach (J: 0.90; S: 0.91);
# of the L2 cache R.
_PRODUCTS = {
    "NVIDIA A100-SXM4-80GB": ("sm_80", 1.41, 0.90, 4000.0),
    "NVIDIA A100-SXM4-40GB": ("sm_80", 1.41, 0.90, 4000.0),
    "NVIDIA H100 80GB HBM3": ("sm_90", 1.98, 0.90, 5600.0),
    "NVIDIA H200": ("sm_90", 1.98, 0.90, 5600.0),
    "NVIDIA B200": ("sm_100", 1.965, 0.91, 13300.0),
    "NVIDIA GB200": ("sm_100", 2.008, 0.91, 13300.0),
}
LAUNCH_US = 1.0


def machine_of(gpu: str) -> Machine | None:
    """The table of a product, by the name that its driver reports; None where there is none: no figure is guessed."""
    sheet = known(gpu)
    if sheet is None or sheet.name not in _PRODUCTS:
        return None
    arch, clock, share, l2 = _PRODUCTS[sheet.name]
    return Machine(sheet.name, ARCHITECTURES[arch], sheet.sms, clock, sheet.gbs * share, l2, sheet.l2_bytes, LAUNCH_US)


def machine_for(target: Target) -> Machine | None:
    """The table of a target."""
    return machine_of(target.name)
