"""Decode step of a decayed recurrence in PyTorch: S = exp(g) S + k v^T in place, then o = s q^T S.

Source: Sun et al. 2023, arXiv:2307.08621, equation 6.
"""

from __future__ import annotations

import torch

from baselines.precision import widen
from baselines.scalar_decay.decay import a_token
from kernels.common.heads import expand_heads


def torch_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    state: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], log_decay [HS] or [B,1,HS] -> o [B,1,HS,V].

    state [B,HS,K,V] is updated in place.
    """
    heads = max(q.shape[2], v.shape[2])
    qf, kf, vf = (expand_heads(widen(x), heads).squeeze(1) for x in (q, k, v))
    qf = qf * (q.shape[-1] ** -0.5 if scale is None else scale)
    decay = a_token(log_decay, q, heads).squeeze(1).exp()
    state.mul_(decay[..., None, None]).addcmul_(kf[..., None].to(state.dtype), vf[..., None, :].to(state.dtype))
    o = widen(qf[..., None, :].to(state.dtype) @ state).squeeze(-2)
    return o[:, None].to(v.dtype)
