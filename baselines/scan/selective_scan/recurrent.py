"""The selective scan in PyTorch: one token at a time, chunks by a parallel scan, and a decode step.

Source: Gu and Dao 2023, arXiv:2312.00752.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F

from baselines.precision import widen
from baselines.scan.gated_scan.doubling import doubled, rounds
from kernels.common.heads import expand_heads
from kernels.common.packed import apart, host_copy, per_sequence
from kernels.scan.selective_scan.spec import cost, selective_scan
from suite import Problem
from suite.problem import Value

# Packed, states come through kernels.common.packed, which knows tuples of them too.
Scan = tuple[torch.Tensor, Any]
Prepared = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


def _prepared(
    u: torch.Tensor, delta: torch.Tensor, A: torch.Tensor, B: torch.Tensor, C: torch.Tensor, delta_bias: torch.Tensor
) -> Prepared:
    """In float32: u [B,T,HS,V], dt [B,T,HS,V], A [HS,N,V], B and C of every head [B,T,HS,N]."""
    heads = u.shape[2]
    dt = F.softplus(widen(delta) + delta_bias)
    return widen(u), dt, A.transpose(1, 2), expand_heads(widen(B), heads), expand_heads(widen(C), heads)


def _terms(u: torch.Tensor, dt: torch.Tensor, rate: torch.Tensor, B: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What a token keeps of the state and what it adds: [B, T, HS, N, V] each."""
    step = dt[..., None, :]
    return (step * rate).exp(), step * u[..., None, :] * B[..., None]


@selective_scan.implementation("naive", origin="baseline")
def naive(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    z: torch.Tensor,
    delta_bias: torch.Tensor,
    *,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> Scan:
    """Shapes as in the operator's spec -> (o [B,T,HS,V], h [sequences,HS,N,V]): a loop over tokens in float32."""
    return torch_scan(
        u,
        delta,
        A,
        B,
        C,
        D,
        z,
        delta_bias,
        initial_state=initial_state,
        chunk=1,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


def scan_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """The recurrence's FLOPs, its multiply-add replaced by a chunk's rounds of 3 each; backward twice that."""
    p = problem
    passes = ("fwd", "bwd") if p.pass_ == "fwdbwd" else (p.pass_,)
    alg = sum(cost(p.replace(pass_=each), tunables).flops_alg for each in passes)
    extra = max(0, 3 * rounds(min(p.T, int(tunables["chunk"]))) - 1)
    return alg + extra * float(p.tokens * p.HS * p.V * p.K) * {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]


@selective_scan.implementation(
    "torch_scan", origin="baseline", tunables={"chunk": (64, 32, 128, 256)}, flops_exec=scan_flops
)
def torch_scan(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    z: torch.Tensor,
    delta_bias: torch.Tensor,
    *,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
    chunk: int = 64,
) -> Scan:
    """Shapes as in the operator's spec -> (o [B,T,HS,V], h [sequences,HS,N,V]).

    A chunk's tokens at once by doubling, chunks one after the other: all tokens' states at once would be N times u.
    """
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, u)
    if apart(u, bounds):

        def one(u, delta, B, C, z, **options):
            return torch_scan(u, delta, A, B, C, D, z, delta_bias, chunk=chunk, **options)

        return per_sequence(
            one,
            u,
            delta,
            B,
            C,
            z,
            cu_seqlens=bounds,
            initial_state=initial_state,
            output_final_state=output_final_state,
        )
    wide, dt, rate, B, C = _prepared(u, delta, A, B, C, delta_bias)
    h = wide.new_zeros(wide.shape[0], *rate.shape) if initial_state is None else widen(initial_state)
    outputs = []
    for first in range(0, u.shape[1], chunk):
        part = slice(first, first + chunk)
        decay, added = _terms(wide[:, part], dt[:, part], rate, B[:, part])
        added = torch.cat([added[:, :1] + decay[:, :1] * h[:, None], added[:, 1:]], dim=1)
        states = doubled(decay, added)
        outputs.append(torch.einsum("bthn,bthnv->bthv", C[:, part], states) + D * wide[:, part])
        h = states[:, -1]
    o = torch.cat(outputs, dim=1) * F.silu(widen(z))
    final = h if initial_state is None else h.to(initial_state.dtype)
    return o.to(u.dtype), final if output_final_state else None


@selective_scan.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
    u: torch.Tensor,
    delta: torch.Tensor,
    A: torch.Tensor,
    B: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    z: torch.Tensor,
    delta_bias: torch.Tensor,
    *,
    state: torch.Tensor,
) -> torch.Tensor:
    """One token of each input -> o [B,1,HS,V]; state [B,HS,N,V] is updated in place."""
    wide, dt, rate, B, C = _prepared(u, delta, A, B, C, delta_bias)
    decay, added = _terms(wide, dt, rate, B)
    h = decay[:, 0] * widen(state) + added[:, 0]
    state.copy_(h)
    y = torch.einsum("bhn,bhnv->bhv", C[:, 0], h) + D * wide[:, 0]
    return (y[:, None] * F.silu(widen(z))).to(u.dtype)
