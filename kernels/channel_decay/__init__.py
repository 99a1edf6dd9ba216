"""Linear recurrences whose [K, V] state decays by a gate a channel: GLA, HGRN-2 and RWKV-6 share these kernels.

    S_t = diag(e^g_t) S_{t-1} + k_t v_t^T
    o_t = s q_t^T S_t, or with a bonus u: s q_t^T (S_{t-1} + diag(u) k_t v_t^T)

In a tile of tokens let G_t be the sum of g up to token t, E that of the whole tile, R_t the decay that token t reads
through: G_t, or G_{t-1} with a bonus. With h = E / 2, q' = s q e^{R-h}, k' = k e^{h-G} and f = e^h, every pass is one
sweep of plain linear attention over tiles, with a slice of the state X on chip whose channels are scaled by f before
and after a tile:

| sweep  | direction | a  | b  | c (sliced) | X (sliced)   | channels of X | result      |
|--------|-----------|----|----|------------|--------------|---------------|-------------|
| output | forward   | q' | k' | v          | S [K, BV]    | rows          | o           |
| dq     | forward   | do | v  | k'         | S^T [V, BK]  | columns       | s e^{R-h} x |
| dk     | backward  | v  | do | q'         | dS^T [V, BK] | columns       | e^{h-G} x   |
| dv     | backward  | k' | q' | do         | dS [K, BV]   | rows          | dv          |

    X = f X        out_t = a_t X + sum_j (a_t . b_j) c_j        X = f (X + b^T c)

`device.py` holds what kernels call, `forward.py`, `segments.py`, `backward_dq.py`, `backward_dk.py`, `backward_dv.py`
and `backward_dk_dv.py` the kernels, `plan.py` chooses regime and tiles, `launch.py` launches them, `autograd.py` is
differentiable, `decode.py` is the decode step, `reference.py` the specification that the operators share.
"""
