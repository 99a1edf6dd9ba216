"""The decode step of linear attention in Triton: the operator's face on kernels/common/linear_state/step.py."""

from __future__ import annotations

from kernels.common.linear_state.faces import of_step
from kernels.common.linear_state.step import step_linear_state
from kernels.linear_attention.spec import EPS, FEATURE_MAPS, linear_attention
from suite.errors import unknown


@linear_attention.implementation("triton_step", **of_step(lambda problem: bool(problem.axis("normalised"))))
def step_linear_attention(q, k, v, *, state, feature_map: str = "identity", normalised: bool = False,
                          scale: float | None = None):  # fmt: skip
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V]; the state is updated in place, in one launch.

    state: S [B,HS,K,V], normalised the pair (S, z [B,HS,K]), contiguous. Raises UsageError on bad input.
    """
    if feature_map not in FEATURE_MAPS:
        raise unknown("feature map", feature_map, FEATURE_MAPS)
    return step_linear_state(q, k, v, state=state, feature_map=feature_map, normalised=normalised, scale=scale, eps=EPS)
