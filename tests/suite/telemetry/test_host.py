"""Readings of the processors, from files as the kernel writes them."""

import os
import time
from pathlib import Path

import pytest

from suite.telemetry.host import Host
from suite.telemetry.readings import Reading
from tests.suite.telemetry.fakes import write

CPU = min(os.sched_getaffinity(0))
STAT = "cpu  {user} 0 100 9000 0 0 0 {steal} 0 0\ncpu0 1 1 1 1 1 1 1 1 1 1\ncpu1 1 1 1 1 1 1 1 1 1 1\nintr 5"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine that tells everything."""
    write(tmp_path, "proc/loadavg", "1.50 1.00 0.50 2/99 1234")
    write(tmp_path, "proc/stat", STAT.format(user=1000, steal=0))
    write(tmp_path, "proc/cpuinfo", "cpu MHz\t\t: 2000.0\nmodel name : x\ncpu MHz\t\t: 3000.0")
    cpu = f"sys/devices/system/cpu/cpu{CPU}"
    write(tmp_path, f"{cpu}/cpufreq/scaling_cur_freq", 2_400_000)
    write(tmp_path, f"{cpu}/thermal_throttle/package_throttle_count", 7)
    write(tmp_path, "sys/class/thermal/thermal_zone0/type", "acpitz")
    write(tmp_path, "sys/class/thermal/thermal_zone0/temp", 99_000)
    write(tmp_path, "sys/class/hwmon/hwmon1/name", "k10temp")
    write(tmp_path, "sys/class/hwmon/hwmon1/temp1_input", 61_500)
    for package in (0, 1):
        write(tmp_path, f"sys/class/powercap/intel-rapl:{package}/energy_uj", 5_000_000)
        write(tmp_path, f"sys/class/powercap/intel-rapl:{package}/max_energy_range_uj", 10_000_000)
    write(tmp_path, "sys/class/powercap/intel-rapl:0:0/energy_uj", 123)
    return tmp_path


def test_everything_is_read(root: Path) -> None:
    host = Host(root)
    found = host.read()
    assert found["cpu_clock_mhz"] == 2400.0
    assert found["load"] == 1.5
    # The board's sensor next to the processor's is not asked.
    assert found["temperature_c"] == 61.5
    assert host.energy_j() == 10.0
    assert host.judges
    assert host.refused == {}


def test_rapl_counters_wrap(root: Path) -> None:
    host = Host(root)
    assert host.energy_j() == 10.0
    write(root, "sys/class/powercap/intel-rapl:1/energy_uj", 1_000_000)
    assert host.energy_j() == 16.0
    write(root, "sys/class/powercap/intel-rapl:1/energy_uj", 2_000_000)
    assert host.energy_j() == 17.0


def test_a_throttle_counter_that_moves_spoils(root: Path) -> None:
    host = Host(root)
    before = Reading(0, host.read())
    assert not host.spoiled(None, before.values)
    assert not host.spoiled(before, host.read())
    write(root, f"sys/devices/system/cpu/cpu{CPU}/thermal_throttle/package_throttle_count", 8)
    assert host.spoiled(before, host.read())


def test_what_others_take(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host(root)
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr("suite.telemetry.host._own_seconds", lambda: (now[0] - 100.0) * 0.5)
    first = Reading(0, host.read())
    now[0] = 104.0
    tick = os.sysconf("SC_CLK_TCK")
    # In 4 s on 2 cores: 5 s busy of which 2 s are ours, 1 s stolen.
    write(root, "proc/stat", STAT.format(user=1000 + 5 * tick, steal=tick))
    found = host.summary([first, Reading(1, host.read())])
    assert found["other_share"] == pytest.approx(3 / 8)
    assert found["steal_share"] == pytest.approx(1 / 8)


def test_a_machine_that_hides_everything(tmp_path: Path) -> None:
    host = Host(tmp_path)
    assert set(host.read()) == {"own_s"}
    assert host.energy_j() is None
    assert set(host.refused) == {"cpu_clock", "load", "shares", "temperature", "throttles", "energy"}
    assert "only root" in host.refused["energy"]
    assert host.summary([Reading(0, host.read()), Reading(1, host.read())]) == {}
    assert not host.judges


def test_without_cpufreq_the_clock_is_that_of_cpuinfo(root: Path) -> None:
    (root / f"sys/devices/system/cpu/cpu{CPU}/cpufreq/scaling_cur_freq").unlink()
    assert Host(root).read()["cpu_clock_mhz"] == 2500.0


def test_a_sensor_that_goes_away_is_named(root: Path) -> None:
    host = Host(root)
    (root / "sys/class/hwmon/hwmon1/temp1_input").unlink()
    assert "temperature_c" not in host.read()
    assert "temp1_input" in host.refused["temperature"]


def test_this_machine_answers() -> None:
    found = Host().read()
    assert found["load"] >= 0
    assert found["busy_s"] > 0


def test_a_quota_that_holds_a_container_back_spoils(root: Path) -> None:
    write(root, "proc/self/cgroup", "0::/pod/box")
    write(root, "sys/fs/cgroup/pod/box/cpu.max", "50000 100000")
    write(root, "sys/fs/cgroup/pod/box/cpu.stat", "usage_usec 9\nnr_periods 5\nnr_throttled 3\nthrottled_usec 7")
    (root / f"sys/devices/system/cpu/cpu{CPU}/thermal_throttle/package_throttle_count").unlink()
    host = Host(root)
    assert host.judges
    before = Reading(0, host.read())
    assert before.values["quota_throttles"] == 3
    assert not host.spoiled(before, host.read())
    write(root, "sys/fs/cgroup/pod/box/cpu.stat", "usage_usec 9\nnr_periods 6\nnr_throttled 4\nthrottled_usec 9")
    assert host.spoiled(before, host.read())
    # A group that is gone, as when a process was moved, is refused from then on.
    (root / "sys/fs/cgroup/pod/box/cpu.stat").unlink()
    assert "quota_throttles" not in host.read()
    assert "quota_throttles" in host.refused
