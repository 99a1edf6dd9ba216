"""The decode step of linear attention in Triton: the operator's face on kernels/common/linear_state/step.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels.common.linear_state.plan import MAX_DIM
from kernels.common.linear_state.step import plan_step, step_linear_state
from kernels.linear_attention.spec import EPS, FEATURE_MAPS, linear_attention
from suite import Problem
from suite.errors import unknown
from suite.problem import Value


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why a problem can not be served, or None."""
    if max(problem.K, problem.V) > MAX_DIM:
        return f"triton_step takes head dims up to {MAX_DIM}"
    return None


def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    """The step's tile and programs a head."""
    width, slices, tiles, warps = plan_step(problem.K, problem.V, bool(problem.axis("normalised")))
    return {"step": {"slice": width, "slices": slices, "tiles": tiles, "warps": warps}}


@linear_attention.implementation(
    "triton_step",
    origin="ours",
    devices={"cuda", "interpret"},
    passes={"decode"},
    supports=supports,
    configuration=configuration,
)
def step_linear_attention(q, k, v, *, state, feature_map: str = "identity", normalised: bool = False,
                          scale: float | None = None):  # fmt: skip
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V]; the state is updated in place, in one launch.

    state: S [B,HS,K,V], normalised the pair (S, z [B,HS,K]), contiguous. Raises UsageError on bad input.
    """
    if feature_map not in FEATURE_MAPS:
        raise unknown("feature map", feature_map, FEATURE_MAPS)
    return step_linear_state(q, k, v, state=state, feature_map=feature_map, normalised=normalised, scale=scale, eps=EPS)
