"""Masks of blocks that a scalar condition switches off whole."""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def only_if(mask, condition):
    """`mask` where a scalar condition holds, nothing else.

    Not `mask & condition`: Triton 3.9's interpreter widens a scalar truth to an integer when it fills a block with it,
    and takes no such block as a mask. Compiled, both are the same.
    """
    return mask & ((tl.zeros(mask.shape, tl.int32) + condition.to(tl.int32)) > 0)
