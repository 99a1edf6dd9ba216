"""Delta rules whose [K, V] state decays by a gate per channel: Kimi Delta Attention and RWKV-7 share these kernels.

    u_t = x_t + a_t^T S_{t-1}        S_t = diag(e^g_t) S_{t-1} + b_t u_t^T (+ k_t v_t^T)        o_t = s q_t^T S_t

| operator | a | b | x | in parentheses |
|---|---|---|---|---|
| Kimi Delta Attention | -e^g k | beta k | v | - |
| RWKV-7 (DPLR) | a | b | 0 | there |

`device.py` has the functions that kernels call, and the decays between tokens. `prepare.py` computes what depends on
one chunk alone, and `forward.py`, `segments.py`, `reverse.py` and `gradients.py` load it from memory. `plan.py` chooses
regime and tiles, `launch.py` launches the kernels, `autograd.py` makes them differentiable. `decode.py` is the decode
step, `register.py` has what the operators register. README.md has the decomposition and the byte budget.
"""
