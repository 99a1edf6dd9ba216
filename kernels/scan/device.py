"""What scan kernels call on the device: rows of channels.

A tile of tokens is kept as a tuple of rows; each row is a tensor of channels. So every thread owns whole columns, and a
scan over the tile takes one multiply-add per token without communication between threads.
"""

# Triton's tuples are not typed.
# pyright: reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, only_if

NO = tl.constexpr(False)


@triton.jit
def inside(columns, D: tl.constexpr):
    """The mask of a tile's columns that are below D. If BD divides D, the compiler knows that all of them are."""
    BD: tl.constexpr = columns.shape[0]
    if D // BD * BD != D:
        return columns < D
    return tl.full([BD], 1, tl.int1)


@triton.jit
def load_tile(base, columns, keep, tile_start, begin, end, stride, BT: tl.constexpr, WHOLE: tl.constexpr = NO):
    """Rows tile_start .. tile_start + BT of a [tokens, stride] tensor as a tuple of [BD].

    Zeros in columns that are not kept, and for tokens that are not in begin .. end; WHOLE: all of them are. tile_start
    is 64 bits wide.
    """
    first = base + tile_start * stride + columns
    rows = ()
    for i in tl.static_range(BT):
        mask = keep if WHOLE else only_if(keep, (tile_start + i >= begin) & (tile_start + i < end))
        rows = rows + (tl.load(first + i * stride, mask=mask, other=0.0),)
    return rows


@triton.jit
def store_tile(base, rows, columns, keep, tile_start, end, stride, BT: tl.constexpr, WHOLE: tl.constexpr = NO):
    """Store what load_tile loads, in the pointer's dtype."""
    first = base + tile_start * stride + columns
    for i in tl.static_range(BT):
        mask = keep if WHOLE else only_if(keep, tile_start + i < end)
        tl.store(first + i * stride, rows[i].to(base.dtype.element_ty), mask=mask)


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x) without an exponent above 0."""
    e = tl.exp2(-tl.abs(x) * LOG2E)
    return tl.where(x < 0.0, e, 1.0) / (1.0 + e)
