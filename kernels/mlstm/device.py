"""What the kernels of this folder call on the device: gates as logarithms, the stabiliser, the state to start from.

With g_t = log2 f'_t <= 0 and w_t = log2 i'_t <= 0, either gate makes the same recurrence:

    C_t = 2^{g_t} C_{t-1} + 2^{w_t} k_t v_t^T

With the sigmoid gate g and w are the gates' own logarithms. With the exponential one they are what is left of them
after the stabiliser m_t = max(log f_t + m_{t-1}, i_t) is taken out, and n is one more column of C, whose v is 1. Gates
and stabilisers are natural logarithms, so that large ones cancel exactly; only differences are brought to the base 2.
"""

# Triton types a device function, tl.range too, as one that never returns, and constexpr parameters as no plain values.
# pyright: reportGeneralTypeIssues=false, reportArgumentType=false

from __future__ import annotations

import triton
import triton.language as tl

from kernels.common.device import LOG2E, MIN_LOG2_DECAY, at_least, load_normaliser, load_state

# The stabiliser of an empty state, and the lowest gate: finite, so that no difference of two is NaN.
EMPTY = tl.constexpr(-1e30)
# Denominators lie within 2^-60 and 2^60, so that ratios of two are finite in fp32. Beyond, o is 0 to all digits kept.
WIDEST = tl.constexpr(60.0)
LARGEST, SMALLEST = tl.constexpr(2.0**60), tl.constexpr(2.0**-60)


@triton.jit
def log_sigmoid(x):
    """log sigmoid(x) in fp32, at least EMPTY; NaN stays NaN."""
    return at_least(tl.minimum(x, 0.0) - tl.log(1.0 + tl.exp(-tl.abs(x))), EMPTY)


@triton.jit
def _load_gates(input_gate, forget_gate, offsets, keep):
    """(log f, log i) of exponential gates; rows that are not kept neither decay nor add."""
    f = log_sigmoid(tl.load(forget_gate + offsets, mask=keep, other=0.0).to(tl.float32))
    i = tl.load(input_gate + offsets, mask=keep, other=0.0).to(tl.float32)
    return tl.where(keep, f, 0.0), tl.where(keep, at_least(i, EMPTY), EMPTY)


@triton.jit
def _then(first_sum, first_top, second_sum, second_top):
    """The two numbers of a run of tokens: the sum of its log decays, and its stabiliser when it starts from nothing."""
    return first_sum + second_sum, tl.maximum(first_top + second_sum, second_top)


@triton.jit
def stabilised(input_gate, forget_gate, offsets, rows, count, m):
    """(g, w, m [BT], sum of log f [BT]) of `count` tokens with exponential gates, m being the stabiliser before them.

    offsets: of the rows in the gates. A scan gives all stabilisers at once. What rounding makes of them does not
    matter: g and w are what is left of the gates under these very stabilisers, by differences of neighbours, above 0 by
    no more than that rounding.
    """
    f, i = _load_gates(input_gate, forget_gate, offsets, rows < count)
    sums, tops = tl.associative_scan((f, i), 0, _then)
    m_after = tl.maximum(sums + m, tops)
    m_before = tl.where(rows > 0, tl.gather(m_after, tl.maximum(rows - 1, 0), 0), m)
    return _base_2(f + (m_before - m_after)), _base_2(i - m_after), m_after, sums


@triton.jit
def _base_2(x):
    """A natural logarithm to the base 2, at least MIN_LOG2_DECAY; NaN stays NaN."""
    return at_least(x * LOG2E, MIN_LOG2_DECAY)


@triton.jit
def last(x, rows, BT: tl.constexpr):
    """The last of rows [BT]."""
    return tl.sum(tl.where(rows == BT - 1, x, 0.0), 0)


@triton.jit
def known(input_gate, forget_gate, offsets, keep, EXP: tl.constexpr):
    """(g, w) [BT]: as the forward pass left them in the place of the gates, or, EXP being False, of sigmoid gates."""
    if EXP:
        g = tl.load(forget_gate + offsets, mask=keep, other=0.0)
        w = tl.load(input_gate + offsets, mask=keep, other=0.0)
    else:
        g = log_sigmoid(tl.load(forget_gate + offsets, mask=keep, other=0.0).to(tl.float32))
        w = log_sigmoid(tl.load(input_gate + offsets, mask=keep, other=0.0).to(tl.float32))
        g = tl.where(keep, _base_2(g), 0.0)
        w = _base_2(w)
    return g, w


@triton.jit
def sums_of(g, w):
    """(G, E, total): G_i = sum of g up to i, E_j = G_j - w_j; what token j adds reaches token i times 2^(G_i - E_j)."""
    G = tl.cumsum(g, 0)
    return G, G - w, tl.sum(g, 0)


@triton.jit
def weighed(log_den, offsets, keep, G, EXP: tl.constexpr):
    """(R, U): rows' exponents R_i = G_i - log2 den_i - U <= 0, where U is the chunk's largest -log2 den."""
    if EXP:
        b_log = tl.load(log_den + offsets, mask=keep, other=0.0)
        U = tl.max(tl.where(keep, -b_log, -WIDEST), 0)
        R = G - tl.where(keep, b_log + U, 0.0)
    else:
        U = 0.0
        R = G
    return R, U


@triton.jit
def start_stabilised(
    C,
    n,
    C_start,
    n_start,
    m_start,
    states,
    totals,
    tops,
    sequence,
    h,
    state_slot,
    segment,
    k,
    v,
    rows_k,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    SIZE: tl.constexpr,
    EXP: tl.constexpr,
    JOINED: tl.constexpr,
):
    """(C, n, m) that a forward program starts from, added to the zeros C and n.

    It is the sequence's own start and, JOINED, the contributions of all segments before this one, in `states`. Each is
    stabilised by its own top; of two parts, the one with the lower stabiliser is brought to the other's.
    C_start, n_start, m_start: [N, HS, ...] or None; totals, tops: [slots, HS], see mlstm_segment_state_kernel
    k, v: elements of C, broadcast against each other; rows_k: elements of n
    """
    m = tl.full([1], EMPTY, tl.float32)
    if C_start is not None:
        index = sequence * HS + h
        C += load_state(C_start, index, k, v, K=K, V=V, SIZE=K * V)
        if EXP:
            n += load_normaliser(n_start, index, rows_k, K, K)
            m = at_least(tl.load(m_start + index + tl.arange(0, 1)).to(tl.float32), EMPTY)
    if JOINED:
        for i in tl.range(0, segment, num_stages=1):
            index = (state_slot - segment + i) * HS + h
            passed = tl.load(totals + index + tl.arange(0, 1))
            contribution = load_state(states, index, k, v, K=K, V=V, SIZE=SIZE)
            if EXP:
                top = tl.load(tops + index + tl.arange(0, 1))
                after = tl.maximum(m + passed, top)
                kept = tl.exp(passed + (m - after))
                added = tl.exp(top - after)
                C = C * kept[:, None] + contribution * added[:, None]
                n = n * kept + load_normaliser(states + K * V, index, rows_k, K, SIZE) * added
                m = after
            else:
                C = C * tl.exp2(passed)[:, None] + contribution
    return C, n, m
