"""Decode step of linear attention in PyTorch: S += phi(k) v^T in place, then o = s phi(q)^T S.

Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.4.
"""

from __future__ import annotations

import torch

from baselines.precision import widen
from baselines.scalar_decay.linear_attention.inputs import State, features, unpack
from kernels.scalar_decay.linear_attention.spec import linear_attention, map_named


@linear_attention.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
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
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V]; in place: S [B,HS,F,V], z [B,HS,F] where normalised."""
    qf, kf, vf = (x.squeeze(1) for x in features(widen(q), widen(k), widen(v), feature_map, projection))
    qf = qf * (q.shape[-1] ** -0.5 if scale is None else scale)
    S, z = unpack(state, normalised)
    assert S is not None
    # addcmul_ reads and writes S once, without an outer product in memory.
    S.addcmul_(kf[..., None].to(S.dtype), vf[..., None, :].to(S.dtype))
    o = widen(qf[..., None, :].to(S.dtype) @ S).squeeze(-2)
    if z is not None:
        z.add_(kf)
        o = o / ((qf * widen(z)).sum(-1, keepdim=True) + map_named(feature_map).eps)
    return o[:, None].to(v.dtype)
