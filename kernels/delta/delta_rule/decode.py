"""The decode step of the delta rule in Triton, registered: the kernel is in kernels/delta/decode.py."""

from __future__ import annotations

from kernels.delta.decode import step_delta
from kernels.delta.delta_rule.spec import delta_rule
from kernels.delta.register import STEP


@delta_rule.implementation("triton_step", **STEP)
def step_delta_rule(q, k, v, beta, *, state, l2norm: bool = False, scale: float | None = None):
    """q, k [B,1,H,K], v [B,1,HV,V], beta [B,1,HV] -> o [B,1,HV,V], in one launch.

    state [B,HV,K,V], contiguous, is updated in place. Raises UsageError on bad input.
    """
    return step_delta(q, k, v, beta, None, state=state, steps=1, l2norm=l2norm, scale=scale)
