"""Naive: a decayed recurrence by the full matrix of scores, multiplied in float32.

    A_ij = s q_i . k_j exp(G_i - G_j), j <= i        O = A V + s exp(G) Q S_0        G: sums of the log decays

The T x T scores of every head lie in memory, masked ones too. Source: Sun et al. 2023, arXiv:2307.08621, equation 5.
"""

from __future__ import annotations

import torch

from baselines.precision import widen
from baselines.scalar_decay.decay import a_token, between, cumulated
from kernels.common.heads import expand_heads
from kernels.common.packed import apart, host_copy, per_sequence


def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [HS] or [B,T,HS] -> (o [B,T,HS,V], S [N,HS,K,V] or None)."""
    heads = max(q.shape[2], v.shape[2])
    log_decay = a_token(log_decay, q, heads)
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, q)
    if apart(q, bounds):
        o, final = per_sequence(
            naive,
            q,
            k,
            v,
            log_decay,
            cu_seqlens=bounds,
            scale=scale,
            initial_state=initial_state,
            output_final_state=output_final_state,
        )
        assert not isinstance(final, tuple)
        return o, final
    # [B, HS, T, D]
    qf, kf, vf = (expand_heads(widen(x), heads).transpose(1, 2) for x in (q, k, v))
    qf = qf * (q.shape[-1] ** -0.5 if scale is None else scale)
    G = cumulated(log_decay.transpose(1, 2))
    o = (qf @ kf.transpose(-1, -2) * between(G, G, qf.dtype)) @ vf
    if initial_state is not None:
        o = o + G.exp().to(qf.dtype)[..., None] * (qf @ widen(initial_state))
    final = None
    if output_final_state:
        left = (G[..., -1:] - G).exp().to(kf.dtype)
        S = (kf * left[..., None]).transpose(-1, -2) @ vf
        if initial_state is not None:
            S = S + G[..., -1].exp().to(S.dtype)[..., None, None] * widen(initial_state)
        final = S if initial_state is None else S.to(initial_state.dtype)
    return o.transpose(1, 2).to(v.dtype), final
