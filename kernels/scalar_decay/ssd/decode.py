"""The decode step of SSD in Triton: the public function; its kernel is in kernels/scalar_decay/decode.py."""

from __future__ import annotations

from kernels.common.arguments import check_given
from kernels.scalar_decay.autograd import Gates
from kernels.scalar_decay.decode import step_scalar_decay
from kernels.scalar_decay.register import of_step
from kernels.scalar_decay.ssd.spec import given, ssd


@ssd.implementation("triton_step", **of_step())
def step_ssd(q, k, v, dt, A, D=None, z=None, *, state, skip: bool | None = None, gated: bool | None = None):
    """q (C), k (B) [B,1,H,K], v (x) [B,1,HV,V] -> o [B,1,HV,V]; state S [B,HV,K,V] is updated in place, in one launch.

    dt [B,1,HV], A, D [HV] and z [B,1,HV,V] are as spec.py defines them. The state must be contiguous. Raises UsageError
    on bad input.
    """
    given(D, z, skip, gated)
    check_given(dt=dt, A=A)
    return step_scalar_decay(q, k, v, Gates(dt=dt, A=A, skip=D, out_gate=z), state=state, scale=1.0)
