"""The decode step of gated delta products in Triton, registered: the kernel is in kernels/delta/decode.py."""

from __future__ import annotations

from kernels.common.arguments import check_given
from kernels.delta.decode import step_delta
from kernels.delta.gated_delta_product.spec import gated_delta_product
from kernels.delta.register import STEP


@gated_delta_product.implementation("triton_step", **STEP)
def step_gated_delta_product(
    q, k, v, beta, log_decay, *, state, steps: int = 2, l2norm: bool = False, scale: float | None = None
):
    """q [B,1,H,K], k [B,1,n,H,K], v [B,1,n,HV,V], beta [B,1,n,HV], log_decay [B,1,HV] -> o [B,1,HV,V], in one launch.

    state [B,HV,K,V], contiguous, is updated in place. Raises UsageError on bad input.
    """
    check_given(log_decay=log_decay)
    return step_delta(q, k, v, beta, log_decay, state=state, steps=steps, l2norm=l2norm, scale=scale)
