"""This machine's processors, as read from Linux: clock, load, other processes, temperature, RAPL energy if readable.

In a virtual machine the clock is often the nominal one, and the rest may be hidden; what is not there is in `refused`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from suite.telemetry.quota import throttle_counters, times_throttled
from suite.telemetry.readings import Asking, Reading, spread

_BUSY = ("user", "nice", "system", "irq", "softirq")
_STAT = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_ZONES = ("x86_pkg_temp", "cpu")
_CHIPS = ("coretemp", "k10temp", "zenpower")


class Host(Asking):
    """Readings of the processors that this process may use. root is `/` but in tests."""

    period_s = 0.2
    energy_method = "rapl"

    def __init__(self, root: Path = Path("/")) -> None:
        super().__init__(OSError, ValueError)
        system = root / "sys" / "devices" / "system" / "cpu"
        cpus = [system / f"cpu{i}" for i in sorted(os.sched_getaffinity(0))]
        self._proc = root / "proc"
        self._clocks = _readable([cpu / "cpufreq" / "scaling_cur_freq" for cpu in cpus])
        self._throttles = _readable([cpu / "thermal_throttle" / "package_throttle_count" for cpu in cpus])
        self._quotas = throttle_counters(root)
        self._heat = _readable(_thermometers(root / "sys" / "class"))
        self._energy = _readable(sorted((root / "sys" / "class" / "powercap").glob("intel-rapl:?/energy_uj")))
        self._last: dict[Path, int] = {}
        self._wrapped = 0
        self.judges = bool(self._throttles or self._quotas)
        self.refused |= self._missing()

    def read(self) -> dict[str, Any]:
        """What can be read now; `busy_s` and `steal_s` count from the machine's start, `own_s` from this process's."""
        found: dict[str, Any] = {
            "cpu_clock_mhz": self._ask("cpu_clock", self._clock),
            "load": self._ask("load", self._load),
            "temperature_c": self._ask("temperature", lambda: max(map(_number, self._heat)) / 1e3),
            "throttles": self._ask("throttles", lambda: sum(map(_number, self._throttles))),
            "quota_throttles": self._quota_throttles(),
            "own_s": _own_seconds(),
            **(self._ask("shares", self._seconds) or {}),
        }
        return {name: value for name, value in found.items() if value is not None}

    def spoiled(self, before: Reading | None, now: dict[str, Any]) -> bool:
        """Whether the processors' own throttle counters, or a container's quota's, moved since the reading before."""
        return before is not None and any(
            now.get(name, 0) > before.values.get(name, 0) for name in ("throttles", "quota_throttles")
        )

    def _quota_throttles(self) -> int | None:
        """How often a container's quota held its processes back; None where there is no quota."""
        if not self._quotas:
            return None
        return self._ask("quota_throttles", lambda: sum(map(times_throttled, self._quotas)))

    def power_w(self) -> float | None:
        """No processor tells its power at a moment; RAPL counts energy."""
        return None

    def energy_j(self) -> float | None:
        """RAPL's energy of all packages, its wrapping counters made straight."""
        return self._ask("energy", self._joules)

    def summary(self, readings: Sequence[Reading]) -> dict[str, Any]:
        """Columns of a record, without their prefix. Shares are parts of all cores' time over the readings."""
        found = spread(readings, "cpu_clock_mhz", low=True, high=True)
        found |= spread(readings, "load") | spread(readings, "temperature_c", high=True)
        return found | _shares(readings)

    def _joules(self) -> float:
        total = 0
        for path in self._energy:
            now = _number(path)
            if now < self._last.get(path, 0):
                self._wrapped += _number(path.with_name("max_energy_range_uj"))
            self._last[path] = now
            total += now
        return (total + self._wrapped) / 1e6

    def _clock(self) -> float:
        if self._clocks:
            return mean(map(_number, self._clocks)) / 1e3
        lines = (self._proc / "cpuinfo").read_text().splitlines()
        return mean(float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz"))

    def _load(self) -> float:
        return float((self._proc / "loadavg").read_text().split()[0])

    def _seconds(self) -> dict[str, float]:
        first, *lines = (self._proc / "stat").read_text().splitlines()
        ticks = dict(zip(_STAT, map(int, first.split()[1:]), strict=False))
        tick = os.sysconf("SC_CLK_TCK")
        return {
            "busy_s": sum(ticks.get(name, 0) for name in _BUSY) / tick,
            "steal_s": ticks.get("steal", 0) / tick,
            "all_s": time.monotonic() * sum(line.startswith("cpu") for line in lines),
        }

    def _missing(self) -> dict[str, str]:
        found = {"temperature": self._heat, "throttles": self._throttles, "energy": self._energy}
        where = {
            "temperature": "no processor's sensor among /sys/class/thermal and /sys/class/hwmon",
            "throttles": "no thermal_throttle counters under /sys/devices/system/cpu",
            "energy": "no readable RAPL counter under /sys/class/powercap; since Linux 5.10 only root reads it",
        }
        return {name: why for name, why in where.items() if not found[name]}


def _shares(readings: Sequence[Reading]) -> dict[str, float]:
    told = [r.values for r in readings if "all_s" in r.values]
    if len(told) < 2 or told[-1]["all_s"] <= told[0]["all_s"]:
        return {}
    passed = {name: told[-1][name] - told[0][name] for name in ("all_s", "busy_s", "own_s", "steal_s")}
    return {
        "other_share": max(0.0, passed["busy_s"] - passed["own_s"]) / passed["all_s"],
        "steal_share": max(0.0, passed["steal_s"]) / passed["all_s"],
    }


def _own_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


def _thermometers(classes: Path) -> list[Path]:
    zones = [zone / "temp" for zone in classes.glob("thermal/thermal_zone*") if _word(zone / "type").startswith(_ZONES)]
    chips = [chip for chip in classes.glob("hwmon/hwmon*") if _word(chip / "name") in _CHIPS]
    return zones + [path for chip in chips for path in chip.glob("temp*_input")]


def _readable(paths: Sequence[Path]) -> list[Path]:
    return [path for path in paths if _word(path).isdigit()]


def _word(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    return int(path.read_text())
