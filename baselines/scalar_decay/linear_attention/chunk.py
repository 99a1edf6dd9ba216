"""Chunkwise linear attention in PyTorch: all chunks at once, their states joined by one cumulative sum.

    KV_c = phi(K_c)^T V_c        S_c = S_0 + sum_{i<c} KV_i
    O_c = s (phi(Q_c) S_c + tril(phi(Q_c) phi(K_c)^T) V_c)

Without causality the whole sequence is one chunk, and every token reads the state after it.

Products are in the dtype of the inputs, as tensor cores want them; states and normalisers are summed in float32. Where
a normalised form is differentiated, products are in float32 too: the two parts of a quotient's gradient cancel, and
what is left of dq misses bfloat16's error limit.
Sources: Katharopoulos et al. 2020, arXiv:2006.16236; the chunkwise form: Hua et al. 2022, arXiv:2202.10447.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from baselines.precision import widen
from baselines.scalar_decay.linear_attention.inputs import State, features, pack, unpack
from kernels.common.packed import apart, host_copy, per_sequence
from kernels.scalar_decay.linear_attention.spec import features_of, linear_attention, map_named
from suite import Problem
from suite.problem import Value


def chunk_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs on full C x C tiles, the last chunk of each sequence padded; of operators that are always causal, too.

    A token and head costs 4FV + 2C (F + V) forward, for F features and C = 0 without causality; backward each product
    becomes two, and none is done again.
    """
    p, chunk, F = problem, int(tunables["chunk"]), features_of(problem)
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]
    if not dict(p.axes).get("causal", True):
        return factor * 4.0 * p.tokens * p.HS * F * p.V
    sizes = [(T, count, min(chunk, T)) for T, count in p.lengths.items()]
    tiles = [(count * -(-T // C) * C, C) for T, count, C in sizes]
    return factor * sum(tokens * p.HS * (4.0 * F * p.V + 2.0 * C * (F + p.V)) for tokens, C in tiles)


@linear_attention.implementation(
    "torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128, 256)}, flops_exec=chunk_flops
)
def torch_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    *,
    projection: torch.Tensor | None = None,
    chunk: int = 64,
    feature_map: str = "identity",
    normalised: bool = False,
    causal: bool = True,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, State | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], S [N,HS,F,V], with z [N,HS,F] where normalised).

    A sequence shorter than a chunk is one chunk of its length; packed sequences are run one after the other.
    """
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
            torch_chunk,
            q,
            k,
            v,
            cu_seqlens=bounds,
            initial_state=initial_state,
            output_final_state=output_final_state,
            chunk=chunk,
            **options,
        )
    dtype = v.dtype
    if normalised and torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        q, k, v = widen(q), widen(k), widen(v)
    T = q.shape[1]
    C = min(chunk, T) if causal else T
    s = q.shape[-1] ** -0.5 if scale is None else scale
    qc, kc, vc = (_split(x, C) for x in features(q, k, v, feature_map, projection))
    S0, z0 = unpack(initial_state, normalised)
    S, final_S = _running(kc.transpose(-1, -2) @ vc, S0)
    S = S if causal else final_S[:, None]
    o = widen(qc @ S.to(qc.dtype))
    scores = (qc @ kc.transpose(-1, -2)).tril() if causal else None
    if scores is not None:
        o = o + widen(scores @ vc)
    o, final_z = s * o, None
    if normalised:
        z, final_z = _running(widen(kc).sum(-2), z0)
        total = (widen(qc) @ (z if causal else final_z[:, None])[..., None]).squeeze(-1)
        if scores is not None:
            total = total + widen(scores).sum(-1)
        o = o / (s * total + map_named(feature_map).eps)[..., None]
    final = pack(final_S, final_z, initial_state) if output_final_state else None
    return o.to(dtype).transpose(2, 3).flatten(1, 2)[:, :T], final


def _split(x: torch.Tensor, C: int) -> torch.Tensor:
    """[B, T, HS, D] -> [B, chunks, HS, C, D], the last chunk padded with zeros."""
    padded = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % C))
    return padded.unflatten(1, (-1, C)).transpose(2, 3).contiguous()


def _running(parts: torch.Tensor, first: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Sums of [B, chunks, HS, …] before each chunk, starting from `first` [B, HS, …], and the sum after the last."""
    parts = widen(parts)
    first = torch.zeros_like(parts[:, 0]) if first is None else widen(first)
    sums = torch.cat([first[:, None], parts], dim=1).cumsum(1)
    return sums[:, :-1], sums[:, -1]
