"""Inputs: what the PyTorch forms of linear attention do to q, k, v and a state before they multiply."""

from __future__ import annotations

import torch

from kernels.common.heads import expand_heads
from kernels.scalar_decay.linear_attention.spec import map_named

State = torch.Tensor | tuple[torch.Tensor, ...]


def features(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, feature_map: str, projection: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """phi(q), phi(k) and v with max(H, HV) heads each: [B,T,HS,F], [B,T,HS,F], [B,T,HS,V]."""
    phi, heads = map_named(feature_map), max(q.shape[2], v.shape[2])
    mapped = phi(q, projection, query=True), phi(k, projection), v
    return tuple(expand_heads(x, heads) for x in mapped)


def unpack(state: State | None, normalised: bool) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """(S, z) of a state, z None where it is not normalised; (None, None) of none."""
    if state is None:
        return None, None
    if not normalised:
        assert isinstance(state, torch.Tensor)
        return state, None
    S, z = state
    return S, z


def pack(S: torch.Tensor, z: torch.Tensor | None, like: State | None) -> State:
    """The final state S, or (S, z), in the dtype of the initial one, or as it was computed where there was none."""
    given = like[0] if isinstance(like, tuple) else like
    dtype = S.dtype if given is None else given.dtype
    return S.to(dtype) if z is None else (S.to(dtype), z.to(dtype))
