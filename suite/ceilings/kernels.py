"""The Triton kernels that measure a GPU's ceilings. Their results are not used."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def special_ceiling_kernel(sink, repeats, BLOCK: tl.constexpr):
    """x <- exp2(-x), `repeats` times, in registers: evaluations are programs * BLOCK * repeats.

    Grid (programs,). Each thread holds several independent chains, so that the special-function unit never waits for
    its own result. Writes BLOCK floats a program at the end, reads nothing.
    """
    x = tl.arange(0, BLOCK).to(tl.float32) / BLOCK
    for _ in range(repeats):
        x = tl.exp2(-x)
    tl.store(sink + tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), x)


@triton.jit
def read_ceiling_kernel(source, sink, tiles, repeats, BLOCK: tl.constexpr):
    """Reads one tile of BLOCK floats after another, past L1: bytes are programs * repeats * BLOCK * 4.

    Grid (programs,). `tiles` is a power of two: programs start at tiles of their own, and by steps of an odd number
    each walks round the whole buffer. Writes one float a program.
    """
    first, step = tl.program_id(0), tl.num_programs(0) | 1
    total = tl.zeros([BLOCK], tl.float32)
    for i in range(repeats):
        tile = (first + i * step) & (tiles - 1)
        total += tl.load(source + tile * BLOCK + tl.arange(0, BLOCK), cache_modifier=".cg")
    tl.store(sink + first, tl.sum(total))


@triton.jit
def empty_kernel(sink):
    """Nothing: what remains is the launch. Grid (1,)."""
