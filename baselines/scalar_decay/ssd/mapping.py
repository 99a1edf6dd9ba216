"""SSD as simple GLA: what libraries and forms without dt, A, D and z are given, and what is done to their output."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from baselines.precision import widen
from kernels.common.heads import expand_heads


def weighted(v: torch.Tensor, dt: torch.Tensor) -> torch.Tensor:
    """u = dt v in v's dtype: v [B,T,HV,V], dt [B,T,HS] -> [B,T,HS,V]."""
    return (widen(expand_heads(v, dt.shape[2])) * dt[..., None]).to(v.dtype)


def finished(o: torch.Tensor, v: torch.Tensor, D: torch.Tensor | None, z: torch.Tensor | None) -> torch.Tensor:
    """(o + D v) silu(z) in v's dtype; D [HS] and z [B,T,HS,V] may be left out."""
    if D is not None:
        o = widen(o) + D[:, None] * widen(expand_heads(v, o.shape[2]))
    if z is not None:
        o = widen(o) * F.silu(widen(z))
    return o.to(v.dtype)
