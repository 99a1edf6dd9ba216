"""The CPU time that a container may use: cgroup quotas, of version 2 (`cpu.max`) and 1 (`cpu.cfs_quota_us`).

A process is held to the least quota among its group and the groups around it. Beyond its quota it does not run until
the next period, 0.1 s as a rule, and the kernel counts that as `nr_throttled`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/")


def cpu_quota(root: Path = ROOT) -> float | None:
    """CPUs' worth of time that this process may use, None where that is all of the CPUs it may run on.

    root: `/` but in tests
    """
    quotas = [quota for folder in _groups(root) if (quota := _quota_of(folder)) is not None]
    least = min(quotas, default=math.inf)
    return least if least < len(os.sched_getaffinity(0)) else None


def throttle_counters(root: Path = ROOT) -> list[Path]:
    """The `cpu.stat` files in which `nr_throttled` moves when a quota holds this process back."""
    return [folder / "cpu.stat" for folder in _groups(root) if _quota_of(folder) is not None and _throttled(folder)]


def times_throttled(path: Path) -> int:
    """`nr_throttled` of a `cpu.stat` file. ValueError when it does not have it."""
    for line in path.read_text().splitlines():
        name, _, count = line.partition(" ")
        if name == "nr_throttled":
            return int(count)
    raise ValueError(f"{path} has no nr_throttled")


def _throttled(folder: Path) -> bool:
    try:
        return times_throttled(folder / "cpu.stat") >= 0
    except (OSError, ValueError):
        return False


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's CPU control groups and of those around them, as far as they are to be seen."""
    for line in _read(root / "proc" / "self" / "cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        mounts = [root / "sys" / "fs" / "cgroup" / name for name in _mounts(controllers)]
        mount = next((each for each in mounts if each.is_dir()), None)
        if mount is None:
            continue
        # In a container the path may be the host's, of which only the mount's own folder is there.
        parts = [part for part in Path(path.strip()).parts if part not in ("/", "..")]
        yield mount
        for depth in range(1, len(parts) + 1):
            folder = mount.joinpath(*parts[:depth])
            if folder.is_dir():
                yield folder


def _mounts(controllers: str) -> tuple[str, ...]:
    if not controllers:
        return ("", "unified")
    return (controllers, "cpu", "cpu,cpuacct", "cpuacct,cpu") if "cpu" in controllers.split(",") else ()


def _quota_of(folder: Path) -> float | None:
    """CPUs' worth of time of one group; None where it has no bound."""
    words = _read(folder / "cpu.max").split()
    if not words:
        words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    try:
        quota, period = int(words[0]), int(words[1])
    except (ValueError, IndexError):
        return None
    return quota / period if quota > 0 and period > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
