"""Processors' names, from what /proc/cpuinfo says on real machines."""

from __future__ import annotations

import pytest

from suite.hardware.processors import name_of


def arm(implementer: str, part: str, variant: str, revision: str, before: str = "") -> str:
    return (
        f"processor\t: 0\n{before}BogoMIPS\t: 243.75\nFeatures\t: fp asimd\nCPU implementer\t: {implementer}\n"
        f"CPU architecture: 8\nCPU variant\t: {variant}\nCPU part\t: {part}\nCPU revision\t: {revision}\n\n"
    )


GRAVITON2 = arm("0x41", "0xd0c", "0x3", "1")
GRAVITON3 = arm("0x41", "0xd40", "0x1", "1")
GRAVITON4 = arm("0x41", "0xd4f", "0x0", "1")
GRACE = arm("0x41", "0xd4f", "0x0", "0")
ALTRA = GRAVITON2
AMPERE_ONE = arm("0xc0", "0xac3", "0x0", "0")
M1 = arm("0x61", "0x022", "0x1", "1") * 4 + arm("0x61", "0x023", "0x1", "1") * 4
RASPBERRY = (
    arm("0x41", "0xd08", "0x0", "3") * 4 + "Revision\t: c03111\nSerial\t: 1\nModel\t: Raspberry Pi 4 Model B Rev 1.1\n"
)
RASPBERRY_32 = arm("0x41", "0xd08", "0x0", "3", "model name\t: ARMv7 Processor rev 3 (v7l)\n") + "Hardware\t: BCM2711\n"
JETSON = arm("0x4e", "0x004", "0x0", "0", "model name\t: ARMv8 Processor rev 0 (v8l)\n")
XEON = (
    "processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 85\n"
    "model name\t: Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz\nstepping\t: 7\ncpu MHz\t\t: 3000\n\n"
)
EPYC = XEON.replace("GenuineIntel", "AuthenticAMD").replace(
    "Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", "AMD EPYC 7R13 Processor"
)
HIDDEN = XEON.replace("Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz", "unknown")
NAMELESS = "".join(line for line in XEON.splitlines(keepends=True) if "model name" not in line)


@pytest.mark.parametrize(
    ("cpuinfo", "machine", "name"),
    [
        (GRAVITON2, "aarch64", "ARM Neoverse N1 r3p1"),
        (GRAVITON3, "aarch64", "ARM Neoverse V1 r1p1"),
        (GRAVITON4, "aarch64", "ARM Neoverse V2 r0p1"),
        (GRACE * 72, "aarch64", "ARM Neoverse V2 r0p0"),
        (AMPERE_ONE, "aarch64", "Ampere part 0xac3 r0p0"),
        (M1, "aarch64", "Apple Icestorm M1 r1p1 + Apple Firestorm M1 r1p1"),
        (RASPBERRY, "aarch64", "ARM Cortex-A72 r0p3"),
        (RASPBERRY_32, "armv7l", "ARM Cortex-A72 r0p3"),
        (JETSON, "aarch64", "NVIDIA part 0x004 r0p0"),
        (arm("0x99", "0x1", "0x2", "3"), "aarch64", "implementer 0x99 part 0x001 r2p3"),
        (arm("what", "0x1", "0x2", "3"), "aarch64", "aarch64"),
        (XEON * 2, "x86_64", "Intel(R) Xeon(R) Platinum 8275CL CPU @ 3.00GHz"),
        (EPYC, "x86_64", "AMD EPYC 7R13 Processor"),
        (HIDDEN, "x86_64", "GenuineIntel cpu family 6 model 85 stepping 7"),
        (NAMELESS, "x86_64", "GenuineIntel cpu family 6 model 85 stepping 7"),
        ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", "ppc64le", "POWER9, altivec supported"),
        ("processor\t: 0\nhart\t: 1\nisa\t: rv64imafdc\nuarch\t: sifive,u74-mc\n", "riscv64", "sifive,u74-mc"),
        ("vendor_id : IBM/S390\nprocessor 0: version = FF\n", "s390x", "s390x"),
        ("system type : x\n\nModel Name\t: Loongson-3A5000\n", "loongarch64", "Loongson-3A5000"),
        ("", "x86_64", "x86_64"),
        ("", "", "unknown processor"),
    ],
)
def test_names(cpuinfo: str, machine: str, name: str) -> None:
    assert name_of(cpuinfo, machine) == name
