"""An NVML that says what a script tells it to, and a machine's kernel files in a folder."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

UUID = "0a1b2c3d-0000-1111-2222-333344445555"
NOT_SUPPORTED, NO_PERMISSION, NOT_FOUND = 3, 4, 6


class FakeError(Exception):
    """As pynvml's NVMLError: a number, and words for it."""

    def __init__(self, value: int) -> None:
        super().__init__(value)
        self.value = value

    def __str__(self) -> str:
        return {NOT_SUPPORTED: "Not Supported", NO_PERMISSION: "Insufficient Permissions"}.get(self.value, "Not Found")


class FakeNvml:
    """pynvml's functions on one GPU.

    events:  what the clock events are at each reading; the last one stays
    refuses: function name -> error number
    """

    NVMLError = FakeError

    def __init__(self, events: list[int] | None = None, refuses: dict[str, int] | None = None) -> None:
        self.events, self.refuses = list(events or [0]), refuses or {}
        self.asked: list[str] = []
        self.mhz, self.power_mw, self.energy_mj = 1980, 300_000, 0
        self.processes: list[SimpleNamespace] = []

    def __getattribute__(self, name: str) -> Any:
        found = object.__getattribute__(self, name)
        if name.startswith("nvml"):
            self.asked.append(name)
            if name in self.refuses:
                raise FakeError(self.refuses[name])
        return found

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != f"GPU-{UUID}":
            raise FakeError(NOT_FOUND)
        return "handle"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return f"GPU-{UUID}"

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlDeviceGetClockInfo(self, handle: str, type: int) -> int:
        return {1: self.mhz, 2: 3201}[type]

    def nvmlDeviceGetMaxClockInfo(self, handle: str, type: int) -> int:
        return {1: 1980}[type]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return self.power_mw

    def nvmlDeviceGetPowerManagementLimit(self, handle: str) -> int:
        return 700_000

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        return 40 + len(self.asked) % 2

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> SimpleNamespace:
        return SimpleNamespace(gpu=97, memory=50)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        return self.events.pop(0) if len(self.events) > 1 else self.events[0]

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return self.events.pop(0) if len(self.events) > 1 else self.events[0]

    def nvmlDeviceGetComputeRunningProcesses(self, handle: str) -> list[SimpleNamespace]:
        return self.processes

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:
        return self.energy_mj

    def nvmlDeviceSetGpuLockedClocks(self, handle: str, minGpuClockMHz: int, maxGpuClockMHz: int) -> None:
        self.locked: tuple[int, int] | None = (minGpuClockMHz, maxGpuClockMHz)

    def nvmlDeviceResetGpuLockedClocks(self, handle: str) -> None:
        self.locked = None


def process(pid: int, mib: float | None = 100) -> SimpleNamespace:
    """One entry of NVML's process list."""
    return SimpleNamespace(pid=pid, usedGpuMemory=None if mib is None else int(mib * 2**20))


def write(root: Path, name: str, text: str | int) -> Path:
    """A file of the kernel's below root."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")
    return path
