"""The decode step of RWKV-7 in Triton, registered: the kernel is in kernels/channel_delta/decode.py."""

from __future__ import annotations

from kernels.channel_delta.decode import step_channel_delta
from kernels.channel_delta.register import step_configuration, supports
from kernels.channel_delta.rwkv7.spec import rwkv7


@rwkv7.implementation(
    "triton_step",
    origin="ours",
    devices={"cuda", "interpret"},
    passes={"decode"},
    supports=supports,
    configuration=step_configuration,
)
def step_rwkv7(q, k, v, log_decay, a, b, *, state, scale: float | None = None):
    """q, k [B,1,H,K], v [B,1,HV,V], log_decay, a, b [B,1,HV,K] -> o [B,1,HV,V], in one launch.

    state: S [B,HV,K,V], contiguous, updated in place. Raises UsageError on bad input.
    """
    return step_channel_delta(q, k, v, log_decay, a=a, b=b, state=state, scale=1.0 if scale is None else scale)
