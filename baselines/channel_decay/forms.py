"""Naive, chunkwise and stepwise forms of S = diag(e^g) S + k v^T, read after the decay or, with a bonus, before it.

G is the cumulative sum of g and R what a token reads through: G, or G one token earlier with a bonus u. All take
q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], g [B,T,HS,K], u [HS,K] or None, and return o [B,T,HS,V] in v's dtype and the
final state [N,HS,K,V] in the initial one's dtype, fp32 where there was none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F

from baselines.precision import widen
from kernels.common.heads import expand_heads
from kernels.common.packed import apart, host_copy, per_sequence
from suite import Problem
from suite.problem import Value

Result = tuple[torch.Tensor, torch.Tensor | None]
# Tokens of a block that is multiplied pair by pair: beyond it, a boundary between query and key keeps exponents <= 0.
BLOCK = 16
# A gate of -inf would make differences of sums inf - inf; below this a decay is 0 in fp32 anyway.
SMALLEST = -104.0


def naive(
    q,
    k,
    v,
    g,
    *,
    u=None,
    scale: float,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
) -> Result:
    """All pairs at once: A_tj = s sum_c q_tc k_jc e^(R_tc - G_jc), multiplied in fp32; T x T x K lies in memory."""
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, q)
    if apart(q, bounds):
        return _packed(naive, q, k, v, g, bounds, initial_state, output_final_state, u=u, scale=scale)
    dtype = v.dtype
    qf, kf, vf, gf = _heads_first(widen(q) * scale, widen(k), widen(v), widen(g))
    G, R = _sums(gf, u)
    scores = _pairs(qf, kf, G, R, None if u is None else widen(u)[:, None])
    o = scores @ vf
    if initial_state is not None:
        o = o + (qf * R.exp()) @ widen(initial_state)
    if not output_final_state:
        return o.transpose(1, 2).to(dtype), None
    S = (kf * (G[..., -1:, :] - G).exp()).transpose(-1, -2) @ vf
    if initial_state is not None:
        S = S + G[..., -1, :, None].exp() * widen(initial_state)
    return o.transpose(1, 2).to(dtype), _like(S, initial_state)


def chunked(
    q,
    k,
    v,
    g,
    *,
    u=None,
    scale: float,
    initial_state=None,
    output_final_state: bool = False,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    chunk: int,
) -> Result:
    """All chunks at once, in blocks of 16 tokens; states are joined chunk by chunk, a few operations each.

    Products are in the dtype of the inputs, states and sums of gates in float32.
    """
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, q)
    if apart(q, bounds):
        return _packed(chunked, q, k, v, g, bounds, initial_state, output_final_state, u=u, scale=scale, chunk=chunk)
    dtype, T = v.dtype, q.shape[1]
    C = min(chunk, -(-T // BLOCK) * BLOCK)
    qc, kc, vc, gc = (_split(x, C) for x in _heads_first(q, k, v, g, first=False))
    qc = qc * scale
    G, R = _sums(widen(gc), u)
    scores = _chunk_scores(widen(qc), widen(kc), widen(gc), u, dtype)
    left = (widen(kc) * (G[..., -1:, :] - G).exp()).to(dtype)
    states, final = _joined(widen(left.transpose(-1, -2) @ vc), G[..., -1, :].exp(), initial_state)
    o = widen((widen(qc) * R.exp()).to(dtype) @ states.to(dtype)) + widen(scores @ vc)
    o = o.to(dtype).transpose(2, 3).flatten(1, 2)[:, :T]
    return o, _like(final, initial_state) if output_final_state else None


def step(q, k, v, g, *, state: torch.Tensor, u=None, scale: float) -> torch.Tensor:
    """One token: q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], g [B,1,HS,K] -> o [B,1,HS,V]; state updated in place."""
    qf, kf, vf, gf = (x.squeeze(2) for x in _heads_first(widen(q) * scale, widen(k), widen(v), widen(g)))
    read = (qf[..., None, :].to(state.dtype) @ state) if u is not None else None
    # mul_ and addcmul_ pass over the state once each, without an outer product in memory.
    state.mul_(gf.exp()[..., None].to(state.dtype))
    state.addcmul_(kf[..., None].to(state.dtype), vf[..., None, :].to(state.dtype))
    if read is None or u is None:
        o = widen(qf[..., None, :].to(state.dtype) @ state).squeeze(-2)
    else:
        o = widen(read).squeeze(-2) + (qf * widen(u) * kf).sum(-1, keepdim=True) * vf
    return o[:, None].to(v.dtype)


def square_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of `naive`: 4K + 2V a pair and head, masked ones too, since each pair has its own decays."""
    p = problem
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]
    pairs = sum(T * T * count for T, count in p.lengths.items()) * p.HS
    return factor * (pairs * (4.0 * p.K + 2.0 * p.V) + 4.0 * p.tokens * p.HS * p.K * p.V * p.initial_state)


def chunk_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of `chunked`: 4KV a token and head, 2C (K + V) on full chunks, 4K a pair within a block."""
    p, chunk = problem, int(tunables["chunk"])
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]
    total = 0.0
    for T, count in p.lengths.items():
        C = min(chunk, -(-T // BLOCK) * BLOCK)
        total += count * -(-T // C) * C * (4.0 * p.K * p.V + 2.0 * C * (p.K + p.V) + 4.0 * BLOCK * p.K)
    return factor * p.HS * total


def _packed(
    form: Callable[..., Result], q, k, v, g, bounds, initial_state, output_final_state: bool, **options
) -> Result:
    return per_sequence(
        form,
        q,
        k,
        v,
        g,
        cu_seqlens=bounds,
        initial_state=initial_state,
        output_final_state=output_final_state,
        **options,
    )


def _heads_first(q, k, v, g, first: bool = True) -> tuple[torch.Tensor, ...]:
    """Each with HS heads; [B, HS, T, D] if `first`."""
    heads = max(q.shape[2], v.shape[2])
    g = g.clamp_min(SMALLEST)
    expanded = tuple(expand_heads(x, heads) for x in (q, k, v, g))
    return tuple(x.transpose(1, 2) for x in expanded) if first else expanded


def _sums(g: torch.Tensor, u: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """(G, R) along the last dimension but one."""
    G = g.cumsum(-2)
    return G, G if u is None else G - g


def _pairs(q, k, G, R, u) -> torch.Tensor:
    """Scores [..., T, T] by the decay of each pair; with a bonus, broadcast against q, an own score is q . (u k)."""
    exponents = R[..., :, None, :] - G[..., None, :, :]
    # Later keys would overflow. A bound of 0 would do too, but take its gradient from a token that does not decay.
    seen = torch.ones(exponents.shape[-3:-1], dtype=torch.bool, device=q.device).tril(0 if u is None else -1)
    decays = exponents.masked_fill(~seen[..., None], -torch.inf).exp()
    scores = torch.einsum("...tc,...jc,...tjc->...tj", q, k, decays)
    return scores if u is None else scores + torch.diag_embed((q * u * k).sum(-1))


def _chunk_scores(q, k, g, u, dtype: torch.dtype) -> torch.Tensor:
    """Scores [B, chunks, HS, C, C]: pairs within blocks by their own decay, others through the start of q's block."""
    blocks = g.unflatten(-2, (-1, BLOCK))
    G, R = _sums(blocks, u)
    qb, kb = q.unflatten(-2, (-1, BLOCK)), k.unflatten(-2, (-1, BLOCK))
    whole = G[..., -1, :]
    reach = (kb * (G[..., -1:, :] - G).exp()).to(dtype)
    read = (qb * R.exp()).to(dtype)
    own = _pairs(qb, kb, G, R, None if u is None else widen(u)[:, None, None]).to(dtype)
    rows = []
    for i in range(blocks.shape[-3]):
        # Decay from the end of each earlier block to the start of this one.
        between = whole[..., 1:i, :].flip(-2).cumsum(-2).flip(-2)
        between = F.pad(between, (0, 0, 0, min(i, 1))).exp()
        keys = (reach[..., :i, :, :] * between[..., None, :].to(dtype)).flatten(-3, -2)
        row = torch.cat([read[..., i, :, :] @ keys.transpose(-1, -2), own[..., i, :, :]], -1)
        rows.append(F.pad(row, (0, q.shape[-2] - row.shape[-1])))
    return torch.cat(rows, -2)


def _joined(parts, decays, first) -> tuple[torch.Tensor, torch.Tensor]:
    """States before each chunk [B, chunks, HS, K, V], and after the last: S = decay S + part."""
    S = torch.zeros_like(parts[:, 0]) if first is None else widen(first)
    states = []
    for c in range(parts.shape[1]):
        states.append(S)
        S = decays[:, c, ..., None] * S + parts[:, c]
    return torch.stack(states, 1), S


def _split(x: torch.Tensor, C: int) -> torch.Tensor:
    """[B, T, HS, D] -> [B, chunks, HS, C, D], the last chunk padded with zeros."""
    padded = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % C))
    return padded.unflatten(1, (-1, C)).transpose(2, 3).contiguous()


def _like(S: torch.Tensor, initial_state: torch.Tensor | None) -> torch.Tensor:
    return S if initial_state is None else S.to(initial_state.dtype)
