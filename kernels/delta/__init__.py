"""The delta rule with a scalar gate: what delta_rule, gated_delta_rule and gated_delta_product share.

    S_t = a_t (I - b_t k_t k_t^T) S_{t-1} + b_t k_t v_t^T        o_t = s S_t^T q_t

`reference.py` has recurrence, inputs and cost (no Triton), `device.py` the functions that kernels call. `forward.py`,
`segments.py`, `backward.py` and `decode.py` have the kernels. `tiles.py` and `plan.py` choose regime and tiles,
`launch.py` launches the kernels, `autograd.py` makes them differentiable. README.md has the equations in chunks and
predicted times.
"""
