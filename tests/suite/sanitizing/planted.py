"""Kernels with a planted fault each, and one without; lines that a finding must name end in a comment `here`."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def clean_kernel(x, o, N, B: tl.constexpr):
    offsets = tl.program_id(0) * B + tl.arange(0, B)
    b_x = tl.load(x + offsets, mask=offsets < N)
    tl.store(o + offsets, tl.where(offsets < N, b_x, 0.0) * 2.0, mask=offsets < N)


@triton.jit
def reads_outside_kernel(x, o, N, B: tl.constexpr):
    offsets = tl.program_id(0) * B + tl.arange(0, B)
    b_x = tl.load(x + offsets)  # here
    tl.store(o + offsets, b_x, mask=offsets < N)


@triton.jit
def save(pointers, x):
    tl.store(pointers, x)  # here


@triton.jit
def writes_outside_kernel(x, o, N, B: tl.constexpr):
    offsets = tl.program_id(0) * B + tl.arange(0, B)
    save(o + offsets - 1, tl.load(x + offsets, mask=offsets < N, other=0.0))


@triton.jit
def reads_either_kernel(x, o, N, B: tl.constexpr):
    offsets = tl.arange(0, B)
    pointers = tl.where(offsets % 2 == 0, x + offsets, o + offsets)
    tl.store(o + offsets, tl.load(pointers, mask=offsets < N), mask=offsets < N)


@triton.jit
def reads_gap_kernel(parts, N, B: tl.constexpr):
    offsets = tl.arange(0, B)
    x, o = parts
    tl.store(o + offsets, tl.load(x + offsets, mask=offsets < N), mask=offsets < N)  # here


@triton.jit
def races_kernel(x, o, B: tl.constexpr):
    offsets = tl.arange(0, B)
    b_x = tl.load(o + tl.program_id(0) * B + offsets)  # here
    tl.store(o + (tl.program_id(0) + 1) * B + offsets, b_x + tl.load(x + offsets))


@triton.jit
def same_values_kernel(o, B: tl.constexpr):
    tl.store(o + tl.arange(0, B), 1.0)


@triton.jit
def reverses_kernel(o, B: tl.constexpr, WAITS: tl.constexpr):
    offsets = tl.arange(0, B)
    tl.store(o + offsets, offsets.to(tl.float32))
    if WAITS:
        tl.debug_barrier()
    b_o = tl.load(o + (B - 1) - offsets)  # here
    if WAITS:
        tl.debug_barrier()
    tl.store(o + offsets, b_o)


@triton.jit
def in_place_kernel(o, B: tl.constexpr):
    offsets = tl.arange(0, B)
    tl.store(o + offsets, tl.load(o + offsets) * 2.0)  # here


@triton.jit
def leaks_kernel(x, o, N, B: tl.constexpr):
    offsets = tl.arange(0, B)
    b_x = tl.load(x + offsets, mask=offsets < N)  # here
    tl.store(o, tl.sum(b_x, 0))


@triton.jit
def leaks_index_kernel(x, index, o, N, B: tl.constexpr):
    offsets = tl.arange(0, B)
    at = tl.load(index + offsets, mask=offsets < N)
    tl.store(o + offsets, tl.load(x + at), mask=offsets < N)  # here


@triton.jit
def ordered_kernel(x, o):
    tl.atomic_add(o, tl.load(x + tl.program_id(0)))


@triton.jit
def described_kernel(x, o, START: tl.constexpr, COLUMN: tl.constexpr, B: tl.constexpr):
    of_x = tl.make_tensor_descriptor(x + START, shape=[B, B], strides=[B, 1], block_shape=[B, B])  # base
    tl.store(o + tl.arange(0, B), tl.sum(of_x.load([0, COLUMN]), 0))  # block


@triton.jit
def overflows_kernel(x, o, ROW: tl.constexpr, WIDE: tl.constexpr, B: tl.constexpr):
    row = tl.program_id(0)
    if WIDE:
        row = row.to(tl.int64)
    offset = row * ROW  # here
    tl.store(o + offset + tl.arange(0, B), tl.load(x + offset + tl.arange(0, B)))


@triton.jit
def overflows_in_loop_kernel(x, o, T, ROW: tl.constexpr, B: tl.constexpr):
    for t in tl.range(0, T, 1024):
        offset = t * ROW  # here
        tl.store(o + offset + tl.arange(0, B), tl.load(x + offset + tl.arange(0, B)))


@triton.jit
def leaks_into_maximum_kernel(x, o, N, B: tl.constexpr):
    offsets = tl.arange(0, B)
    b_x = tl.load(x + offsets, mask=offsets < N)  # here
    tl.store(o, tl.max(b_x, 0))


@triton.jit
def counts_leaks_kernel(x, o, N, B: tl.constexpr):
    offsets = tl.arange(0, B)
    b_x = tl.load(x + offsets, mask=offsets < N)  # here
    tl.store(o, tl.sum(tl.where(b_x > 2.0, 1.0, 0.0), 0))


@triton.jit
def scalar_with_other_kernel(x, o, N):
    tl.store(o, tl.load(x, mask=N > 100, other=0.0) + 1.0)


@triton.jit
def stores_then_adds_kernel(o, B: tl.constexpr, WAITS: tl.constexpr):
    offsets = tl.arange(0, B)
    tl.store(o + offsets, 1.0)
    if WAITS:
        tl.debug_barrier()
    tl.atomic_add(o + (B - 1) - offsets, 1.0)  # here


@triton.jit
def adds_then_reads_kernel(o, out):
    tl.atomic_add(o, 1.0)
    if tl.program_id(0) == 1:
        tl.store(out, tl.load(o))  # here


@triton.jit
def adds_kernel(x, o, B: tl.constexpr):
    offsets = tl.arange(0, B)
    tl.atomic_add(o + offsets, tl.load(x + offsets))


@triton.jit
def stores_twice_kernel(o, B: tl.constexpr):
    offsets = tl.arange(0, B)
    tl.store(o + offsets // 2, offsets.to(tl.float32))  # here
