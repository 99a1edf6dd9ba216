"""The clocks that decide a ceiling: the clock settings that can be read, and the clock at which a GPU really runs.

Clocks that somebody locked are not among NVML's readings. So a kernel that spins for a known number of cycles tells the
SM clock: one thread draws no power, and the clock is the highest that the lock allows.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
# Long enough for an idle GPU to leave its low clocks.
WAKE_CYCLES = 100_000_000
SPIN_CYCLES = 1_000_000


def clocks_of(device: str) -> dict[str, Any]:
    """Settings by name, in MHz and watts; what cannot be read is left out. device is `cuda` or `cpu`."""
    return _of_gpu() if device == "cuda" else _of_cpu()


def _of_cpu(folder: Path = CPUFREQ) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, key in (("scaling_governor", "governor"), ("scaling_max_freq", "max_mhz")):
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            continue
        found[key] = int(text) // 1000 if text.isdigit() else text
    boost = folder.parent.parent / "cpufreq" / "boost"
    if boost.is_file():
        found["boost"] = boost.read_text().strip()
    return found


def _of_gpu() -> dict[str, Any]:
    try:
        import pynvml
    except ModuleNotFoundError:
        return {}
    try:
        pynvml.nvmlInit()
        return read_nvml(pynvml, pynvml.nvmlDeviceGetHandleByUUID(uuid_of("cuda")))
    except pynvml.NVMLError:
        return {}


def uuid_of(device: str) -> str:
    """The current GPU's, "" for a CPU. NVML counts devices that CUDA_VISIBLE_DEVICES hides: an index is no name."""
    if device != "cuda":
        return ""
    import torch

    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    return uuid if uuid.startswith(("GPU-", "MIG-")) else f"GPU-{uuid}"


def read_nvml(nvml: Any, handle: Any) -> dict[str, Any]:
    """Highest and application clocks in MHz and the power limit in force in W; a refused reading is left out."""
    sm, memory = nvml.NVML_CLOCK_SM, nvml.NVML_CLOCK_MEM
    readings: dict[str, Callable[[], float]] = {
        "max_sm_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, sm),
        "max_memory_mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, memory),
        "application_sm_mhz": lambda: nvml.nvmlDeviceGetApplicationsClock(handle, sm),
        "application_memory_mhz": lambda: nvml.nvmlDeviceGetApplicationsClock(handle, memory),
        "power_limit_w": lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
    }
    found: dict[str, Any] = {}
    for name, read in readings.items():
        try:
            found[name] = read()
        except nvml.NVMLError:
            continue
    return found


def spin_mhz(device: str) -> float | None:
    """The SM clock in MHz while one thread spins; None on a CPU."""
    if device != "cuda":
        return None
    import torch

    torch.cuda._sleep(WAKE_CYCLES)
    pairs = []
    for _ in range(7):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        torch.cuda._sleep(SPIN_CYCLES)
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return SPIN_CYCLES / median(start.elapsed_time(end) for start, end in pairs) / 1e3
