"""The processor's name from `/proc/cpuinfo`: on ARM, where Linux gives no name, from its identification register.

>>> name_of("CPU implementer : 0x41\\nCPU variant : 0x3\\nCPU part : 0xd0c\\nCPU revision : 1", "aarch64")
'ARM Neoverse N1 r3p1'
"""

from __future__ import annotations

import re

# Arm's Main ID Register: who made the design, and which one it is. What is not listed is told by its numbers.
_IMPLEMENTERS = {
    0x41: "ARM",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x50: "APM",
    0x51: "Qualcomm",
    0x53: "Samsung",
    0x61: "Apple",
    0x6D: "Microsoft",
    0xC0: "Ampere",
}
_PARTS = {
    (0x41, 0xD03): "Cortex-A53",
    (0x41, 0xD05): "Cortex-A55",
    (0x41, 0xD07): "Cortex-A57",
    (0x41, 0xD08): "Cortex-A72",
    (0x41, 0xD0B): "Cortex-A76",
    (0x41, 0xD0C): "Neoverse N1",
    (0x41, 0xD40): "Neoverse V1",
    (0x41, 0xD41): "Cortex-A78",
    (0x41, 0xD42): "Cortex-A78AE",
    (0x41, 0xD49): "Neoverse N2",
    (0x41, 0xD4F): "Neoverse V2",
    (0x61, 0x022): "Icestorm M1",
    (0x61, 0x023): "Firestorm M1",
}
_NAMELESS = frozenset({"", "unknown", "-"})


def name_of(cpuinfo: str, machine: str) -> str:
    """What a machine's processors are called, several kinds joined by ` + `.

    cpuinfo: the text of /proc/cpuinfo
    machine: the architecture, which is the name where the text has nothing better
    """
    kinds: dict[str, None] = {}
    for block in re.split(r"\n\s*\n", cpuinfo.strip()):
        facts = _facts(block)
        if name := _arm(facts) or _told(facts) or _x86(facts):
            kinds[name] = None
    return " + ".join(kinds) or machine or "unknown processor"


def _facts(block: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in block.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def _arm(facts: dict[str, str]) -> str:
    try:
        implementer, part, variant, revision = (
            int(facts[f"cpu {name}"], 0) for name in ("implementer", "part", "variant", "revision")
        )
    except (KeyError, ValueError):
        return ""
    maker = _IMPLEMENTERS.get(implementer, f"implementer {implementer:#04x}")
    return f"{maker} {_PARTS.get((implementer, part), f'part {part:#05x}')} r{variant}p{revision}"


def _told(facts: dict[str, str]) -> str:
    """The name that the kernel tells: on x86 and LoongArch, else POWER's, RISC-V's and s390's own field."""
    names = [facts.get(name, "") for name in ("model name", "cpu", "uarch")]
    return next((name for name in names if name.lower() not in _NAMELESS), "")


def _x86(facts: dict[str, str]) -> str:
    """Vendor, family, model and stepping, where a container or hypervisor hides the name."""
    if not facts.get("vendor_id"):
        return ""
    words = [f"{name} {facts[name]}" for name in ("cpu family", "model", "stepping") if facts.get(name)]
    return " ".join([facts["vendor_id"], *words]) if words else ""
