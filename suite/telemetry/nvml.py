"""One GPU as NVML sees it. Every reading is optional: containers, MIG and older boards refuse some.

What is refused is asked once, is absent from then on, and is named with NVML's own words in `refused`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from suite.errors import SubquadError
from suite.telemetry.events import spoils, words
from suite.telemetry.readings import Asking, Reading, spread

MIB = 1024 * 1024
SM, MEMORY, TEMPERATURE = 1, 2, 0
# Listing processes is the slow query, and processes come and go slowly: every n-th reading asks.
PROCESSES_EVERY = 10


class Nvml(Protocol):
    """The part of pynvml that is used here; a fake has the same names."""

    NVMLError: type[Exception]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Any: ...
    def nvmlDeviceGetUUID(self, handle: Any) -> str: ...
    def nvmlSystemGetDriverVersion(self) -> str: ...
    def nvmlDeviceGetClockInfo(self, handle: Any, type: int) -> int: ...
    def nvmlDeviceGetMaxClockInfo(self, handle: Any, type: int) -> int: ...
    def nvmlDeviceGetPowerUsage(self, handle: Any) -> int: ...
    def nvmlDeviceGetPowerManagementLimit(self, handle: Any) -> int: ...
    def nvmlDeviceGetTemperature(self, handle: Any, sensor: int) -> int: ...
    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...
    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> int: ...
    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> int: ...
    def nvmlDeviceGetComputeRunningProcesses(self, handle: Any) -> Sequence[Any]: ...
    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int: ...
    def nvmlDeviceSetGpuLockedClocks(self, handle: Any, minGpuClockMHz: int, maxGpuClockMHz: int) -> None: ...
    def nvmlDeviceResetGpuLockedClocks(self, handle: Any) -> None: ...


class Others(NamedTuple):
    """Other processes on the GPU; memory and pids only where this process knows itself among them."""

    number: int
    mib: float | None = None
    pids: tuple[int, ...] = ()


class NoNvml(SubquadError):
    """NVML or the GPU in it cannot be had; the message says why."""


class Gpu(Asking):
    """Readings of one GPU. `ours` are the pids that are not another's."""

    period_s = 0.05
    judges = True
    energy_method = "counter"

    def __init__(self, nvml: Nvml, handle: Any, ours: frozenset[int] = frozenset()) -> None:
        super().__init__(nvml.NVMLError)
        self.nvml, self.handle = nvml, handle
        self._ours = ours or frozenset({os.getpid()})
        self._count = 0

    def read(self) -> dict[str, Any]:
        """What can be read now: clocks in MHz, power in W, temperature in °C, events as NVML's bits."""
        n, h = self.nvml, self.handle
        found = {
            "sm_clock_mhz": self._ask("sm_clock", lambda: n.nvmlDeviceGetClockInfo(h, SM)),
            "memory_clock_mhz": self._ask("memory_clock", lambda: n.nvmlDeviceGetClockInfo(h, MEMORY)),
            "power_w": self.power_w(),
            "temperature_c": self._ask("temperature", lambda: n.nvmlDeviceGetTemperature(h, TEMPERATURE)),
            "utilization_pct": self._ask("utilization", lambda: n.nvmlDeviceGetUtilizationRates(h).gpu),
            "events": self._events(),
        }
        if self._count % PROCESSES_EVERY == 0:
            found["others"] = self._ask("processes", self._others)
        self._count += 1
        return {name: value for name, value in found.items() if value is not None}

    def spoiled(self, before: Reading | None, now: dict[str, Any]) -> bool:
        """Whether the GPU was held back by heat or by its hardware when this was read."""
        return spoils(now.get("events", 0))

    def power_w(self) -> float | None:
        """The board's power; on most boards since Ampere the mean of the last second."""
        return self._ask("power", lambda: self.nvml.nvmlDeviceGetPowerUsage(self.handle) / 1e3)

    def energy_j(self) -> float | None:
        """The board's energy counter; it moves about every 100 ms."""
        return self._ask("energy", lambda: self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3)

    def facts(self) -> dict[str, Any]:
        """What does not change during a run: driver, power limit, highest SM clock."""
        n, h = self.nvml, self.handle
        found = {
            "driver": self._ask("driver", n.nvmlSystemGetDriverVersion),
            "power_limit_w": self._ask("power_limit", lambda: n.nvmlDeviceGetPowerManagementLimit(h) / 1e3),
            "max_sm_clock_mhz": self._ask("max_sm_clock", lambda: n.nvmlDeviceGetMaxClockInfo(h, SM)),
        }
        return {name: value for name, value in found.items() if value is not None}

    def summary(self, readings: Sequence[Reading]) -> dict[str, Any]:
        """Columns of a record, without their prefix: medians, extremes where they say more, all events that were."""
        found: dict[str, Any] = {**spread(readings, "sm_clock_mhz", low=True, high=True)}
        found |= spread(readings, "memory_clock_mhz") | spread(readings, "utilization_pct")
        found |= spread(readings, "power_w", high=True) | spread(readings, "temperature_c", high=True)
        events = [r.values["events"] for r in readings if "events" in r.values]
        if events:
            found["events"] = words(_union(events))
        return found | _worst([r.values["others"] for r in readings if "others" in r.values])

    def _events(self) -> int | None:
        try:
            return self.nvml.nvmlDeviceGetCurrentClocksEventReasons(self.handle)
        except self.nvml.NVMLError:
            # Drivers before 535 know the same query by its older name.
            return self._ask("events", lambda: self.nvml.nvmlDeviceGetCurrentClocksThrottleReasons(self.handle))

    def _others(self) -> Others | None:
        listed = self.nvml.nvmlDeviceGetComputeRunningProcesses(self.handle)
        if not listed:
            # This process has work on the GPU: an empty list says that processes are hidden, not that there are none.
            return None
        if not any(each.pid in self._ours for each in listed):
            # A container is told the host's pids, under which it cannot know itself: one of them is this process.
            return Others(len(listed) - 1)
        strangers = [each for each in listed if each.pid not in self._ours]
        used = sum((each.usedGpuMemory or 0) / MIB for each in strangers)
        return Others(len(strangers), used, tuple(each.pid for each in strangers))


def _worst(others: Sequence[Others]) -> dict[str, Any]:
    if not others:
        return {}
    memory = max((each.mib for each in others if each.mib is not None), default=None)
    found: dict[str, Any] = {"other_processes": max(each.number for each in others)}
    found |= {} if memory is None else {"other_memory_mib": memory}
    return found | {"other_pids": sorted({pid for each in others for pid in each.pids})}


def _union(events: Sequence[int]) -> int:
    bits = 0
    for each in events:
        bits |= each
    return bits


@cache
def library() -> Nvml:
    """pynvml, initialised; NoNvml when the package, the library or the driver is not there."""
    try:
        import pynvml
    except ModuleNotFoundError as error:
        raise NoNvml("nvidia-ml-py is not installed: pip install nvidia-ml-py") from error
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        raise NoNvml(f"NVML does not start: {error}") from error
    return pynvml  # type: ignore[return-value]  # a module with the protocol's functions


def uuid_of(index: int = 0) -> str:
    """The UUID of PyTorch's GPU, which counts only those that CUDA_VISIBLE_DEVICES leaves, in CUDA's order."""
    import torch

    return str(torch.cuda.get_device_properties(index).uuid)


def find_gpu(uuid: str, nvml: Nvml | None = None, ours: frozenset[int] = frozenset()) -> Gpu:
    """The GPU or MIG instance with PyTorch's UUID; NoNvml when NVML does not know it."""
    nvml = nvml or library()
    for prefix in ("GPU-", "MIG-"):
        try:
            return Gpu(nvml, nvml.nvmlDeviceGetHandleByUUID(prefix + uuid), ours)
        except nvml.NVMLError as error:
            why = error
    raise NoNvml(f"NVML does not know GPU {uuid}: {why}")


@cache
def current_gpu(index: int = 0) -> Gpu:
    """This process's GPU; NoNvml when it cannot be read."""
    return find_gpu(uuid_of(index))
