"""The decode step of Kimi Delta Attention in Triton, registered: the kernel is in kernels/channel_delta/decode.py."""

from __future__ import annotations

from kernels.channel_delta.decode import step_channel_delta
from kernels.channel_delta.kimi_delta_attention.spec import kimi_delta_attention
from kernels.channel_delta.register import step_configuration, supports


@kimi_delta_attention.implementation(
    "triton_step",
    origin="ours",
    devices={"cuda", "interpret"},
    passes={"decode"},
    supports=supports,
    configuration=step_configuration,
)
def step_kimi_delta_attention(q, k, v, log_decay, beta, *, state, l2norm: bool = False, scale: float | None = None):
    """q, k [B,1,H,K], v [B,1,HV,V], log_decay [B,1,HV,K], beta [B,1,HV] -> o [B,1,HV,V], in one launch.

    state: S [B,HV,K,V], contiguous, updated in place. Raises UsageError on bad input.
    """
    return step_channel_delta(q, k, v, log_decay, beta=beta, state=state, scale=scale, l2norm=l2norm)
