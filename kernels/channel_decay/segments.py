"""Segments: where sequences x heads x slices do not fill the GPU, a sequence is cut and its parts swept in parallel.

Each segment but the last sums its own contribution to the state and the decay that it applies to what came before;
`combine` turns these, in place, into the state that each segment starts from. The sums are the recurrence's own, in
fp32: nothing is lost. The contributions to the state's gradient come from the sweep of dq, which reads what they need.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_decay.device import load_gates, load_keys, times_add, total_of
from kernels.common.device import LOG2E, load_rows, locate, only_if, slots_of, store_state


@triton.jit(do_not_specialize=["T"])
def channel_segment_state_kernel(
    k,
    v,
    g,
    states,
    cu_seqlens,
    T,
    segment_size,
    segments,
    HK: tl.constexpr,
    HV: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BT: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    STAGES: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """A segment's sum_j e^(E - G_j) k_j v_j^T [K, V] and its whole decay E [K], in powers of 2.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: the sum [K, BV], fp32. Every exponent is at most 0, so there is one form for all gates.
    Reads:   k, g and a slice of v, of all segments but the last.
    Writes:  states [slots, HS, KV + K] fp32, in the segment's slot: first the sum, then E.
    Bytes per token and state head over all slices: b (K + V) + c K, with b and c bytes per element of k and g;
    4 (KV + K) a segment.
    """
    slice_v, h, _, _, state_slot, begin, end, eos = locate(T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS)
    if (begin >= end) | (end == eos):
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    if k is not None:
        k += (begin * HK + h // (HS // HK)) * K
    v += (begin * HV + h // (HS // HV)) * V
    g += (begin * HS + h) * K
    S = tl.zeros([BK, BV], dtype=tl.float32)
    whole = tl.zeros([BK], dtype=tl.float32)
    length = (end - begin).to(tl.int32)
    for chunk_start in tl.range(0, length, BT, num_stages=STAGES, disable_licm=True):
        keep = rows < length - chunk_start
        b_g = load_gates(g, stride=HS * K, keep=keep, start=0, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_k = load_keys(k, b_g, stride=HK * K, keep=keep, start=0, BT=BT, K=K, BK=BK)  # [BT, BK]
        b_v = load_rows(v, stride=HV * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        total = total_of(b_g)
        later = tl.cumsum(b_g.to(tl.float32), 0, reverse=True) - b_g.to(tl.float32)
        b_ks = b_k * tl.exp2(later * LOG2E)
        S = times_add(tl.trans(b_ks), b_v, S * tl.exp2(total)[:, None], WIDE, PRECISION)
        whole += total
        if k is not None:
            k += BT * HK * K
        v += BT * HV * V
        g += BT * HS * K
    store_state(states, state_slot * HS + h, S, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V + K)
    if slice_v == 0:
        tl.store(states + (state_slot * HS + h) * (K * V + K) + K * V + o_k, whole, mask=o_k < K)


@triton.jit
def channel_segment_combine_kernel(
    states,
    S_start,
    cu_seqlens,
    segment_size,
    segments,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BLOCK: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """In place: a segment's contribution -> the state that it starts from; REVERSE, the state's gradient at its end.

    Grid:    sequences x HS x blocks of a state's KV elements, one axis, blocks fastest.
    On chip: one block [BLOCK] of the running state, fp32.
    Reads:   states [slots, HS, KV + K] fp32, each row a contribution and its decay in powers of 2; the sequence's start
             S_start [N, HS, KV], where given.
    Writes:  the first KV of each row.
    """
    BLOCKS: tl.constexpr = (K * V + BLOCK - 1) // BLOCK
    SIZE: tl.constexpr = K * V + K
    pid = tl.program_id(0)
    h = pid // BLOCKS % HS
    n = (pid // (BLOCKS * HS)).to(tl.int64)
    state_slot, count = slots_of(n, segment_size, segments, cu_seqlens)
    element = pid % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    inside = element < K * V
    carry = tl.zeros([BLOCK], dtype=tl.float32)
    if S_start is not None:
        carry += tl.load(S_start + (n * HS + h) * (K * V) + element, mask=inside, other=0.0).to(tl.float32)
    for segments_done in range(count):
        segment = count - 1 - segments_done if REVERSE else segments_done
        pointer = states + ((state_slot + segment) * HS + h) * SIZE
        # The last segment in this direction has no contribution: nobody starts from it.
        wanted = only_if(inside, segments_done < count - 1)
        own = tl.load(pointer + element, mask=wanted, other=0.0)
        whole = tl.load(pointer + K * V + element // V, mask=wanted, other=0.0)
        tl.store(pointer + element, carry, mask=inside)
        carry = carry * tl.exp2(whole) + own
