"""The decode step of HGRN-2 in Triton: the public function; its kernel is in kernels/channel_decay/decode.py."""

from __future__ import annotations

from kernels.channel_decay.decode import registration, step_channel_decay
from kernels.channel_decay.hgrn2.spec import hgrn2


@hgrn2.implementation("triton_step", **registration())
def step_hgrn2(q, v, log_decay, *, state, scale: float | None = None):
    """q [B,1,H,K], v [B,1,HV,V], log_decay [B,1,HS,K] -> o [B,1,HS,V]; S [B,HS,K,V] updated in place, in one launch.

    Raises UsageError on bad input.
    """
    return step_channel_decay(q, None, v, log_decay, state=state, scale=scale)
