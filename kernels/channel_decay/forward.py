"""The output sweep: o and the final state, with a slice of the state in registers."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.channel_decay.device import block_of, load_decays, load_square, operand, times, times_add
from kernels.common.device import load_rows, load_state, locate, store_rows, store_state


@triton.jit(do_not_specialize=["T"])
def channel_fwd_output_kernel(
    reads,
    writes,
    scores,
    decays,
    v,
    o,
    S_start,
    S_end,
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
    SEGMENTED: tl.constexpr,
    STAGES: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """O = (s e^R Q) S + A V, then S = e^E S + (e^(E-G) K)^T V, where all that is the same for all slices is prepared.

    Grid:    sequences x segments x HS x slices of V, one axis, slices fastest.
    On chip: S^T [BV, BK], fp32, over all chunks of the segment. All products have the columns of V as their rows.
    Reads:   reads, writes, scores and decays of every chunk, a slice of v; a start state where one is given: one per
             sequence, or per segment if SEGMENTED.
    Writes:  a slice of o; the final state, where wanted, by the last segment.
    Bytes per token and state head over all slices: w (2K + BT) + 4K / BT + 2b V, with w and b bytes per element of
    reads and of v. Each slice loads what is prepared again, from L2.
    """
    slice_v, h, n, segment, state_slot, begin, end, eos = locate(
        T, segment_size, segments, cu_seqlens, SLICES=SLICES, HS=HS
    )
    if begin >= end:
        return
    rows = tl.arange(0, BT)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    v += (begin * HV + h // (HS // HV)) * V
    o += (begin * HS + h) * V
    slot = block_of(begin, segment, n, segment_size, BT, T=T, cu_seqlens=cu_seqlens) * HS + h

    S = tl.zeros([BV, BK], dtype=tl.float32)
    if S_start is not None:
        index = (state_slot if SEGMENTED else n) * HS + h
        S = load_state(S_start, index, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V + (K if SEGMENTED else 0))

    length = (end - begin).to(tl.int32)
    for chunk_start in tl.range(0, length, BT, num_stages=STAGES, disable_licm=True):
        keep = rows < length - chunk_start
        at = slot * BT * K
        b_reads = load_rows(reads + at, stride=K, keep=rows >= 0, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_writes = load_rows(writes + at, stride=K, keep=rows >= 0, start=0, BT=BT, D=K, BD=BK)  # [BT, BK]
        b_A = load_square(scores, slot, BT)
        decay = load_decays(decays, slot, K=K, BK=BK)
        b_v = load_rows(v, stride=HV * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)  # [BT, BV]
        b_v = tl.trans(operand(b_v, WIDE))
        b_o = times(S, tl.trans(b_reads), WIDE, PRECISION)  # [BV, BT]
        b_o = times_add(b_v, tl.trans(b_A), b_o, WIDE, PRECISION)
        store_rows(o, tl.trans(b_o), stride=HS * V, keep=keep, start=slice_v * BV, BT=BT, D=V, BD=BV)
        S = times_add(b_v, b_writes, S * decay, WIDE, PRECISION)
        slot += HS
        v += BT * HV * V
        o += BT * HS * V

    if S_end is not None and end == eos:
        store_state(S_end, n * HS + h, S, o_k[None, :], o_v[:, None], K=K, V=V, SIZE=K * V)
