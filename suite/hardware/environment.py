"""The environment of a run: the device, the fingerprint that comparable runs must share, versions, the revision."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from suite.git import Head, head_of
from suite.hardware import assemblers
from suite.hardware.processors import name_of
from suite.telemetry import NoNvml, current_gpu, refused, uuid_of
from suite.telemetry.quota import cpu_quota

if TYPE_CHECKING:
    from suite.registry import Absent

# Distributions whose version may change a number; those that are not installed are left out.
LIBRARIES = (
    "torch",
    "triton",
    "numpy",
    "flash-attn",
    "flash-attn-4",
    "fla-core",
    "mamba-ssm",
    "mlstm-kernels",
    "flashinfer-python",
    "flash-qla",
    "tilelang",
    "nvidia-cutlass-dsl",
    "lightning-attn",
)


def describe(device: str, gpu: int = 0) -> dict[str, Any]:
    """`device`, `fingerprint`, `versions` of this machine, as in docs/records.md. device is `cuda` or `cpu`."""
    found = _gpu(gpu) if device == "cuda" else _cpu()
    found["unread"] = refused(device)
    nvml = _nvml(gpu) if device == "cuda" else {}
    found |= {"max_sm_clock_mhz": nvml["max_sm_clock_mhz"]} if "max_sm_clock_mhz" in nvml else {}
    versions = library_versions() | assemblers.versions()
    fingerprint = {
        "device": found["name"],
        "sms": found["sms"],
        "power_limit_w": nvml.get("power_limit_w"),
        "driver": nvml.get("driver"),
        "cuda": found.pop("cuda", None),
        "torch": versions.get("torch"),
        "triton": versions.get("triton"),
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "threads": found["threads"],
        # Absent where there is none, so that the machines of earlier runs stay what they were.
        **({} if (quota := cpu_quota()) is None else {"cpu_quota": round(quota, 3)}),
        **({} if (given := assemblers.given()) is None else {"ptxas": given}),
    }
    return {"device": found, "fingerprint": fingerprint, "versions": versions}


def answered(device: str, root: Path, absent: Iterable[Absent]) -> dict[str, Any]:
    """`describe`, the modules that lack a library, and the commit of a checkout or why it has none.

    absent: of the registry; root: the checkout that it was filled from
    """
    at = head(root)
    return {
        **describe(device),
        "absent": [{"module": each.module, "reason": each.reason} for each in absent],
        "commit": at.commit,
        "no_commit": at.why,
    }


def library_versions() -> dict[str, str]:
    """Installed versions of the libraries that implementations use."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _gpu(index: int) -> dict[str, Any]:
    import torch

    p = torch.cuda.get_device_properties(index)
    return {
        "kind": "cuda",
        "name": p.name,
        "uuid": uuid_of(index),
        "arch": f"sm_{p.major}{p.minor}",
        "sms": p.multi_processor_count,
        "memory_mib": p.total_memory // 2**20,
        "llc_bytes": p.L2_cache_size,
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
    }


def _cpu() -> dict[str, Any]:
    import torch

    return {
        "kind": "cpu",
        "name": cpu_name(),
        "arch": platform.machine(),
        "sms": None,
        "memory_mib": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20,
        "llc_bytes": last_level_cache(),
        "threads": torch.get_num_threads(),
    }


def _nvml(index: int) -> dict[str, Any]:
    """Driver, power limit and highest clock; containers and MIG refuse some, and a refused reading is left out."""
    try:
        return current_gpu(index).facts()
    except NoNvml:
        return {}


@cache
def cpu_name() -> str:
    """The processor's name, as in suite.hardware.processors."""
    info = Path("/proc/cpuinfo")
    return name_of(info.read_text(errors="replace") if info.is_file() else "", platform.machine())


@cache
def physical_cores() -> int:
    """Cores this process may use, hyperthreads counted once; at most a container's quota of CPU time, rounded up."""
    allowed = os.sched_getaffinity(0)
    siblings = set()
    for cpu in allowed:
        path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        siblings.add(path.read_text().strip() if path.is_file() else str(cpu))
    quota = cpu_quota()
    return len(siblings) if quota is None else min(len(siblings), math.ceil(quota))


@cache
def last_level_cache() -> int:
    """Bytes of the largest cache of CPU 0; 0 where the kernel does not tell."""
    sizes = [path.read_text().strip() for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")]
    units = {"K": 1024, "M": 1024**2}
    return max((int(size[:-1]) * units[size[-1]] for size in sizes if size and size[-1] in units), default=0)


@cache
def head(root: Path) -> Head:
    """The commit of a checkout as this process found it first, or why it is not known."""
    return head_of(root)


def revision(root: Path) -> str:
    """The commit of a checkout, with `-dirty` when files differ from it; empty where `head` says why."""
    return head(root).commit
