"""The decode step of the gated delta rule in Triton, registered: the kernel is in kernels/delta/decode.py."""

from __future__ import annotations

from kernels.common.arguments import check_given
from kernels.delta.decode import step_delta
from kernels.delta.gated_delta_rule.spec import gated_delta_rule
from kernels.delta.register import STEP


@gated_delta_rule.implementation("triton_step", **STEP)
def step_gated_delta_rule(q, k, v, beta, log_decay, *, state, l2norm: bool = False, scale: float | None = None):
    """q, k [B,1,H,K], v [B,1,HV,V], beta, log_decay [B,1,HV] -> o [B,1,HV,V], in one launch.

    state [B,HV,K,V], contiguous, is updated in place. Raises UsageError on bad input.
    """
    check_given(log_decay=log_decay)
    return step_delta(q, k, v, beta, log_decay, state=state, steps=1, l2norm=l2norm, scale=scale)
