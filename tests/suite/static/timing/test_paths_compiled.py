"""The way of a warp through compiled kernels: how often an exponential is executed that stands in a loop once."""

from __future__ import annotations

import re
import subprocess
import tempfile
from functools import lru_cache
from typing import Any

import pytest
import torch
import triton
import triton.language as tl

from suite.cachefolder import cache_folder
from suite.static.timing.constants import SPAN, Bank, bank, parameters
from suite.static.timing.paths import Paths, UnknownPath
from suite.static.timing.sass import Instruction, decode

# One architecture in the quick tests, where compiling takes most of the time.
ARCHS = (pytest.param("sm_80", marks=pytest.mark.long), "sm_90", pytest.param("sm_100", marks=pytest.mark.long))
WARPS = 4


@triton.jit
def bound_kernel(x, n):
    a = tl.load(x + tl.arange(0, 128))
    for _ in range(n):
        a = tl.exp2(a) + 1.0
    tl.store(x + tl.arange(0, 128), a)


@triton.jit
def long_bound_kernel(x, first, last):
    a = tl.load(x + tl.arange(0, 128))
    i = first
    while i < last:
        a = tl.exp2(a) + 1.0
        i += 1 << 20
    tl.store(x + tl.arange(0, 128), a)


@triton.jit
def strided_kernel(x, n, step):
    a = tl.load(x + tl.arange(0, 128))
    for _ in range(tl.program_id(0) + 2 * tl.program_id(1), n, step):
        a = tl.exp2(a) + 1.0
    tl.store(x + tl.arange(0, 128), a)


@triton.jit
def causal_kernel(x, T, BM: tl.constexpr, BN: tl.constexpr):
    p = tl.program_id(0)
    a = tl.load(x + tl.arange(0, 128))
    for _ in range(0, min((p + 1) * BM, T), BN):
        a = tl.exp2(a) + 1.0
    tl.store(x + p * 128 + tl.arange(0, 128), a)


@triton.jit
def nested_kernel(x, n):
    a = tl.load(x + tl.arange(0, 128))
    for i in range(n):
        for _ in range(i):
            a = tl.exp2(a) + 1.0
            a = a * 0.5
    tl.store(x + tl.arange(0, 128), a)


@triton.jit
def divisor_kernel(x, n, d):
    a = tl.load(x + tl.arange(0, 128))
    while d != 0:
        n, d = d, n % d
        a = tl.exp2(a) + 1.0
    tl.store(x + tl.arange(0, 128), a)


@triton.jit
def quotient_kernel(x, n, d):
    p = tl.program_id(0)
    a = tl.load(x + tl.arange(0, 128))
    for _ in range((n + d - 1) // d + p % d):
        a = tl.exp2(a) + 1.0
    tl.store(x + tl.arange(0, 128), a)


@triton.jit
def unrolled_kernel(x, n):
    a = tl.load(x + tl.arange(0, 128))
    for _ in tl.range(n, loop_unroll_factor=4):
        a = tl.exp2(a) + 1.0
    tl.store(x + tl.arange(0, 128), a)


@triton.jit
def early_kernel(x, n):
    p = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    if p >= n:
        return
    a = tl.load(x + tl.arange(0, 128))
    if p % 3 == 1:
        a = tl.exp2(a) + 1.0
    tl.store(x + tl.arange(0, 128), a)


@triton.jit
def loaded_kernel(x, bounds):
    p = tl.program_id(0)
    a = tl.load(x + tl.arange(0, 128))
    for _ in range(tl.load(bounds + p), tl.load(bounds + p + 1)):
        a = tl.exp2(a) + 1.0
    tl.store(x + tl.arange(0, 128), a)


class Compiled:
    """A kernel for one architecture."""

    def __init__(self, kernel: Any, arch: str, signature: dict[str, str], **values: int) -> None:
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource

        self.arch, self.signature = arch, signature | dict.fromkeys(values, "constexpr")
        target = GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)
        source = ASTSource(kernel, self.signature, values)
        with triton.knobs.cache.scope():
            triton.knobs.cache.dir = str(cache_folder() / "triton")
            self.kernel = triton.compile(source, target=target, options={"num_warps": WARPS})
        self.code: list[Instruction] = decode(_dumped(self.kernel.asm["cubin"], "-sass"))
        # The compiler unrolls a loop, and what is over may be executed on a condition of its own.
        self.paths = Paths(self.code, [at for at, each in enumerate(self.code) if each.opcode == "MUFU.EX2"])

    def bank(self, grid: tuple[int, int, int], **arguments: Any) -> Bank:
        return bank(self.arch, self.kernel.asm["ptx"], self.kernel.src.signature, arguments, grid, WARPS)

    def count(
        self, ctaid: tuple[int, int, int] = (0, 0, 0), grid: tuple[int, int, int] = (8, 4, 1), **arguments: Any
    ) -> int:
        """Exponentials that the first and the last warp of a program execute, which are as many."""
        memory = arguments.pop("memory", None)
        values = self.bank(grid, x=torch.empty(0), **arguments)
        first, last = (self.paths.counted(values, ctaid, warp, memory) for warp in (0, WARPS - 1))
        assert first == last
        assert first[0] == self.paths.trace(values, ctaid, 0, memory)
        return sum(first[1].values())


@lru_cache
def compiled(name: str, arch: str, types: str, **values: int) -> Compiled:
    signature = dict(each.split(":") for each in types.split())
    return Compiled(globals()[name], arch, signature, **values)


@pytest.fixture(params=ARCHS)
def arch(request: pytest.FixtureRequest) -> str:
    return request.param


def test_a_bound_that_is_an_argument(arch: str) -> None:
    made = compiled("bound_kernel", arch, "x:*fp32 n:i32")
    assert [made.count(n=n) for n in (-3, 0, 1, 2, 3, 4, 5, 16, 17, 1000)] == [0, 0, 1, 2, 3, 4, 5, 16, 17, 1000]
    assert not made.paths.depends_on & {"ctaid.x", "ctaid.y", "ctaid.z"}


def test_a_bound_of_64_bits(arch: str) -> None:
    made = compiled("long_bound_kernel", arch, "x:*fp32 first:i64 last:i64")
    big = 1 << 40
    for first, last in ((-(1 << 33), 1 << 33), (big - 1, big + 1), (5, 4), (-5, -4), ((1 << 32) - 1, 1 << 32)):
        assert made.count(first=first, last=last) == len(range(first, last, 1 << 20))


def test_the_place_in_the_grid_bounds_a_loop(arch: str) -> None:
    made = compiled("strided_kernel", arch, "x:*fp32 n:i32 step:i32")
    for x, y, n, step in ((0, 0, 17, 3), (5, 3, 17, 1), (7, 0, 5, 1), (1, 1, 100, 7)):
        assert made.count(ctaid=(x, y, 0), n=n, step=step) == len(range(x + 2 * y, n, step))
    assert made.paths.depends_on >= {"ctaid.x", "ctaid.y"}


def test_a_causal_bound(arch: str) -> None:
    made = compiled("causal_kernel", arch, "x:*fp32 T:i32", BM=128, BN=64)
    assert [made.count(ctaid=(p, 0, 0), T=1000) for p in (0, 1, 6, 7)] == [2, 4, 14, 16]


def test_a_loop_in_a_loop(arch: str) -> None:
    made = compiled("nested_kernel", arch, "x:*fp32 n:i32")
    assert [made.count(n=n) for n in (0, 1, 2, 7, 20)] == [n * (n - 1) // 2 for n in (0, 1, 2, 7, 20)]


def test_a_loop_that_the_compiler_unrolls(arch: str) -> None:
    made = compiled("unrolled_kernel", arch, "x:*fp32 n:i32")
    assert [made.count(n=n) for n in (0, 1, 3, 4, 5, 63)] == [0, 1, 3, 4, 5, 63]


def euclid(n: int, d: int) -> int:
    """Steps of Euclid's algorithm."""
    return 0 if d == 0 else 1 + euclid(d, n % d)


def test_a_while_loop_with_a_division_in_it(arch: str) -> None:
    made = compiled("divisor_kernel", arch, "x:*fp32 n:i32 d:i32")
    for n, d in ((832040, 514229), (1 << 30, 3), (17, 17), (5, 0), (2147483647, 46341)):
        assert made.count(n=n, d=d) == euclid(n, d)


def test_a_bound_that_is_a_quotient(arch: str) -> None:
    made = compiled("quotient_kernel", arch, "x:*fp32 n:i32 d:i32")
    for p, n, d in ((0, 100, 7), (5, 64, 3), (0, 1, 1000), (2, 1000, 128)):
        assert made.count(ctaid=(p, 0, 0), n=n, d=d) == -(-n // d) + p % d


def test_a_quotient_of_64_bits(arch: str) -> None:
    """The compiler calls a subroutine where the upper halves are not zero."""
    made = compiled("quotient_kernel", arch, "x:*fp32 n:i64 d:i64")
    for n, d in ((100, 7), (1 << 50, (1 << 44) + 1), ((1 << 62) - 1, 1 << 56), (1 << 33, (1 << 32) - 1)):
        assert made.count(n=n, d=d) == -(-n // d)


def test_programs_that_end_early(arch: str) -> None:
    made = compiled("early_kernel", arch, "x:*fp32 n:i32")
    found = [made.count(ctaid=(x, y, 0), grid=(4, 2, 1), n=6) for x in range(4) for y in range(2)]
    assert found == [0, 1, 0, 0, 1, 0, 0, 0]


@pytest.mark.parametrize("width", [32, 64])
def test_bounds_that_are_loaded(arch: str, width: int) -> None:
    made = compiled("loaded_kernel", arch, f"x:*fp32 bounds:*i{width}")
    arguments = {"bounds": torch.empty(0)}
    with pytest.raises(UnknownPath, match=r"LDG.*depends on data"):
        made.count(**arguments)
    held = b"".join(value.to_bytes(width // 8, "little") for value in (0, 5, 12, 12, 40))
    start = made.bank((8, 1, 1), x=torch.empty(0), **arguments).pointers["bounds"]

    def memory(address: int, size: int) -> int | None:
        at = address - start
        return int.from_bytes(held[at : at + size], "little") if 0 <= at < len(held) else None

    assert [made.count(ctaid=(p, 0, 0), memory=memory, **arguments) for p in range(4)] == [5, 7, 0, 28]


def test_parameters_are_where_the_binary_says(arch: str) -> None:
    made = compiled("long_bound_kernel", arch, "x:*fp32 first:i64 last:i64")
    told = _parameters_of(made.kernel.asm["cubin"])
    start = {"sm_80": 0x160, "sm_90": 0x210, "sm_100": 0x380}[arch]
    assert told == parameters(made.kernel.asm["ptx"], start)
    values = made.bank((3, 4, 5), x=torch.empty(0), first=-2, last=1 << 40)
    words = [values.word(0, start + at) for at in range(0, 24, 4)]
    assert words == [0, SPAN >> 32, 0xFFFFFFFE, 0xFFFFFFFF, 0, 1 << 8]
    assert [values.word(0, told[-1][0] + at) for at in (0, 4, 8)] == [0, 0, None]
    assert values.word(3, 0) is None


def _parameters_of(cubin: bytes) -> list[tuple[int, int]]:
    """(offset in the bank, bytes) of a binary's parameters, as its own table has them."""
    text = _dumped(cubin, "-elf")
    begins = re.search(r"EIATTR_PARAM_CBANK.*?Value:\s*0x\w+ 0x(\w+?)(\w{4})\s", text, re.DOTALL)
    assert begins is not None
    found = re.findall(r"Ordinal : 0x(\w+)\s+Offset\s+: 0x(\w+)\s+Size\s+: 0x(\w+)", text)
    ordered = sorted(tuple(int(each, 16) for each in row) for row in found)
    return [(int(begins[2], 16) + offset, size) for _, offset, size in ordered]


def _dumped(cubin: bytes, what: str) -> str:
    """What cuobjdump shows of a binary."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, what, file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
