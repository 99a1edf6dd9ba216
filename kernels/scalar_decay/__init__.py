"""Linear recurrences with a [K, V] state: the kernels that linear attention and its decayed relatives share.

    S_t = e^{g_t} S_{t-1} + w_t phi(k_t) v_t^T        o_t = s phi(q_t)^T S_t [ / (s phi(q_t) . z_t + eps) ]

Every pass is one sweep over chunks with a slice of the state on chip. With a_t, b_t, c_t for its rows and X for the
state, a sweep computes out_t = a_t X + sum_j (a_t . b_j) c_j over the chunk's tokens j up to t (in the sweep's
direction), then X += b^T c; decays multiply a_t X, the pairs (t, j), c_j and X. README.md has them.

| sweep  | direction | a  | b  | c (sliced) | X (sliced)      |
|--------|-----------|----|----|------------|-----------------|
| output | forward   | q  | k  | v          | S [K, BV]       |
| dq     | forward   | do | v  | k          | S^T [V, BK]     |
| dk     | backward  | v  | do | q          | dS^T [V, BK]    |
| dv     | backward  | k  | q  | do         | dS [K, BV]      |

`device.py` holds what kernels call, `forward.py`, `backward.py` (dq), `backward_dk_dv.py`, `segments.py` and `gates.py`
the kernels, `plan.py` chooses regime and tiles for a `shape.py`, from `tiles.py` or what `configs.py` finds tuned,
`launch.py` launches them, `autograd.py` is differentiable, `decode.py` is the decode step. `register.py` is what
operators register beside their functions, `reference.py` what they are specified by.
"""
