"""Telemetry: what the device did while something was timed: clocks, power, heat, throttling, other processes, energy.

source(device)    this process's GPU or the machine's processors, or None where nothing can be read
watching(device)  reads it in a thread, on the clock of the samples, while a block lasts
energy            joules over a saturated window
gpu_lock          one lock per GPU, machine wide
locked_clocks     holds the SM clock, when asked
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from suite.telemetry.clocks import locked_clocks
from suite.telemetry.host import Host
from suite.telemetry.lock import gpu_lock
from suite.telemetry.nvml import Gpu, NoNvml, current_gpu, find_gpu, uuid_of
from suite.telemetry.readings import Source
from suite.telemetry.sampler import PREFIX, Sampler

__all__ = [
    "PREFIX",
    "Gpu",
    "Host",
    "NoNvml",
    "Sampler",
    "Source",
    "current_gpu",
    "find_gpu",
    "gpu_lock",
    "locked_clocks",
    "refused",
    "source",
    "uuid_of",
    "watching",
]


@cache
def source(device: str) -> Source | None:
    """Where this process's telemetry comes from: its GPU on `cuda`, the processors else; None without NVML."""
    if device != "cuda":
        return Host()
    try:
        return current_gpu()
    except NoNvml:
        return None


def refused(device: str) -> dict[str, str]:
    """Readings that cannot be had here, each with the reason; what a run's environment names once."""
    if device != "cuda":
        found = Host()
    else:
        try:
            found = current_gpu()
        except NoNvml as error:
            return {"all": str(error)}
    found.read()
    found.energy_j()
    return dict(found.refused)


@contextmanager
def watching(device: str) -> Iterator[Sampler | None]:
    """A sampler of this process's device while the block lasts, or None where nothing can be read."""
    found = source(device)
    if found is None:
        yield None
        return
    with Sampler(found) as sampler:
        yield sampler
