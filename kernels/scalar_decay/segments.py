"""Segments: where sequences x heads x slices do not fill the GPU, a sequence is cut and its parts swept in parallel.

Each segment but the last in the sweep's direction sums its own contribution to the state. The sweeps that follow join
the contributions of the segments before them themselves; where these are many, `combine` first turns them, in place,
into the state that each segment starts from. The sums are the recurrence's own, in fp32: nothing is lost.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import load_rows, locate, slots_of, store_normaliser, store_state
from kernels.scalar_decay.device import chunk_decay, head_rate, load_features


@triton.jit(do_not_specialize=["T"])
def linear_segment_state_kernel(
    x,
    y,
    gate,
    rate,
    den,
    delta,
    states,
    totals,
    cu_seqlens,
    T,
    segment_size,
    segments,
    HX: tl.constexpr,
    HY: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    MAP: tl.constexpr,
    NORMALISED: tl.constexpr,
    DECAY: tl.constexpr,
    REVERSE: tl.constexpr,
    PRECISION: tl.constexpr,
    CAUSAL: tl.constexpr,
):
    """A segment's contribution: the decayed phi(x)^T y and, normalised, the sum of phi(x).

    Forward, x = k and y = w v, decayed to the segment's end. REVERSE, x = q and y = do give the state's gradient over
    s, decayed to the segment's start: normalised, rows of y are weighted by 1 / den, those of the sum by -delta / den.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest; REVERSE, chunks from last to first.
    On chip: the contribution [K, BV] and [K], fp32.
    Reads:   x and a slice of y, of all segments, CAUSAL but the last (REVERSE: the first); gate and rate where they
             decay; den and delta where REVERSE and normalised.
    Writes:  states [slots, HS, KV (+ K)] fp32, in the segment's slot: the [K, V] part, then, normalised, the [K] part;
             totals [slots, HS] fp32, log2 of the segment's decay, by slice 0.
    Bytes per token and state head over all slices: s (K + V), + 8 normalised in REVERSE, + a gate's element; 4 (KV + K)
    per segment.
    """
    slice_v, h, _, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    idle = begin >= end
    if CAUSAL:
        # Nobody starts from what the last segment in this direction contributes.
        idle = idle | ((segment == 0) if REVERSE else (end == eos))
    if idle:
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    length = (end - begin).to(tl.int32)
    start = (length - 1) // BT * BT if REVERSE else 0
    x += ((begin + start) * HX + h // (HS // HX)) * K
    y += ((begin + start) * HY + h // (HS // HY)) * V
    b_rate = head_rate(rate, h, DECAY)
    passed = 0.0
    S = tl.zeros([BK, BV], dtype=tl.float32)
    z = tl.zeros([BK], dtype=tl.float32)
    unit = 1.0
    for tokens_done in range(0, length, BT):
        chunk_start = start - tokens_done if REVERSE else tokens_done
        keep = rows < length - chunk_start
        b_x = load_features(x, stride=HX * K, keep=keep, start=0, BT=BT, D=K, BD=BK, MAP=MAP)  # [BT, BK]
        b_y = load_rows(y, stride=HY * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        offsets = (begin + chunk_start + rows) * HS + h
        if NORMALISED:
            if REVERSE:
                b_den = tl.load(den + offsets, mask=keep, other=0.0)
                b_delta = tl.load(delta + offsets, mask=keep, other=0.0)
                largest = tl.max(tl.abs(b_den), 0)
                S *= largest / unit
                z *= largest / unit
                unit = largest
                weight = unit / tl.where(keep, b_den, 1.0)
                b_y = (b_y.to(tl.float32) * weight[:, None]).to(b_y.dtype)
                z -= tl.sum(b_x.to(tl.float32) * (weight * b_delta)[:, None], 0)
            else:
                z += tl.sum(b_x.to(tl.float32), 0)
        if DECAY != "none":
            G, E, total, _gate = chunk_decay(gate, b_rate, offsets, rows, length - chunk_start, BT=BT, DECAY=DECAY)
            b_left = tl.exp2(G if REVERSE else total - E)
            # A gate's gradient needs this state rounded as its sweeps round theirs; else the smaller tile is weighted.
            if DECAY == "head":
                b_y = (b_y.to(tl.float32) * b_left[:, None]).to(b_y.dtype)
            else:
                b_x = (b_x.to(tl.float32) * b_left[:, None]).to(b_x.dtype)
            S *= tl.exp2(total)
            passed += total
        S = tl.dot(tl.trans(b_x), b_y, S, input_precision=PRECISION)
        x += -BT * HX * K if REVERSE else BT * HX * K
        y += -BT * HY * V if REVERSE else BT * HY * V
    SIZE: tl.constexpr = K * V + (K if NORMALISED else 0)
    store_state(states, state_slot * HS + h, S / unit, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=SIZE)
    if NORMALISED:  # noqa: SIM102 - joined, the condition is no longer the compiler's
        if slice_v == 0:
            store_normaliser(states + K * V, state_slot * HS + h, z / unit, o_k, K=K, SIZE=SIZE)
    if DECAY != "none":  # noqa: SIM102 - as above
        if slice_v == 0:
            tl.store(totals + state_slot * HS + h, passed)


@triton.jit
def _then(first_decay, first, second_decay, second):
    """The state left by two segments, each a factor and a contribution."""
    return first_decay * second_decay, first * second_decay + second


@triton.jit
def linear_segment_combine_kernel(
    states,
    totals,
    S_start,
    z_start,
    cu_seqlens,
    factor,
    segment_size,
    segments,
    SIZE: tl.constexpr,
    S_SIZE: tl.constexpr,
    HS: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUP: tl.constexpr,
    DECAY: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """In place: contribution of each segment -> start + contributions of the segments before it (REVERSE: after it).

    Grid:    sequences x HS x blocks of a state's SIZE elements, one axis, blocks fastest.
    On chip: one block [BLOCK] of the running state, fp32.
    Reads:   states [slots, HS, SIZE] fp32, S_SIZE elements of S and then those of z; totals [slots, HS] where they
             decay; factor times the sequence's start, S_start [N, HS, S_SIZE] and z_start [N, HS, SIZE - S_SIZE], where
             given.
    Writes:  states.
    """
    BLOCKS: tl.constexpr = (SIZE + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    h = pid // BLOCKS % HS
    n = (pid // (BLOCKS * HS)).to(tl.int64)
    state_slot, count = slots_of(n, segment_size, segments, cu_seqlens)
    element = pid % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    inside = element < SIZE
    carry = tl.zeros([BLOCK], dtype=tl.float32)
    of_S = element < S_SIZE
    if S_start is not None:
        carry += tl.load(S_start + (n * HS + h) * S_SIZE + element, mask=of_S, other=0.0).to(tl.float32) * factor
    if z_start is not None:
        pointers = z_start + (n * HS + h) * (SIZE - S_SIZE) + element - S_SIZE
        carry += tl.load(pointers, mask=inside & (element >= S_SIZE), other=0.0).to(tl.float32) * factor
    # A group of segments is loaded at once: one segment at a time would pay the memory's latency for each. Its first
    # row is what went before the group, so that each row holds what a segment starts from.
    row = tl.arange(0, GROUP)
    for group_start in range(0, count, GROUP - 1):
        segment = group_start + row - 1
        index = (state_slot + (count - 1 - segment if REVERSE else segment)) * HS + h
        # The last segment in this direction never wrote a contribution: nobody starts from it.
        own = (row > 0) & (segment < count - 1)
        x = tl.load(states + index[:, None] * SIZE + element[None, :], mask=own[:, None] & inside[None, :], other=0.0)
        x += tl.where(row == 0, 1.0, 0.0)[:, None] * carry[None, :]
        if DECAY == "none":
            x = tl.cumsum(x, 0)
        else:
            factors = tl.exp2(tl.load(totals + index, mask=own, other=0.0))
            _, x = tl.associative_scan((tl.broadcast_to(factors[:, None], [GROUP, BLOCK]), x), 0, _then)
        carry = tl.sum(tl.where((row == GROUP - 1)[:, None], x, 0.0), 0)
        # All are read before any is written over.
        tl.debug_barrier()
        after = (state_slot + (count - 2 - segment if REVERSE else segment + 1)) * HS + h
        mask = ((segment + 1 < count) & (row < GROUP - 1))[:, None] & inside[None, :]
        tl.store(states + after[:, None] * SIZE + element[None, :], x, mask=mask)
