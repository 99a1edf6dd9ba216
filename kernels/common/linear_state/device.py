"""What the kernels of this folder call on the device: where a program works, tiles of tokens, tiles of state, phi."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def locate(T, segment, segments, cu_seqlens, SLICES: tl.constexpr, HS: tl.constexpr):
    """A program's (slice, head, sequence, segment, slot of the segment's state, first token, end, end of the sequence).

    Slices are neighbours in the grid, so that the tiles they share come from L2. Packed sequences differ in length, and
    their slots follow from their offsets: segments of all sequences fit in ceil(T / segment) + N slots without a table.
    """
    pid = tl.program_id(0)
    part = pid % SLICES
    head = pid // SLICES % HS
    order = pid // (SLICES * HS) % segments
    sequence = (pid // (SLICES * HS) // segments).to(tl.int64)
    if cu_seqlens is None:
        first = sequence * T
        end = first + T
        slot = sequence * segments + order
    else:
        first = tl.load(cu_seqlens + sequence).to(tl.int64)
        end = tl.load(cu_seqlens + sequence + 1).to(tl.int64)
        slot = first // segment + sequence + order
    low = first + order.to(tl.int64) * segment
    return part, head, sequence, order, slot, low, tl.minimum(low + segment, end), end


@triton.jit
def load_rows(base, stride: tl.constexpr, keep, start, BT: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    """Columns start .. start + BD of BT rows [BT, BD]; zero where a row is not kept or a column is not below D."""
    columns = start + tl.arange(0, BD)
    mask = keep[:, None]
    if D % BD:
        mask = mask & (columns < D)[None, :]
    return tl.load(base + tl.arange(0, BT)[:, None] * stride + columns[None, :], mask=mask, other=0.0)


@triton.jit
def store_rows(base, x, stride: tl.constexpr, keep, start, BT: tl.constexpr, D: tl.constexpr, BD: tl.constexpr):
    """The inverse of load_rows, in the pointer's dtype."""
    columns = start + tl.arange(0, BD)
    mask = keep[:, None]
    if D % BD:
        mask = mask & (columns < D)[None, :]
    x = x.to(base.dtype.element_ty)
    tl.store(base + tl.arange(0, BT)[:, None] * stride + columns[None, :], x, mask=mask)


@triton.jit
def load_state(base, index, k, v, K: tl.constexpr, V: tl.constexpr, SIZE: tl.constexpr):
    """Elements (k, v), broadcast against each other, of state number `index`, fp32; states lie SIZE elements apart."""
    return tl.load(base + index * SIZE + k * V + v, mask=(k < K) & (v < V), other=0.0).to(tl.float32)


@triton.jit
def store_state(base, index, x, k, v, K: tl.constexpr, V: tl.constexpr, SIZE: tl.constexpr):
    """The inverse of load_state, in the pointer's dtype."""
    tl.store(base + index * SIZE + k * V + v, x.to(base.dtype.element_ty), mask=(k < K) & (v < V))


@triton.jit
def load_normaliser(base, index, k, K: tl.constexpr, SIZE: tl.constexpr):
    """Elements k of normaliser z number `index`, fp32; normalisers lie SIZE elements apart."""
    return tl.load(base + index * SIZE + k, mask=k < K, other=0.0).to(tl.float32)


@triton.jit
def store_normaliser(base, index, z, k, K: tl.constexpr, SIZE: tl.constexpr):
    """The inverse of load_normaliser, in the pointer's dtype."""
    tl.store(base + index * SIZE + k, z.to(base.dtype.element_ty), mask=k < K)


@triton.jit
def features(x, keep, start, D: tl.constexpr, BD: tl.constexpr, MAP: tl.constexpr):
    """phi(x) in x's dtype, zero outside of the kept rows and the D columns."""
    wide = x.to(tl.float32)
    if MAP == "relu":
        # Not maximum: it would turn a NaN into 0.
        x = tl.where(wide < 0.0, 0.0, wide).to(x.dtype)
    if MAP == "elu1":
        wide = tl.where(wide > 0.0, wide + 1.0, tl.exp(wide))
        # phi(0) is 1 here, so what a masked load filled with zeros has to be cleared.
        mask = keep[:, None]
        if D % BD:
            mask = mask & (start + tl.arange(0, BD) < D)[None, :]
        x = tl.where(mask, wide, 0.0).to(x.dtype)
    return x


@triton.jit
def slope(x, MAP: tl.constexpr):
    """phi'(x) in fp32; 0 at x = 0 for relu, as PyTorch has it."""
    x = x.to(tl.float32)
    if MAP == "relu":
        return tl.where(x > 0.0, 1.0, 0.0)
    return tl.where(x > 0.0, 1.0, tl.exp(x))


@triton.jit
def times_state(x, X, PRECISION: tl.constexpr):
    """x X in fp32, for rows x [BT, D] and a state X [D, W] that is rounded to x's dtype."""
    if x.dtype == tl.float16:
        # fp16 ends at 65504 and loses digits below 6e-5: a state, or its gradient, can pass both on a long sequence.
        largest = tl.max(tl.max(tl.abs(X), 1), 0)
        largest = tl.where(largest > 0.0, largest, 1.0)
        y = tl.dot(x, (X / largest).to(tl.float16), input_precision=PRECISION) * largest
    else:
        y = tl.dot(x, X.to(x.dtype), input_precision=PRECISION)
    return y
