"""Lightning_attention, one decode step in Triton: the kernel is in kernels/scalar_decay/decode.py."""

from __future__ import annotations

from kernels.common.arguments import state_heads
from kernels.scalar_decay.autograd import Gates
from kernels.scalar_decay.decode import step_scalar_decay
from kernels.scalar_decay.lightning_attention.spec import lightning_attention, log_decays
from kernels.scalar_decay.register import of_step


@lightning_attention.implementation("triton_step", **of_step())
def step_lightning_attention(q, k, v, log_decay=None, *, state, layer: float = 0.0, scale: float | None = None):
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V]; state S [B,HS,K,V] is updated in place, in one launch.

    log_decay [HS] is g_h; None takes the paper's for layer = l / L.
    The state must be contiguous. Raises UsageError on bad input.
    """
    if log_decay is None:
        log_decay = log_decays(state_heads(q, v), layer, q.device)
    return step_scalar_decay(q, k, v, Gates(log_decay=log_decay.detach()), state=state, scale=scale)
