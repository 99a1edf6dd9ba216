"""Pairs of chunks: for the backward pass a state is kept before each pair, and its gradient after each, none between.

KEEP counts the chunks from one that is kept to the next: 2, or 1 where a kernel has no registers for what follows.

The chunks of a sequence are paired from its first on; the last pair may have one chunk alone. With ' for the other
chunk of a pair, what stands between the two is found again from what is kept and from that chunk's r, y and do:

    second chunk:  S <- e^Gc' S + (e^(Gc'-G') k')^T w'
    first chunk:   dS <- e^Gc' dS + s (e^G' q')^T do' - (e^G' k')^T y'

A first chunk alone finds dS unchanged: the rows of the chunk that is not there are zeros.
"""

# Triton types a device function as one that never returns.
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.delta.device import load_gates, total


@triton.jit
def keep_state(base, index, x, k, v, count, K: tl.constexpr, V: tl.constexpr):
    """Store elements (k, v) of state number `index` for k < count, K or 0: a branch instead would cost registers."""
    mask = (k < count) & (v < V)
    tl.store(base + index * (K * V) + k * V + v, x.to(base.dtype.element_ty), mask=mask)


@triton.jit
def partner(begin, eos, chunk, rows, BT: tl.constexpr):
    """The other chunk of chunk number `chunk`: (whether this is the second, the other's first step, masks of its rows).

    The masks [BT]: rows that are there; the same if the other is the first of the pair, else none; and if it is the
    second.
    """
    second = chunk % 2 == 1
    other = tl.where(second, begin - BT, begin + BT)
    count = tl.minimum(eos - other, BT).to(tl.int32)
    return second, other, rows < count, rows < tl.where(second, count, 0), rows < tl.where(second, 0, count)


@triton.jit
def partner_factors(beta, log_decay, first_step, rows, there, second, h, HS: tl.constexpr, STEPS: tl.constexpr):
    """(decay of the other chunk, factors of its rows of do, and of r where it is the first, of y where the second)."""
    b, G = load_gates(beta, log_decay, first_step, rows, keep=there, h=h, HS=HS, STEPS=STEPS)
    G_last = total(G, rows.shape[0])
    decayed = tl.exp(G)
    return tl.exp(G_last), decayed, tl.where(second, b * tl.exp(G_last - G), -decayed)


@triton.jit
def find_again(b_S, b_dS, b_k, b_q, b_z, b_d, decay, second, PRECISION: tl.constexpr):
    """(S before, dS after) this chunk, fp32, from those of the pair: in the second chunk S is new, in the first dS.

    b_k, b_q: of the other chunk; b_z, b_d: its r or y, and its do, times their factors; decay: of all of it.
    """
    b_X = tl.where(second, b_S, b_dS).to(tl.float32) * decay
    b_X = tl.dot(tl.trans(b_k), b_z, b_X, input_precision=PRECISION)
    b_X = tl.dot(tl.trans(b_q), b_d, b_X, input_precision=PRECISION)
    return tl.where(second, b_X, b_S.to(tl.float32)), tl.where(second, b_dS.to(tl.float32), b_X)
