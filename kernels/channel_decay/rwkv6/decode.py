"""The decode step of RWKV-6 in Triton: the public function; its kernel is in kernels/channel_decay/decode.py."""

from __future__ import annotations

from kernels.channel_decay.decode import registration, step_channel_decay
from kernels.channel_decay.rwkv6.spec import rwkv6
from kernels.common.arguments import check_given


@rwkv6.implementation("triton_step", **registration())
def step_rwkv6(q, k, v, log_decay, u, *, state, scale: float | None = None):
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], log_decay [B,1,HS,K], u [HS,K] -> o [B,1,HS,V]; S updated in place.

    One launch. Raises UsageError on bad input.
    """
    check_given(k=k, u=u)
    return step_channel_decay(q, k, v, log_decay, u=u, state=state, scale=1.0 if scale is None else scale)
