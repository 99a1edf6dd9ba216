"""S4D's change of layout: tokens of a channel side by side, as products over chunks read them, and back."""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import locate
from kernels.scan.s4d.device import first_chunk


@triton.jit(do_not_specialize=["T"])
def s4d_turn_kernel(
    x,
    turned,
    cu_seqlens,
    T,
    tiles,
    width,
    D: tl.constexpr,
    L: tl.constexpr,
    BT: tl.constexpr,
    BD: tl.constexpr,
    BLOCKS: tl.constexpr,
    BACK: tl.constexpr,
):
    """x [B, T, D] -> turned [D, width], every sequence from a multiple of L on, zeros up to the next one; BACK: the
    inverse.

    Grid:   sequences x tiles of BT tokens x blocks of BD channels, one axis, blocks fastest.
    Reads:  x; BACK: turned. Writes: the other one. Bytes per token and channel: 2 elements.
    """
    block, _head, n, tile, _slot, begin, end, _eos = locate(T, BT, tiles, cu_seqlens, SLICES=BLOCKS, HS=1)
    if begin >= end:
        return
    bos = begin - tile.to(tl.int64) * BT
    token = tl.arange(0, BT)
    channel = block * BD + tl.arange(0, BD)
    count = (end - begin).to(tl.int32)
    rows = x + begin * D + token[:, None] * D + channel[None, :]
    columns = turned + (first_chunk(T, n, bos, cu_seqlens, L) * L + tile.to(tl.int64) * BT)
    columns = columns + channel.to(tl.int64)[:, None] * width + token[None, :]
    if BACK:
        keep = token < count
        found = tl.load(columns, mask=(channel < D)[:, None] & keep[None, :], other=0.0)
        tl.store(rows, tl.trans(found), mask=keep[:, None] & (channel < D)[None, :])
    else:
        found = tl.load(rows, mask=(token < count)[:, None] & (channel < D)[None, :], other=0.0)
        room = tl.cdiv(count, L) * L
        tl.store(columns, tl.trans(found), mask=(channel < D)[:, None] & (token < room)[None, :])
