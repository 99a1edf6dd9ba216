"""Gated linear attention, one decode step in Triton: the kernel is in kernels/channel_decay/decode.py."""

from __future__ import annotations

from kernels.channel_decay.decode import registration, step_channel_decay
from kernels.channel_decay.gated_linear_attention.spec import gated_linear_attention
from kernels.common.arguments import check_given


@gated_linear_attention.implementation("triton_step", **registration())
def step_gated_linear_attention(q, k, v, log_decay, *, state, scale: float | None = None):
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], log_decay [B,1,HS,K] -> o [B,1,HS,V]; S [B,HS,K,V] updated in place.

    One launch. Raises UsageError on bad input.
    """
    check_given(k=k)
    return step_channel_decay(q, k, v, log_decay, state=state, scale=scale)
