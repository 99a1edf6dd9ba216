"""Channel-gated delta rules in PyTorch, chunk by chunk; with one chunk as long as the sequence, the parallel form.

    KDA   u = (I + tril(K b K^T))^-1 (V - K~ S)         O = Q~ S + tril(Q b K^T) u
    DPLR  u = (I - tril(A B^T))^-1 (A~ S + tril(A K^T) V)  O = Q~ S + tril(Q B^T) u + tril(Q K^T) V

Every product of two tokens goes through the decays in between, channel by channel; a tilde is the decay since the
chunk's start. Sources: Kimi Team 2025, arXiv:2510.26692; Peng et al. 2025, arXiv:2503.14456; the chunked form of a
product of rank-one transitions: Yang et al. 2024, arXiv:2406.06484.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F

from baselines.precision import widen
from kernels.common.heads import expand_heads
from suite import Problem
from suite.problem import Value


def prefix(g: torch.Tensor, own: bool) -> torch.Tensor:
    """Sums of g [..., T, K] up to each token, with or without its own; no difference is taken, so -inf is served."""
    shifted = g if own else F.pad(g[..., :-1, :], (0, 0, 1, 0))
    return shifted.cumsum(-2)


def suffix(g: torch.Tensor) -> torch.Tensor:
    """Sums of g [..., T, K] after each token."""
    return F.pad(g[..., 1:, :], (0, 0, 0, 1)).flip(-2).cumsum(-2).flip(-2)


def scores(x: torch.Tensor, y: torch.Tensor, g: torch.Tensor, *, own: bool, diagonal: bool) -> torch.Tensor:
    """P_ij = sum_c x_ic y_jc exp(sum of g between j and i) for j < i: [..., T, K] -> [..., T, T], T a power of 2.

    own:      whether row i reads through its own gate
    diagonal: whether row i sees column i
    Halves are merged from single tokens on: an upper half sees its lower half through the boundary between them, so no
    exponent is above 0.
    """
    T = x.shape[-2]
    P = (widen(x) * widen(y)).sum(-1)[..., None, None] if diagonal else widen(x).new_zeros(*x.shape[:-1], 1, 1)
    half = 1
    while half < T:
        xs, ys, gs = (z.unflatten(-2, (T // (2 * half), 2, half)) for z in (x, y, g))
        rows = xs[..., 1, :, :] * prefix(gs[..., 1, :, :], own).exp().to(x.dtype)
        columns = ys[..., 0, :, :] * suffix(gs[..., 0, :, :]).exp().to(y.dtype)
        below = widen(rows @ columns.transpose(-1, -2))
        lower, upper = P.unflatten(-3, (-1, 2)).unbind(-3)
        P = torch.cat([torch.cat([lower, torch.zeros_like(below)], -1), torch.cat([below, upper], -1)], -2)
        half *= 2
    return P.squeeze(-3)


def split(x: torch.Tensor, C: int) -> torch.Tensor:
    """[B, T, HS, D] -> [B, HS, chunks, C, D], the last chunk padded with zeros."""
    padded = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % C))
    return padded.unflatten(1, (-1, C)).permute(0, 3, 1, 2, 4).contiguous()


def run(
    q,
    k,
    v,
    log_decay,
    *,
    beta=None,
    a=None,
    b=None,
    scale: float,
    initial_state=None,
    output_final_state: bool = False,
    chunk: int = 64,
    dtype: torch.dtype,
):
    """q, k [B,T,H,K], v [B,T,HS,V], log_decay [B,T,HS,K], beta [B,T,HS] or a, b [B,T,HS,K] -> (o [B,T,HS,V], state).

    chunk is rounded up to a power of 2, and down to what holds T; dtype is that of the products, but for the
    triangular solve, which is in float32.
    """
    T, heads = q.shape[1], v.shape[2]
    C = min(chunk, 1 << (T - 1).bit_length())
    q, k = expand_heads(q * scale, heads), expand_heads(k, heads)
    dplr = beta is None
    if beta is not None:
        a, b = -k, k * beta[..., None].to(k.dtype)
    assert a is not None
    assert b is not None
    qc, kc, vc, ac, bc = (split(x.to(dtype), C) for x in (q, k, v, a, b))
    g = split(widen(log_decay), C)
    before, after = prefix(g, True).exp(), suffix(g).exp()
    before_a = prefix(g, False).exp() if dplr else before
    A, QB = scores(ac, bc, g, own=not dplr, diagonal=False), scores(qc, bc, g, own=True, diagonal=True).to(dtype)
    x = vc
    o = torch.zeros_like(widen(vc))
    if dplr:
        x = scores(ac, kc, g, own=False, diagonal=False).to(dtype) @ vc
        o = widen(scores(qc, kc, g, own=True, diagonal=True).to(dtype) @ vc)
    rows = torch.cat([widen(x), widen(ac) * before_a], dim=-1)
    solved = torch.linalg.solve_triangular(torch.eye(C).to(A) - A, rows, upper=False, unitriangular=True).to(dtype)
    X, W = solved.split([v.shape[-1], k.shape[-1]], dim=-1)
    read, write, write_v = ((widen(y) * z).to(dtype) for y, z in ((qc, before), (bc, after), (kc, after)))
    total = g.sum(-2).exp()[..., None]
    S = g.new_zeros(*g.shape[:2], *(k.shape[-1], v.shape[-1])) if initial_state is None else widen(initial_state)
    outputs = []
    for c in range(g.shape[2]):
        narrow = S.to(dtype)
        u = (widen(X[:, :, c]) + widen(W[:, :, c] @ narrow)).to(dtype)
        outputs.append(o[:, :, c] + widen(read[:, :, c] @ narrow) + widen(QB[:, :, c] @ u))
        S = total[:, :, c] * S + widen(write[:, :, c].transpose(-1, -2) @ u)
        if dplr:
            S = S + widen(write_v[:, :, c].transpose(-1, -2) @ vc[:, :, c])
    out = torch.stack(outputs, 2).flatten(2, 3)[:, :, :T].transpose(1, 2)
    final = S if initial_state is None else S.to(initial_state.dtype)
    return out.to(v.dtype), (final if output_final_state else None)


def flops(problem: Problem, chunk: int | None, *, dplr: bool) -> float:
    """FLOPs in chunks, or in one chunk of each sequence's length, rounded up to powers of 2; backward twice as many.

    A token and head costs 6KV (DPLR 8KV), 2 C K for each of two (four) scores of which half are computed, 2 C V for one
    (three) products with them, and C (K + V) for the solve.
    """
    p, family = problem, 2 if dplr else 1
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]
    total = 0.0
    for T, count in p.lengths.items():
        C = min(chunk or T, 1 << (T - 1).bit_length()) if chunk else 1 << (T - 1).bit_length()
        token = (4 + 2 * family) * p.K * p.V + 2 * family * C * p.K + 2 * (2 * family - 1) * C * p.V + C * (p.K + p.V)
        total += count * -(-T // C) * C * p.HS * token
    return factor * total


def chunk_flops(*, dplr: bool):
    """flops_exec of the chunked form."""

    def executed(problem: Problem, tunables: Mapping[str, Value]) -> float:
        return flops(problem, int(tunables["chunk"]), dplr=dplr)

    return executed


def square_flops(*, dplr: bool):
    """flops_exec of the parallel form."""

    def executed(problem: Problem, tunables: Mapping[str, Value]) -> float:
        return flops(problem, None, dplr=dplr)

    return executed
