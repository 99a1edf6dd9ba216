"""Inputs: what the PyTorch forms of linear attention do to q, k, v and a state before they multiply."""

from __future__ import annotations

import torch

from kernels.common.heads import expand_heads
from kernels.linear_attention.spec import FEATURE_MAPS

State = torch.Tensor | tuple[torch.Tensor, ...]


def features(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, feature_map: str) -> tuple[torch.Tensor, ...]:
    """phi(q), phi(k) and v with max(H, HV) heads each: [B,T,HS,K], [B,T,HS,K], [B,T,HS,V]."""
    phi, heads = FEATURE_MAPS[feature_map], max(q.shape[2], v.shape[2])
    return expand_heads(phi(q), heads), expand_heads(phi(k), heads), expand_heads(v, heads)


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
