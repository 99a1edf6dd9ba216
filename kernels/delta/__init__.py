"""The delta rule with a scalar gate: what delta_rule, gated_delta_rule and gated_delta_product share.

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        o_t = s S_t^T q_t

`spec.py` holds recurrence, inputs and cost (no Triton); `device.py` what kernels call; `forward.py`, `segments.py`,
`backward.py` and `step.py` the kernels; `tiles.py` and `plan.py` choose regime and tiles; `chunked.py` launches them,
`function.py` is differentiable. README.md has the equations in chunks and the byte budget.
"""
