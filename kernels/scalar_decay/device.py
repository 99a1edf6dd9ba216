"""What the kernels of this folder call on the device: decay, phi, the state that a program starts from.

Decays are of four kinds, `DECAY`: "none"; "head", log_decay [HS] in `rate`; "token", log_decay [B, T, HS] in `gate`;
"step", a step size dt [B, T, HS] in `gate` and A [HS] in `rate`: the log decay is dt A, and v is weighted by dt.
"""

# Triton types a device function, tl.range too, as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

from typing import Any, NamedTuple

import triton
import triton.language as tl

from kernels.common.device import LOG2E, MIN_LOG2_DECAY, load_normaliser, load_rows, load_state


class SegmentStates(NamedTuple):
    """What segments leave: states [slots, HS, SIZE], totals [slots, HS]; count: segments of the sequence."""

    states: Any
    totals: Any
    count: Any


@triton.jit
def from_the_end(d_last, place, count, slice_k, HS: tl.constexpr, DQ_SLICES: tl.constexpr):
    """[1]: the final state's part of the gradient of a sequence's last log decay, in slice 0 of its segment; else 0.

    d_last [N, HS, DQ_SLICES] fp32, what each slice of the sweep of dq adds, or None.
    """
    found = tl.zeros([1], tl.float32)
    if d_last is not None:
        for other in tl.static_range(DQ_SLICES):
            mine = (place.segment + 1 == count) & (slice_k == 0)
            found += tl.load(d_last + (place.n * HS + place.h) * DQ_SLICES + other, mask=mine, other=0.0)
    return found


@triton.jit
def features(x, keep, start, D: tl.constexpr, BD: tl.constexpr, MAP: tl.constexpr):
    """phi(x) in x's dtype, zero outside of the kept rows and the D columns."""
    wide = x.to(tl.float32)
    if MAP == "relu":
        # Not maximum: it would turn a NaN into 0.
        x = tl.where(wide < 0.0, 0.0, wide).to(x.dtype)
    if MAP == "softmax":
        # The whole row: BD holds D. Rows that are not kept, of zeros, would not stay so.
        wide = tl.where((tl.arange(0, BD) < D)[None, :], wide, float("-inf"))
        wide = tl.exp(wide - tl.max(wide, 1)[:, None])
        x = tl.where(keep[:, None], wide / tl.sum(wide, 1)[:, None], 0.0).to(x.dtype)
    if MAP == "elu1":
        wide = tl.where(wide > 0.0, wide + 1.0, tl.exp(wide))
        # phi(0) is 1 here, so what a masked load filled with zeros must be cleared.
        mask = keep[:, None]
        if D % BD:
            mask = mask & (start + tl.arange(0, BD) < D)[None, :]
        x = tl.where(mask, wide, 0.0).to(x.dtype)
    return x


@triton.jit
def load_features(
    base, stride: tl.constexpr, keep, start, BT: tl.constexpr, D: tl.constexpr, BD: tl.constexpr, MAP: tl.constexpr
):
    """phi of rows [BT, BD]: load_rows, then `features`."""
    return features(load_rows(base, stride, keep, start, BT=BT, D=D, BD=BD), keep, start, D=D, BD=BD, MAP=MAP)


@triton.jit
def slope(x, MAP: tl.constexpr):
    """phi'(x) in fp32; 0 at x = 0 for relu, as PyTorch has it."""
    x = x.to(tl.float32)
    if MAP == "relu":
        return tl.where(x > 0.0, 1.0, 0.0)
    return tl.where(x > 0.0, 1.0, tl.exp(x))


@triton.jit
def head_rate(rate, h, DECAY: tl.constexpr):
    """A head's log decay or A in fp32; 0 where there is none."""
    b_rate = 0.0
    if DECAY == "head" or DECAY == "step":
        b_rate = tl.load(rate + h).to(tl.float32)
    return b_rate


@triton.jit
def chunk_decay(gate, b_rate, offsets, rows, count, BT: tl.constexpr, DECAY: tl.constexpr):
    """(G, E, total, gate [BT]) of a chunk of `count` tokens: G_i = log2 of the decay of tokens 0 .. i, total of all.

    E_j = G_j - log2 of the weight of v_j: what token j adds reaches token i times 2^(G_i - E_j).
    offsets: of the rows in `gate`. Tokens beyond `count` do not decay.
    """
    if DECAY == "head":
        g = tl.maximum(b_rate * LOG2E, MIN_LOG2_DECAY, propagate_nan=tl.PropagateNan.ALL)
        b_gate = tl.minimum(rows + 1, count).to(tl.float32)
        G = b_gate * g
        E = G
        total = tl.minimum(BT, count).to(tl.float32) * g
    else:
        b_gate = tl.load(gate + offsets, mask=rows < count, other=0.0).to(tl.float32)  # [BT]
        g = b_gate * LOG2E
        if DECAY == "step":
            g *= b_rate
        g = tl.maximum(g, MIN_LOG2_DECAY, propagate_nan=tl.PropagateNan.ALL)
        G = tl.cumsum(g, 0)
        E = G
        if DECAY == "step":
            E -= tl.log2(b_gate)
        total = tl.sum(g, 0)
    return G, E, total, b_gate


@triton.jit
def power_and_rest(x, whole: tl.constexpr):
    """(2^e, m) with x = 2^e m and m in [1, 2), for x >= 0 in fp32; (0, 1) where x is 0 or denormal.

    whole: (1, x) instead, and (0, 1) where x is 0: fp32 products hold x as it is, and sums that cancel keep digits
    """
    if whole:
        small = x == 0.0
        power = tl.where(small, 0.0, 1.0)
    else:
        power = (x.to(tl.int32, bitcast=True) & 0x7F800000).to(tl.float32, bitcast=True)
        small = power == 0.0
    return power, tl.where(small, 1.0, x) / tl.where(small, 1.0, power)


@triton.jit
def start_state(
    S,
    S_start,
    segments,
    place,
    k,
    v,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    SIZE: tl.constexpr,
    DECAY: tl.constexpr,
    START: tl.constexpr,
    factor=1.0,
    REVERSE: tl.constexpr = False,
):
    """The state that a program starts from: elements (k, v), added to the zeros S.

    START:   "whole": factor times the sequence's own start; "segment": what `states` holds in the segment's slot;
             "join": the sequence's start and, in `states`, the contributions of all segments before this one (REVERSE:
             after it), each decayed by the segments between; "all": the contributions of all its segments.
    S_start: [N, HS, K, V] or None; segments: SegmentStates, whose totals are log2 of each segment's decay
    """
    n, h, segment, state_slot, _begin, _end = place
    states, totals, count = segments
    if START == "segment":
        S += load_state(states, state_slot * HS + h, k, v, K=K, V=V, SIZE=SIZE)
    elif START == "all":
        for i in tl.range(0, count, num_stages=1):
            S += load_state(states, (state_slot - segment + i) * HS + h, k, v, K=K, V=V, SIZE=SIZE)
    else:
        if S_start is not None:
            S += load_state(S_start, n * HS + h, k, v, K=K, V=V, SIZE=K * V) * factor
        if START == "join":
            passed = count - 1 - segment if REVERSE else segment
            for i in tl.range(0, passed, num_stages=1):
                index = (state_slot - segment + (count - 1 - i if REVERSE else i)) * HS + h
                if DECAY != "none":
                    S *= tl.exp2(tl.load(totals + index))
                S += load_state(states, index, k, v, K=K, V=V, SIZE=SIZE)
    return S


@triton.jit
def start_normaliser(
    z,
    z_start,
    segments,
    place,
    k,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    SIZE: tl.constexpr,
    START: tl.constexpr,
    factor=1.0,
    REVERSE: tl.constexpr = False,
):
    """start_state's counterpart for z: elements k, added to the zeros z. It never decays."""
    n, h, segment, state_slot, _begin, _end = place
    states, _totals, count = segments
    if START == "segment":
        z += load_normaliser(states + K * V, state_slot * HS + h, k, K, SIZE)
    elif START == "all":
        for i in tl.range(0, count, num_stages=1):
            z += load_normaliser(states + K * V, (state_slot - segment + i) * HS + h, k, K, SIZE)
    else:
        if z_start is not None:
            z += load_normaliser(z_start, n * HS + h, k, K, K) * factor
        if START == "join":
            passed = count - 1 - segment if REVERSE else segment
            for i in tl.range(0, passed, num_stages=1):
                index = (state_slot - segment + (count - 1 - i if REVERSE else i)) * HS + h
                z += load_normaliser(states + K * V, index, k, K, SIZE)
    return z
