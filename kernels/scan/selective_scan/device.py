"""What the selective scan's kernels call on the device: the channels of a block, and functions of whole tiles.

A block is BD channels of one group and all N modes of each, as tiles [BN, BD]. Functions take tiles of tokens as tuples
of rows (kernels/scan/device.py).
"""

# Triton's tuples are not typed, nor is what a device function returns.
# pyright: reportIndexIssue=false, reportOperatorIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, only_if
from kernels.scan.device import NO, inside, load_tile


@triton.jit
def block_channels(block, group, GROUP: tl.constexpr, BD: tl.constexpr):
    """(channels of a layer [BD], which of them exist) of block `block` of a group of GROUP channels."""
    inner = block * BD + tl.arange(0, BD)
    return group * GROUP + inner, inside(inner, GROUP)


@triton.jit
def state_at(channel, modes, K: tl.constexpr, V: tl.constexpr):
    """Offsets of a state [HS, K, V] for modes [BN] and channels [BD]: [BN, BD]."""
    offsets = (channel // V * (K * V) + channel % V)[None, :] + modes[:, None] * V
    # The widest load decides how a tile lies in threads. It must be A's, which spreads modes over a few threads and
    # leaves several of each channel to one: so the compiler must not see that a state's channels are contiguous.
    return tl.where((channel >= 0)[None, :], offsets, 0)


@triton.jit
def load_rate(A, channel, mask, modes, K: tl.constexpr):
    """A [HS, V, K] of a block in base 2, [BN, BD]; 0 beyond it, where nothing decays and nothing is added."""
    return tl.load(A + channel[None, :] * K + modes[:, None], mask=mask, other=0.0).to(tl.float32) * LOG2E


@triton.jit
def load_block(A, bias, block, group, GROUP: tl.constexpr, K: tl.constexpr, BN: tl.constexpr, BD: tl.constexpr):
    """(channels [BD], which exist, modes [BN], which of both exist [BN, BD], A in base 2, step bias) of a block."""
    channel, keep = block_channels(block, group, GROUP, BD)
    modes = tl.arange(0, BN)
    mask = keep[None, :] & inside(modes, K)[:, None]
    rate = load_rate(A, channel, mask, modes, K)
    return channel, keep, modes, mask, rate, load_channels(bias, channel, keep)


@triton.jit
def load_channels(base, channel, keep):
    """A parameter of channels [BD], fp32."""
    return tl.load(base + channel, mask=keep, other=0.0).to(tl.float32)


@triton.jit
def entering(states, start, state_slot, n, offsets, mask, SIZE: tl.constexpr):
    """What a sweep starts from [BN, BD], fp32: the segment's of `states`, else the sequence's of `start`, else 0."""
    x = tl.zeros(mask.shape, tl.float32)
    if states is not None:
        x += tl.load(states + state_slot * SIZE + offsets, mask=mask, other=0.0)
    elif start is not None:
        x += tl.load(start + n * SIZE + offsets, mask=mask, other=0.0).to(tl.float32)
    return x


@triton.jit
def load_modes(
    base,
    modes,
    tile_start,
    begin,
    end,
    group,
    HK: tl.constexpr,
    K: tl.constexpr,
    BT: tl.constexpr,
    WHOLE: tl.constexpr = NO,
):
    """Rows tile_start .. tile_start + BT of B or C [tokens, HK, K], a tuple of [BN]; zeros where there is none.

    WHOLE: all tokens are there.
    """
    first = base + (tile_start * HK + group) * K + modes
    keep = inside(modes, K)
    rows = ()
    for i in tl.static_range(BT):
        mask = keep if WHOLE else only_if(keep, (tile_start + i >= begin) & (tile_start + i < end))
        rows = rows + (tl.load(first + i * (HK * K), mask=mask, other=0.0),)
    return rows


@triton.jit
def step_inputs(
    tensors,
    B,
    C,
    channel,
    keep,
    modes,
    tile_start,
    begin,
    end,
    group,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    WHOLE: tl.constexpr = NO,
):
    """What BT tokens need: BT rows of each of the tensors, then those of B and C, one after the other in one tuple."""
    rows = ()
    for tensor in tl.static_range(len(tensors)):
        rows = rows + load_tile(
            tensors[tensor], channel, keep, tile_start, begin, end, stride=HS * V, BT=BT, WHOLE=WHOLE
        )
    rows = rows + load_modes(B, modes, tile_start, begin, end, group, HK=H, K=K, BT=BT, WHOLE=WHOLE)
    return rows + load_modes(C, modes, tile_start, begin, end, group, HK=H, K=K, BT=BT, WHOLE=WHOLE)


@triton.jit
def steps_of(rows, bias, tile_start, end, BT: tl.constexpr, WHOLE: tl.constexpr = NO):
    """softplus(delta + bias) in fp32 of each row; 0 for tokens from `end` on, so these tokens neither decay nor add.

    WHOLE: there are no such tokens.
    """
    steps = ()
    for i in tl.static_range(BT):
        x = rows[i].to(tl.float32) + bias
        e = tl.exp2(-tl.abs(x) * LOG2E)
        # 1 + e has no digits left of a small e: there the series of log(1 + e).
        series = e * (1.0 - e * (0.5 - e * (1.0 / 3.0 - e * (0.25 - e * (0.2 - e / 6.0)))))
        dt = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL) + tl.where(e < 0.05, series, tl.log(1.0 + e))
        steps = steps + (dt if WHOLE else tl.where(tile_start + i < end, dt, 0.0),)
    return steps


@triton.jit
def sigmoids(rows, bias, BT: tl.constexpr):
    """1 / (1 + e^-(x + bias)) in fp32 of each row x, without an exponent above 0."""
    found = ()
    for i in tl.static_range(BT):
        x = rows[i].to(tl.float32) + bias
        e = tl.exp2(-tl.abs(x) * LOG2E)
        found = found + (tl.where(x < 0.0, e, 1.0) / (1.0 + e),)
    return found
