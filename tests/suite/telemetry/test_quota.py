"""A container's quota of CPU time, from files as the kernel writes them in cgroups of both versions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from suite.hardware import environment
from suite.telemetry.quota import cpu_quota, throttle_counters
from tests.suite.telemetry.fakes import write

V1 = "12:cpu,cpuacct:/docker/abc\n11:memory:/docker/abc\n1:name=systemd:/docker/abc\n0::/system"
STAT = "nr_periods 1\nnr_throttled 0"
# name -> (/proc/self/cgroup, files under /sys/fs/cgroup, CPUs that may be used, their counters)
MACHINES = {
    "none": ("", {}, None, []),
    "v2, its own group is the root": ("0::/", {"cpu.max": "150000 100000", "cpu.stat": STAT}, 1.5, [""]),
    "v2, no bound": ("0::/a", {"a/cpu.max": "max 100000", "a/cpu.stat": STAT}, None, []),
    "v2, an outer group is narrower": (
        "0::/pod/box",
        {
            "pod/cpu.max": "50000 100000",
            "pod/cpu.stat": STAT,
            "pod/box/cpu.max": "300000 100000",
            "pod/box/cpu.stat": STAT,
        },
        0.5,
        ["pod", "pod/box"],
    ),
    "v2, an inner group is narrower": (
        "0::/pod/box",
        {"pod/cpu.max": "400000 100000", "pod/box/cpu.max": "25000 50000"},
        0.5,
        [],
    ),
    "v2, the path is the host's": ("0::/kubepods/pod1/abc", {"cpu.max": "200000 100000"}, 2.0, []),
    "v2, a namespace around": ("0::/../../other", {"cpu.max": "200000 100000", "cpu.stat": STAT}, 2.0, [""]),
    "v2 beside v1, the CPU under v1": (
        V1,
        {
            "unified/cgroup.procs": "1",
            "cpu,cpuacct/docker/abc/cpu.cfs_quota_us": "250000",
            "cpu,cpuacct/docker/abc/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/docker/abc/cpu.stat": STAT,
        },
        2.5,
        ["cpu,cpuacct/docker/abc"],
    ),
    "v1 under a link of another order": (
        V1,
        {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "50000"},
        2.0,
        [],
    ),
    "v1, no bound": (
        V1,
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000", "cpu,cpuacct/cpu.stat": STAT},
        None,
        [],
    ),
    "v1, a CPU set is no CPU quota": (
        "4:cpuset:/\n0::/",
        {"cpuset/cpu.cfs_quota_us": "1", "cpuset/cpu.cfs_period_us": "1"},
        None,
        [],
    ),
    "more than the CPUs there are": ("0::/", {"cpu.max": "9900000 100000"}, None, []),
    "nonsense": ("0::/\nhalf a line", {"cpu.max": "fast please", "cpu.stat": "nr_throttled many"}, None, []),
    "an empty file": ("0::/", {"cpu.max": ""}, None, []),
    "a period of nothing": ("0::/", {"cpu.max": "1000 0"}, None, []),
}


@pytest.fixture(autouse=True)
def four_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})


@pytest.mark.parametrize("name", MACHINES)
def test_the_quota_and_its_counters(name: str, tmp_path: Path) -> None:
    group, files, quota, counters = MACHINES[name]
    write(tmp_path, "proc/self/cgroup", group)
    for path, text in files.items():
        write(tmp_path, f"sys/fs/cgroup/{path}", text)
    assert cpu_quota(tmp_path) == quota
    found = [str(path.parent.relative_to(tmp_path / "sys/fs/cgroup")) for path in throttle_counters(tmp_path)]
    assert found == [each or "." for each in counters]


@pytest.mark.parametrize(("quota", "cores"), [(None, 4), (0.1, 1), (1.0, 1), (1.5, 2), (3.999, 4)])
def test_cores_are_bound_by_the_quota_rounded_up(
    quota: float | None, cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "cpu_quota", lambda: quota)
    monkeypatch.setattr(Path, "is_file", lambda _: False)
    environment.physical_cores.cache_clear()
    try:
        assert environment.physical_cores() == cores
    finally:
        environment.physical_cores.cache_clear()


def test_the_fingerprint_tells_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "cpu_quota", lambda: 1.5)
    assert environment.describe("cpu")["fingerprint"]["cpu_quota"] == 1.5
    monkeypatch.setattr(environment, "cpu_quota", lambda: None)
    assert "cpu_quota" not in environment.describe("cpu")["fingerprint"]
