"""Clock events: the reasons for a GPU's present clocks, as words, and which of them spoil a sample.

A sample is spoiled by heat and by the hardware's brakes: they come and go with what ran before, and a retake helps.
It is not by the power cap: a kernel that draws all the power that the board allows meets it whenever it runs, so that
it belongs to the figure, which is then the board's and not the kernel's alone. `telemetry.events` names it.
"""

from __future__ import annotations

# The bits of nvmlDeviceGetCurrentClocksEventReasons; NVML calls them throttle reasons in older drivers.
WORDS = {
    0x001: "idle",
    0x002: "applications_clocks",
    0x004: "power_cap",
    0x008: "hw_slowdown",
    0x010: "sync_boost",
    0x020: "sw_thermal_slowdown",
    0x040: "hw_thermal_slowdown",
    0x080: "hw_power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
SPOILING = 0x008 | 0x020 | 0x040 | 0x080


def words(bits: int) -> list[str]:
    """The names of all bits that are set; a bit without one is named by its number."""
    found = [1 << i for i in range(bits.bit_length()) if bits >> i & 1]
    return [WORDS.get(bit, f"event_{bit:#x}") for bit in found]


def spoils(bits: int) -> bool:
    """Whether a sample taken under these events must be taken again."""
    return bool(bits & SPOILING)
