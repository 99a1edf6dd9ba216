"""The decode step of retention in Triton: the public function; its kernel is in kernels/scalar_decay/decode.py."""

from __future__ import annotations

from kernels.common.arguments import state_heads
from kernels.scalar_decay.autograd import Gates
from kernels.scalar_decay.decode import step_scalar_decay
from kernels.scalar_decay.register import of_step
from kernels.scalar_decay.retention.spec import log_decays, retention


@retention.implementation("triton_step", **of_step())
def step_retention(q, k, v, log_decay=None, *, state, scale: float | None = None):
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V]; state S [B,HS,K,V] is updated in place, in one launch.

    log_decay [HS] is log gamma_h; None takes the paper's.
    The state must be contiguous. Raises UsageError on bad input.
    """
    if log_decay is None:
        log_decay = log_decays(state_heads(q, v), device=q.device)
    return step_scalar_decay(q, k, v, Gates(log_decay=log_decay.detach()), state=state, scale=scale)
