"""The middle pass: what each segment adds to a state of zeros -> the state that each segment starts from."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values, and a device function as
# one that never returns.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, only_if, slots_of
from kernels.common.shapes import next_power_of_2
from kernels.scan.plan import Cut, Span

BLOCK, MOST = 32, 32


@triton.jit
def scan_carry_kernel(
    states,
    totals,
    rates,
    start,
    cu_seqlens,
    segment_size,
    segments,
    SIZE: tl.constexpr,
    N: tl.constexpr,
    V: tl.constexpr,
    BLOCK: tl.constexpr,
    GROUP: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """In place: h_i = what segment i adds -> the state before it, S_{i+1} = 2^{total_i} S_i + h_i (REVERSE: after it).

    Without rates, N = 1: an element is a channel and has its own total. Else elements are [HS, N, V], totals belong to
    channels [HS, V], and the exponent is total * rate, rate [HS, V, N] in natural logarithms.

    Grid:    sequences x blocks of a state's SIZE elements, one axis, blocks fastest.
    On chip: a block of the running state, and a group of segments: loaded one by one they would each pay the latency.
    Reads:   states [slots, SIZE], totals [slots, SIZE / N], both fp32; rates; start [sequences, SIZE] where given.
    Writes:  states. Bytes per segment and element: 8 and 4 / N, besides 4 for a rate.
    """
    BLOCKS: tl.constexpr = (SIZE + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    n = (pid // BLOCKS).to(tl.int64)
    state_slot, count = slots_of(n, segment_size, segments, cu_seqlens)
    element = pid % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    keep = element < SIZE
    channel = element
    rate = tl.full([BLOCK], 1.0, tl.float32)
    if rates is not None:
        channel = element // (N * V) * V + element % V
        rate = tl.load(rates + channel * N + element // V % N, mask=keep, other=0.0).to(tl.float32) * LOG2E
    carry = tl.zeros([BLOCK], tl.float32)
    if start is not None:
        carry += tl.load(start + n * SIZE + element, mask=keep, other=0.0).to(tl.float32)
    for group_start in range(0, count, GROUP):
        added = ()
        kept = ()
        for i in tl.static_range(GROUP):
            segment = count - 1 - group_start - i if REVERSE else group_start + i
            # The last segment in this direction adds to no other segment's start: the local pass skipped it.
            valid = only_if(keep, group_start + i < count - 1)
            added = added + (tl.load(states + (state_slot + segment) * SIZE + element, mask=valid, other=0.0),)
            kept = kept + (tl.load(totals + (state_slot + segment) * (SIZE // N) + channel, mask=valid, other=0.0),)
        for i in tl.static_range(GROUP):
            segment = count - 1 - group_start - i if REVERSE else group_start + i
            tl.store(
                states + (state_slot + segment) * SIZE + element, carry, mask=only_if(keep, group_start + i < count)
            )
            carry = tl.exp2(kept[i] * rate) * carry + added[i]


def carry(span: Span, cut: Cut, states, totals, start, *, cu_seqlens, reverse: bool, rates=None) -> None:
    """Launch scan_carry_kernel: states [slots, …] hold what each segment adds, and then what it starts from.

    rates: [HS, V, N] where a channel has N modes
    """
    size = states[0].numel()
    V, N = (1, 1) if rates is None else rates.shape[1:]
    group = min(MOST, next_power_of_2(cut.segments))
    scan_carry_kernel[(span.sequences * triton.cdiv(size, BLOCK),)](
        states=states,
        totals=totals,
        rates=rates,
        start=start,
        cu_seqlens=cu_seqlens,
        segment_size=cut.segment_size,
        segments=cut.segments,
        SIZE=size,
        N=N,
        V=V,
        BLOCK=BLOCK,
        GROUP=group,
        REVERSE=reverse,
        num_warps=1,
    )
