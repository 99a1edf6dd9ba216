"""Linear attention, one decode step in Triton: the kernel is in kernels/scalar_decay/decode.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kernels.common.arguments import given
from kernels.feature_maps.function import mapped
from kernels.feature_maps.registry import map_named
from kernels.scalar_decay.autograd import check_tensors
from kernels.scalar_decay.decode import step_scalar_decay
from kernels.scalar_decay.linear_attention.chunk import on_chip, supports
from kernels.scalar_decay.linear_attention.spec import features_of, linear_attention
from kernels.scalar_decay.register import of_step
from suite import Problem
from suite.problem import Value


def _registration() -> dict[str, Any]:
    registration = of_step(lambda problem: bool(problem.axis("normalised")))

    def configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
        return registration["configuration"](problem.replace(K=features_of(problem)), tunables)

    return {**registration, "supports": supports, "configuration": configuration}


@linear_attention.implementation("triton_step", **_registration())
def step_linear_attention(
    q,
    k,
    v,
    *,
    state,
    projection=None,
    feature_map: str = "identity",
    normalised: bool = False,
    scale: float | None = None,
):
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V]; the state is updated in place, in one launch.

    state: S [B,HS,F,V], normalised the pair (S, z [B,HS,F]), contiguous, for F features. For maps that are not
    computed on chip, a launch or PyTorch computes the features first. Raises UsageError on bad input.
    """
    phi = map_named(feature_map)
    K = check_tensors(q, k, v, given({"projection": (projection, "M K")}), scale=scale)["K"]
    scale = K**-0.5 if scale is None else scale
    if not on_chip(feature_map, differentiated=False):
        q, k = mapped(phi, q, k, projection)
        feature_map = "identity"
    return step_scalar_decay(
        q, k, v, state=state, feature_map=feature_map, normalised=normalised, scale=scale, eps=phi.eps
    )
