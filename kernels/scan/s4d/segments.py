"""The middle pass of S4D's scan over segments."""

# Triton types a device function as one that never returns, and a tuple as no tensor.
# pyright: reportGeneralTypeIssues=false, reportIndexIssue=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import only_if, slots_of
from kernels.scan.s4d.device import SEGMENT_ROW, mul


@triton.jit
def s4d_carry_kernel(
    states,
    table,
    cu_seqlens,
    segment_size,
    segments,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    REVERSE: tl.constexpr,
):
    """In place: h_i = what segment i leaves behind -> what enters it, S_{i+1} = p S_i + h_i with p = a^segment.

    REVERSE: the gradient that enters from behind, E_{i-1} = p E_i + h_i. The first segment in this direction starts
    from what its own pass was given: here it gets zeros.

    Grid:    sequences x blocks of the SIZE = HS V M pairs, one axis, blocks fastest.
    On chip: a block of the running state.
    Reads:   states [slots, 2, HS V, M] fp32, p from the table [12, HS V, M].
    Writes:  states. Bytes per segment and channel: 16 M.
    """
    BLOCKS: tl.constexpr = (SIZE + BLOCK - 1) // BLOCK
    pid = tl.program_id(0)
    state_slot, count = slots_of((pid // BLOCKS).to(tl.int64), segment_size, segments, cu_seqlens)
    element = pid % BLOCKS * BLOCK + tl.arange(0, BLOCK)
    keep = element < SIZE
    p_real = tl.load(table + SEGMENT_ROW * SIZE + element, mask=keep, other=0.0)
    p_imag = tl.load(table + (SEGMENT_ROW + 1) * SIZE + element, mask=keep, other=0.0)
    real = tl.zeros([BLOCK], tl.float32)
    imag = tl.zeros([BLOCK], tl.float32)
    for i in range(count):
        here = states + (state_slot + (count - 1 - i if REVERSE else i)) * (2 * SIZE) + element
        # The last segment in this direction is followed by none: the local pass skipped it.
        valid = only_if(keep, i < count - 1)
        left_real = tl.load(here, mask=valid, other=0.0)
        left_imag = tl.load(here + SIZE, mask=valid, other=0.0)
        tl.store(here, real, mask=keep)
        tl.store(here + SIZE, imag, mask=keep)
        kept_real, kept_imag = mul(p_real, p_imag, real, imag)
        real = kept_real + left_real
        imag = kept_imag + left_imag
