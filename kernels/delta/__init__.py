"""The delta rule with a scalar gate: what delta_rule, gated_delta_rule and gated_delta_product share.

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        o_t = s S_t^T q_t

`reference.py` holds recurrence, inputs, cost (no Triton); `device.py` what kernels call; `forward.py`, `segments.py`,
`backward.py` and `decode.py` the kernels; `tiles.py` and `plan.py` choose regime and tiles; `launch.py` launches them,
`autograd.py` is differentiable. README.md has the equations in chunks and the byte budget.
"""
