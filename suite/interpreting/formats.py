"""bfloat16 and TF32 as float32 arrays: the values that the format can represent, and how a GPU rounds to them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_HALF = np.uint32(16)
_KEPT_BF16 = np.uint32(0xFFFF0000)
_KEPT_TF32 = np.uint32(0xFFFFE000)


def nearest_bf16(x: Array) -> Array:
    """The nearest bfloat16 values, ties to even, as a new float32 array. Rounds once, also from float64."""
    rounded = _new_float32(x)
    nan = np.isnan(rounded)
    bits = rounded.view(np.uint32)
    bits += ((bits >> _HALF) & np.uint32(1)) + np.uint32(0x7FFF)
    bits &= _KEPT_BF16
    rounded[nan] = np.nan
    return rounded


def toward_zero_bf16(x: Array) -> Array:
    """The bfloat16 values next to x toward zero, as a new float32 array."""
    return _cut(x, _KEPT_BF16)


def bits_of_bf16(x: Array) -> Array:
    """The 16 bits of each bfloat16, from the float32 array that holds them."""
    return (nearest_bf16(x).view(np.uint32) >> _HALF).astype(np.uint16)


def bf16_of_bits(bits: Array) -> Array:
    """The float32 array that holds the bfloat16 values of 16 bits each."""
    return (np.asarray(bits).view(np.uint16).astype(np.uint32) << _HALF).view(np.float32)


def fused_bf16(x: Array, y: Array, z: Array) -> Array:
    """x * y + z of bfloat16 values, rounded once."""
    # Of 8 bits each, so exact.
    product, other = x.astype(np.float64) * y, z.astype(np.float64)
    with np.errstate(invalid="ignore"):
        total = np.asarray(product + other)
        back = total - product
        error = (product - (total - back)) + (other - back)
    return nearest_bf16(_odd(total, np.sign(error), np.uint64))


def cut_tf32(x: Array) -> Array:
    """float32 as tensor cores read it in TF32: with the first 10 of 23 mantissa bits."""
    return _cut(x, _KEPT_TF32)


def nearest_tf32(x: Array) -> Array:
    """The nearest TF32 values, ties away from zero: PTX's cvt.rna.tf32.f32."""
    rounded = _new_float32(x)
    nan = np.isnan(rounded)
    bits = rounded.view(np.uint32)
    bits += np.uint32(0x1000)
    bits &= _KEPT_TF32
    rounded[nan] = np.nan
    return rounded


def _cut(x: Array, kept: np.uint32) -> Array:
    rest = _new_float32(x)
    nan = np.isnan(rest)
    bits = rest.view(np.uint32)
    bits &= kept
    rest[nan] = np.nan
    return rest


def _new_float32(x: Array) -> Array:
    """A copy as float32; from float64 rounded to odd, so that rounding it again rounds the exact value."""
    if np.asarray(x).dtype != np.float64:
        return np.array(x, dtype=np.float32, order="C")
    with np.errstate(over="ignore", invalid="ignore"):
        near = np.array(x, dtype=np.float32, order="C")
        side = np.sign(x - near.astype(np.float64))
    return _odd(near, side, np.uint32)


def _odd(near: Array, side: Array, unsigned: type[np.unsignedinteger[Any]]) -> Array:
    """Rounded to odd: where the exact value lies to one side of an even `near`, the odd neighbour on that side."""
    even = (near.view(unsigned) & unsigned(1)) == 0
    moves = even & (side != 0) & ~np.isnan(side)
    if not moves.any():
        return near
    return np.where(
        moves, np.nextafter(near, np.where(side > 0, near.dtype.type(np.inf), -near.dtype.type(np.inf))), near
    )
