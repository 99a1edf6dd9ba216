"""What a static profile is for: telling apart kernels whose speed differs for a reason that machine code shows."""

from __future__ import annotations

import subprocess
import tempfile
from collections import Counter

import pytest
import torch

from suite.static import Launch, capture
from suite.static.binary import count_kinds, disassemble, opcodes_of
from suite.static.stub_driver import pretending, target_of
from tests.suite.static import toys

ARCHS = ("sm_80", "sm_90", "sm_100")


def one(fn, arch: str = "sm_90") -> Launch:
    (launch,) = capture(fn, arch)
    assert launch.binary is not None
    return launch


@pytest.mark.parametrize("arch", ARCHS)
def test_counts_of_a_copy_agree_with_its_reading(arch: str) -> None:
    """128 threads copy 512 floats: a thread loads 16 bytes by one instruction and stores them by one."""
    binary = one(toys.copy, arch).binary
    assert binary
    assert {kind: n for kind, n in binary.mix.items() if n} == {"ldg_128": 1, "stg_128": 1}
    assert (binary.stack_bytes, binary.spill_bytes, binary.tensor_path) == (0, 0, "none")


def test_scalar_loads_are_seen() -> None:
    """Every second element: nothing to merge, so the four elements of a thread are loaded one by one."""
    binary = one(lambda: toys.copy(stride=2)).binary
    assert binary
    assert {kind: n for kind, n in binary.mix.items() if n} == {"ldg_32": 4, "stg_32": 4}


def test_loads_of_half_a_width() -> None:
    """256 bfloat16 over 128 threads: two of them, 4 bytes, a thread."""
    binary = one(lambda: toys.copy(2 * toys.THREADS, dtype=torch.bfloat16)).binary
    assert binary
    assert (binary.mix["ldg_32"], binary.mix["ldg_128"]) == (1, 0)


def test_special_functions_are_counted() -> None:
    def host() -> None:
        toys.exp2_kernel[(1,)](toys.meta(512), toys.meta(512), 512, num_warps=4)

    binary = one(host).binary
    assert binary
    assert binary.mix["mufu"] == 4


@pytest.mark.parametrize(("arch", "path"), [("sm_80", "hmma"), ("sm_90", "hgmma"), ("sm_100", "utchmma")])
def test_tensor_cores_of_each_architecture(arch: str, path: str) -> None:
    binary = one(toys.dot, arch).binary
    assert binary
    assert binary.tensor_path == path
    assert binary.mix[path] > 0


def test_too_few_warps_lose_wgmma() -> None:
    """WGMMA needs a group of four warps: with two, Hopper falls back to the instruction of Ampere."""
    binary = one(lambda: toys.dot(warps=2)).binary
    assert binary
    assert (binary.tensor_path, binary.mix["hgmma"]) == ("hmma", 0)


def test_ieee_products_use_no_tensor_cores() -> None:
    """A thread of 128 does 32 x 32 x 32 / 128 multiply-adds."""
    binary = one(lambda: toys.dot(32, 32, 32, torch.float32, "ieee")).binary
    assert binary
    assert (binary.tensor_path, binary.mix["ffma"]) == ("none", 32 * 32 * 32 // 128)


def test_a_spilling_kernel() -> None:
    binary = one(toys.spilling).binary
    assert binary
    assert binary.registers == 255
    assert binary.spill_store_bytes > 0
    assert binary.spill_load_bytes > 0
    assert binary.mix["stl"] > 0
    assert binary.mix["ldl"] > 0


@pytest.mark.parametrize("arch", ARCHS)
def test_a_local_array_is_no_spill(arch: str) -> None:
    """The program asks for an array of 64 bytes: local memory is used, and nothing is spilled."""
    binary = one(toys.local_array, arch).binary
    assert binary
    assert (binary.stack_bytes, binary.mix["stl"], binary.mix["ldl"]) == (64, 1, 1)
    assert binary.spill_bytes == 0


def test_over_the_limit_says_by_how_much() -> None:
    launch = one(lambda: toys.dot(256, 128, 512))
    needed = (256 + 128) * 512 * 2
    assert launch.status == "over_limit"
    assert launch.shared_bytes == needed
    assert f"{needed - 227 * 1024} more than the {227 * 1024} of sm_90" in launch.reason
    assert launch.residency
    assert (launch.residency.blocks, launch.residency.waves) == (0, None)


def test_the_limit_is_the_architectures() -> None:
    """192 KiB fit a Hopper block and no Ampere block."""
    statuses = {arch: one(lambda: toys.dot(128, 64, 512), arch).status for arch in ("sm_80", "sm_90")}
    assert statuses == {"sm_80": "over_limit", "sm_90": "ok"}


def test_disassembly_agrees_with_the_other_disassembler() -> None:
    """cuobjdump's listing, as it is parsed here, against nvdisasm's of the same binary."""
    from triton import knobs
    from triton.runtime.jit import JITFunction

    kept: list[bytes] = []
    compile_ = JITFunction.run

    def keep(self, *args, **kwargs):
        kernel = compile_(self, *args, **kwargs)
        kept.append(kernel.asm["cubin"])
        return kernel

    with pytest.MonkeyPatch.context() as patch, pretending(target_of("sm_90")):
        patch.setattr(JITFunction, "run", keep)
        capture(toys.spilling, "sm_90")
        registers, _, opcodes = disassemble(kept[0])
        with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
            file.write(kept[0])
            file.flush()
            command = [knobs.nvidia.nvdisasm.path, "-c", file.name]
            listing = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    lines = [line.split(";")[0].split()[1:] for line in listing.splitlines() if line.lstrip().startswith("/*")]
    names = Counter(next(word for word in words if word[0] not in "@{") for words in lines if words)
    del names["NOP"]
    assert names.total() > 1000
    assert opcodes == names
    assert registers == 255


def test_a_listing_is_read_line_by_line() -> None:
    """Predicates, uniform predicates, addresses of more than four digits, and lines that hold only encodings."""
    listing = """
        .headerflags    @"EF_CUDA_SM90"
        /*0000*/                   LDC R1, c[0x0][0x28] ;               /* 0x00000a00ff017b82 */
                                                                        /* 0x000e620000000800 */
        /*0010*/              @!P0 LDG.E.128 R4, desc[UR4][R2.64] ;     /* 0x0000000402048981 */
        /*fff0*/             @!UP1 UTMALDG.2D [UR8], [UR4] ;            /* 0x00000008040075b4 */
        /*10000*/                  HGMMA.64x64x16.F32.BF16 R24, gdesc ; /* 0x00e0000004187df0 */
        /*1a2b0*/              @P3 BRA 0x1a2b0 ;                        /* 0xfffffffc00fc7947 */
        /*1a2c0*/                  NOP ;                                /* 0x0000000000007918 */
    """
    expected = ["LDC", "LDG.E.128", "UTMALDG.2D", "HGMMA.64x64x16.F32.BF16", "BRA"]
    assert opcodes_of(listing) == Counter(expected)


def test_kinds_by_opcode() -> None:
    opcodes = {
        "HGMMA.64x64x16.F32.BF16": 2,
        "UTCHMMA.2CTA": 1,
        "HMMA.16816.F32.BF16": 3,
        "LDG.E.128.CONSTANT": 1,
        "LDG.E.U8": 1,
        "LDG.E.64": 1,
        "LDG.E": 1,
        "LDGSTS.E.BYPASS.128": 1,
        "STG.E.U16": 1,
        "UTMALDG.2D": 1,
        "BAR.SYNC.DEFER_BLOCKING": 1,
        "MUFU.EX2": 1,
        "FFMA": 1,
        "FFMA2": 1,
        "IMAD.MOV.U32": 9,
        "LDGDEPBAR": 4,
    }
    assert {kind: n for kind, n in count_kinds(Counter(opcodes)).items() if n} == {
        "hgmma": 2,
        "utchmma": 1,
        "hmma": 3,
        "ldg_128": 1,
        "ldg_8": 1,
        "ldg_64": 1,
        "ldg_32": 1,
        "ldgsts": 1,
        "stg_16": 1,
        "tma": 1,
        "bar": 1,
        "mufu": 1,
        "ffma": 2,
    }
