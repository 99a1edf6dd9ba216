"""Delta rules whose [K, V] state decays by a gate a channel: Kimi Delta Attention and RWKV-7 share these kernels.

    u_t = x_t + a_t^T S_{t-1}        S_t = diag(e^g_t) S_{t-1} + b_t u_t^T (+ k_t v_t^T)        o_t = s q_t^T S_t

| operator | a | b | x | in parentheses |
|---|---|---|---|---|
| Kimi Delta Attention | -e^g k | beta k | v | - |
| RWKV-7 (DPLR) | a | b | 0 | there |

`device.py` holds what kernels call and how decays between tokens are taken. Without a backward pass `fused.py` makes
the whole forward pass from the inputs; else `prepare.py` makes what a chunk needs of its own tokens, and `forward.py`,
`segments.py`, `reverse.py` and `gradients.py` take it from memory. `plan.py` chooses regime and tiles, `launch.py`
launches them, `autograd.py` is differentiable, `decode.py` is the decode step, `register.py` what the operators
register. README.md has the decomposition and the byte budget.
"""
