"""Linear attention of flash-linear-attention: adapters to fla-core 0.6. Its kernels are in Triton.

Entries: fla.ops.linear_attn.chunk_linear_attn and fused_recurrent_linear_attn. They take mapped q and k with equal
heads: the feature map and the repetition of grouped heads are done before in PyTorch, as in the library's own layer,
and belong to the time. Where normalised, its state is (S [N,H,K,V], z [N,1,H,K]) and its eps is 1e-10, not 1e-6.
Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from baselines.fla_core import requirement
from baselines.scalar_decay.linear_attention.inputs import State, features, unpack
from kernels.scalar_decay.linear_attention.spec import features_of, linear_attention
from suite import Problem
from suite.problem import Value

FLA = requirement("fla.ops.linear_attn")
HALVES = ("bfloat16", "float16")


def supports_chunk(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why chunk_linear_attn cannot serve a problem, or None."""
    odd = [f"{name}{dim}" for name, dim in (("K", features_of(problem)), ("V", problem.V)) if dim % 2]
    if problem.differentiates and odd:
        return f"the backward pass of fla's chunk_linear_attn takes even head dimensions, not {' '.join(odd)}"
    return None


def _call(
    entry: Callable[..., Any],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    state: State | None,
    projection: torch.Tensor | None,
    feature_map: str,
    normalised: bool,
    scale: float | None,
    **options: Any,
) -> tuple[torch.Tensor, State | None]:
    qf, kf, vf = features(q, k, v, feature_map, projection)
    # Its default would be one over the root of the features.
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    S, z = unpack(state, normalised)
    initial = S if z is None else (S, z[:, None])
    o, final = entry(qf, kf, vf, initial_state=initial, normalize=normalised, scale=scale, **options)
    if normalised:
        S, z = final
        final = None if S is None else (S, z.squeeze(1))
    return o.to(v.dtype), final


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@linear_attention.implementation(
    "fla_chunk", origin="peer", devices={"cuda", "interpret"}, dtypes=HALVES, requires=FLA, supports=supports_chunk
)
def fla_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    projection: torch.Tensor | None = None,
    feature_map: str = "identity",
    normalised: bool = False,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, State | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], final state or None), in chunks of 64 tokens.

    chunk_linear_attn has no parameter for boundaries on the CPU: a packed call waits for the device to read them.
    """
    from fla.ops.linear_attn import chunk_linear_attn  # pyright: ignore[reportMissingImports]

    return _call(
        chunk_linear_attn,
        q,
        k,
        v,
        initial_state,
        projection,
        feature_map,
        normalised,
        scale,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


@linear_attention.implementation("fla_fused_recurrent", origin="peer", devices={"cuda", "interpret"}, requires=FLA)
def fla_fused_recurrent(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    projection: torch.Tensor | None = None,
    feature_map: str = "identity",
    normalised: bool = False,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, State | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], final state or None), one token at a time."""
    from fla.ops.linear_attn import fused_recurrent_linear_attn  # pyright: ignore[reportMissingImports]

    return _call(
        fused_recurrent_linear_attn,
        q,
        k,
        v,
        initial_state,
        projection,
        feature_map,
        normalised,
        scale,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


@linear_attention.implementation(
    "fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA
)
def fla_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    state: State,
    projection: torch.Tensor | None = None,
    feature_map: str = "identity",
    normalised: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V] by fused_recurrent_linear_attn.

    The library returns a new state; copying it into `state` belongs to the cost of a step that updates in place.
    """
    from fla.ops.linear_attn import fused_recurrent_linear_attn  # pyright: ignore[reportMissingImports]

    o, final = _call(
        fused_recurrent_linear_attn, q, k, v, state, projection, feature_map, normalised, scale, output_final_state=True
    )
    for mine, new in zip(unpack(state, normalised), unpack(final, normalised), strict=True):
        if mine is not None and new is not None:
            mine.copy_(new)
    return o
