"""Readings of a GPU: every one optional, what is refused named once."""

import os

import pytest

from suite.telemetry.events import spoils, words
from suite.telemetry.nvml import PROCESSES_EVERY, Gpu, NoNvml, find_gpu
from suite.telemetry.readings import Reading
from tests.suite.telemetry.fakes import NOT_SUPPORTED, UUID, FakeNvml, process


def readings(gpu: Gpu, count: int) -> list[Reading]:
    return [Reading(i, gpu.read()) for i in range(count)]


def test_all_columns() -> None:
    nvml = FakeNvml(events=[0x4, 0x0, 0x4])
    nvml.processes = [process(os.getpid(), 900), process(77, 512)]
    gpu = Gpu(nvml, "handle")
    taken = readings(gpu, 2)
    nvml.mhz = 1200
    columns = gpu.summary(taken + readings(gpu, 1))
    assert columns == {
        "sm_clock_mhz": 1980.0,
        "sm_clock_min_mhz": 1200.0,
        "sm_clock_max_mhz": 1980.0,
        "memory_clock_mhz": 3201.0,
        "utilization_pct": 97.0,
        "power_w": 300.0,
        "power_max_w": 300.0,
        "temperature_c": columns["temperature_c"],
        "temperature_max_c": 41.0,
        "events": ["power_cap"],
        "other_processes": 1,
        "other_memory_mib": 512.0,
        "other_pids": [77],
    }
    assert gpu.refused == {}


@pytest.mark.parametrize(
    ("function", "name", "columns"),
    [
        ("nvmlDeviceGetClockInfo", "sm_clock", {"sm_clock_mhz", "memory_clock_mhz"}),
        ("nvmlDeviceGetPowerUsage", "power", {"power_w"}),
        ("nvmlDeviceGetTemperature", "temperature", {"temperature_c"}),
        ("nvmlDeviceGetUtilizationRates", "utilization", {"utilization_pct"}),
        ("nvmlDeviceGetComputeRunningProcesses", "processes", {"other_processes"}),
    ],
)
def test_a_refused_reading_is_absent_and_asked_once(function: str, name: str, columns: set[str]) -> None:
    nvml = FakeNvml(refuses={function: NOT_SUPPORTED})
    gpu = Gpu(nvml, "handle")
    found = gpu.summary(readings(gpu, 2 * PROCESSES_EVERY))
    assert not columns & set(found)
    assert {"events"} <= set(found)
    assert gpu.refused[name] == "Not Supported"
    assert nvml.asked.count(function) == (2 if "ClockInfo" in function else 1)


def test_an_older_driver_is_asked_by_the_older_name() -> None:
    gpu = Gpu(FakeNvml(events=[0x40], refuses={"nvmlDeviceGetCurrentClocksEventReasons": NOT_SUPPORTED}), "handle")
    assert gpu.read()["events"] == 0x40
    assert gpu.refused == {}


def test_both_names_refused() -> None:
    both = dict.fromkeys(
        ("nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"), NOT_SUPPORTED
    )
    gpu = Gpu(FakeNvml(refuses=both), "handle")
    assert "events" not in gpu.read()
    assert gpu.refused == {"events": "Not Supported"}
    assert not gpu.spoiled(None, gpu.read())


@pytest.mark.parametrize(
    ("bits", "names", "spoiled"),
    [
        (0x0, [], False),
        (0x1, ["idle"], False),
        (0x2, ["applications_clocks"], False),
        (0x4, ["power_cap"], False),
        (0x8, ["hw_slowdown"], True),
        (0x24, ["power_cap", "sw_thermal_slowdown"], True),
        (0x40, ["hw_thermal_slowdown"], True),
        (0x80, ["hw_power_brake"], True),
        (0x110, ["sync_boost", "display_clocks"], False),
        (0x8000, ["event_0x8000"], False),
    ],
)
def test_events(bits: int, names: list[str], spoiled: bool) -> None:
    assert words(bits) == names
    assert spoils(bits) is spoiled


def test_the_bits_are_those_of_nvml() -> None:
    pynvml = pytest.importorskip("pynvml")
    assert words(pynvml.nvmlClocksEventReasonHwPowerBrakeSlowdown) == ["hw_power_brake"]
    assert words(pynvml.nvmlClocksEventReasonSwThermalSlowdown) == ["sw_thermal_slowdown"]
    assert words(pynvml.nvmlClocksEventReasonHwThermalSlowdown) == ["hw_thermal_slowdown"]
    assert words(pynvml.nvmlClocksEventReasonHwSlowdown) == ["hw_slowdown"]
    assert words(pynvml.nvmlClocksEventReasonSwPowerCap) == ["power_cap"]


def test_every_function_asked_for_is_one_of_pynvml() -> None:
    pynvml = pytest.importorskip("pynvml")
    assert all(hasattr(pynvml, name) for name in vars(FakeNvml) if name.startswith("nvml"))


@pytest.mark.parametrize(
    ("listed", "columns"),
    [
        ([(1, 900)], {"other_processes": 0, "other_memory_mib": 0.0, "other_pids": []}),
        ([(1, 900), (2, None), (3, 4)], {"other_processes": 2, "other_memory_mib": 4.0, "other_pids": [2, 3]}),
        # A container's own pid is another one on the host.
        ([(5, 900), (6, 10)], {"other_processes": 1, "other_pids": []}),
        ([], {}),
    ],
)
def test_other_processes(listed: list[tuple[int, float | None]], columns: dict) -> None:
    nvml = FakeNvml()
    nvml.processes = [process(pid, mib) for pid, mib in listed]
    gpu = Gpu(nvml, "handle", ours=frozenset({1}))
    found = gpu.summary(readings(gpu, 1))
    assert {name: value for name, value in found.items() if name.startswith("other")} == columns


def test_finding_a_gpu() -> None:
    assert find_gpu(UUID, FakeNvml()).facts() == {"driver": "570.1", "power_limit_w": 700.0, "max_sm_clock_mhz": 1980}
    with pytest.raises(NoNvml, match="NVML does not know GPU feed: Not Found"):
        find_gpu("feed", FakeNvml())
