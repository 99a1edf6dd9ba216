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

from kernels.channel_decay.device import block_of, load_decays, operand, times_add
from kernels.common.device import load_rows, locate, only_if, slots_of, store_state


@triton.jit(do_not_specialize=["T"])
def channel_segment_state_kernel(
    writes,
    decays,
    v,
    states,
    cu_seqlens,
    T,
    segment_size,
    segments,
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
    """A segment's sum_j e^(E - G_j) k_j v_j^T [K, V] and its whole decay e^E [K], from what its chunks have prepared.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: the sum, transposed [BV, BK], fp32.
    Reads:   writes, decays and a slice of v, of all segments but the last.
    Writes:  states [slots, HS, KV + K] fp32, in the segment's slot: first the sum, then e^E.
    Bytes per token and state head over all slices: w K + b V + 4K / BT, with w and b bytes per element of writes and v;
    4 (KV + K) a segment.
    """
    slice_v, h, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if (begin >= end) | (end == eos):
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    slot = block_of(begin, segment, n, segment_size, BT, T=T, cu_seqlens=cu_seqlens) * HS + h
    v += (begin * HV + h // (HS // HV)) * V
    S = tl.zeros([BV, BK], dtype=tl.float32)
    whole = tl.full([1, BK], 1.0, dtype=tl.float32)
    length = (end - begin).to(tl.int32)
    for chunk_start in tl.range(0, length, BT, num_stages=STAGES, disable_licm=True):
        keep = rows < length - chunk_start
        b_writes = load_rows(writes + slot * BT * K, stride=K, keep=rows >= 0, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_v = load_rows(v, stride=HV * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        decay = load_decays(decays, slot, K=K, BK=BK)
        S = times_add(tl.trans(operand(b_v, WIDE)), b_writes, S * decay, WIDE, PRECISION)
        whole *= decay
        slot += HS
        v += BT * HV * V
    store_state(states, state_slot * HS + h, S, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V + K)
    if slice_v == 0:
        at = states + (state_slot * HS + h) * (K * V + K) + K * V + o_k[None, :]
        tl.store(at, whole, mask=(o_k < K)[None, :])


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
    Reads:   states [slots, HS, KV + K] fp32, each row a contribution and its decay; the sequence's start S_start
             [N, HS, KV], where given.
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
        carry = carry * whole + own
