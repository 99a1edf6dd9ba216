"""Naive: linear attention by the full matrix of scores, multiplied in float32.

    A = tril(s phi(Q) phi(K)^T)        O = (A V + s phi(Q) S_0) / (A 1 + s phi(Q) z_0 + eps)

The quotient is taken where normalised, the lower triangle where causal. The T x T scores of every head lie in memory,
masked ones too.
Source: Katharopoulos et al. 2020, arXiv:2006.16236, section 3.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from baselines.precision import widen
from baselines.scalar_decay.linear_attention.inputs import State, features, pack, unpack
from kernels.common.packed import apart, host_copy, per_sequence
from kernels.scalar_decay.linear_attention.spec import features_of, linear_attention, map_named
from suite import Problem
from suite.problem import Value


def square_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of the full square, masked scores included.

    A pair and head costs 2 (F + V) forward and 2 (2F + 2V) backward, for F features; a token and head costs 4FV more
    where a state goes in and comes out, and twice that backward.
    """
    p, F = problem, features_of(problem)
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]
    pairs = sum(T * T * count for T, count in p.lengths.items()) * p.HS
    return factor * (2.0 * pairs * (F + p.V) + 4.0 * p.tokens * p.HS * F * p.V * p.initial_state)


@linear_attention.implementation("naive", origin="baseline", flops_exec=square_flops)
def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    projection: torch.Tensor | None = None,
    feature_map: str = "identity",
    normalised: bool = False,
    causal: bool = True,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, State | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], S [N,HS,F,V], with z [N,HS,F] where normalised)."""
    options = {
        "projection": projection,
        "feature_map": feature_map,
        "normalised": normalised,
        "causal": causal,
        "scale": scale,
    }
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, q)
    if apart(q, bounds):
        return per_sequence(
            naive,
            q,
            k,
            v,
            cu_seqlens=bounds,
            initial_state=initial_state,
            output_final_state=output_final_state,
            **options,
        )
    # [B, HS, T, D]
    qf, kf, vf = (x.transpose(1, 2) for x in features(widen(q), widen(k), widen(v), feature_map, projection))
    qf = qf * (q.shape[-1] ** -0.5 if scale is None else scale)
    scores = qf @ kf.transpose(-1, -2)
    scores = scores.tril() if causal else scores
    o, total = scores @ vf, scores.sum(-1)
    S, z = unpack(initial_state, normalised)
    if S is not None:
        o = o + qf @ widen(S)
    if z is not None:
        total = total + (qf @ widen(z)[..., None]).squeeze(-1)
    if normalised:
        o = o / (total + map_named(feature_map).eps)[..., None]
    final = _final(kf, vf, S, z, normalised, initial_state) if output_final_state else None
    return o.transpose(1, 2).to(v.dtype), final


def _final(
    kf: torch.Tensor,
    vf: torch.Tensor,
    S: torch.Tensor | None,
    z: torch.Tensor | None,
    normalised: bool,
    initial_state: State | None,
) -> State:
    new_S, new_z = kf.transpose(-1, -2) @ vf, kf.sum(-2)
    new_S = new_S if S is None else widen(S) + new_S
    new_z = new_z if z is None else widen(z) + new_z
    return pack(new_S, new_z if normalised else None, initial_state)
