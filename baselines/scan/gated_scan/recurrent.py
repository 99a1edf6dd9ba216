"""The gated scan in PyTorch: one token at a time, all tokens by a parallel scan, and a decode step.

Sources: Qin et al. 2023, arXiv:2311.04823; De et al. 2024, arXiv:2402.19427.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from baselines.precision import widen
from baselines.scan.gated_scan.doubling import doubled, rounds
from kernels.common.packed import apart, host_copy, per_sequence
from kernels.scan.gated_scan.spec import NONE, flops, gated_scan, scaled
from suite import Problem
from suite.problem import Value

# Packed, states come through kernels.common.packed, which knows tuples of them too.
Scan = tuple[torch.Tensor, Any]


@gated_scan.implementation("naive", origin="baseline")
def naive(
    x: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    input_scaling: str = NONE,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> Scan:
    """x, log_decay [B,T,HS,V] -> (o [B,T,HS,V], h [N,HS,V]): a loop over tokens in float32."""
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, x)
    if apart(x, bounds):
        return per_sequence(
            naive,
            x,
            log_decay,
            cu_seqlens=bounds,
            initial_state=initial_state,
            output_final_state=output_final_state,
            input_scaling=input_scaling,
        )
    g = widen(log_decay)
    decay, added = g.exp(), scaled(widen(x), g, input_scaling)
    h = torch.zeros_like(added[:, 0]) if initial_state is None else widen(initial_state)
    outputs = []
    for t in range(x.shape[1]):
        h = decay[:, t] * h + added[:, t]
        outputs.append(h.to(x.dtype))
    return torch.stack(outputs, dim=1), _final(h, initial_state) if output_final_state else None


def scan_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """FLOPs of the rounds: 3 a channel and token in each but the last, 2 there; backward each product becomes two."""
    p = problem
    each = max(0, 3 * rounds(p.T) - 1) + 2 * p.initial_state
    factor = {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]
    return float(p.tokens * p.HS * p.V * factor * (each + flops("fwd", p.axis("input_scaling")) - 2))


@gated_scan.implementation("torch_scan", origin="baseline", flops_exec=scan_flops)
def torch_scan(
    x: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    input_scaling: str = NONE,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> Scan:
    """x, log_decay [B,T,HS,V] -> (o [B,T,HS,V], h [N,HS,V]): all tokens at once by doubling, in float32."""
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, x)
    if apart(x, bounds):
        return per_sequence(
            torch_scan,
            x,
            log_decay,
            cu_seqlens=bounds,
            initial_state=initial_state,
            output_final_state=output_final_state,
            input_scaling=input_scaling,
        )
    g = widen(log_decay)
    decay, added = g.exp(), scaled(widen(x), g, input_scaling)
    if initial_state is not None:
        first = added[:, :1] + decay[:, :1] * widen(initial_state)[:, None]
        added = torch.cat([first, added[:, 1:]], dim=1)
    h = doubled(decay, added)
    return h.to(x.dtype), _final(h[:, -1], initial_state) if output_final_state else None


@gated_scan.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
    x: torch.Tensor, log_decay: torch.Tensor, *, state: torch.Tensor, input_scaling: str = NONE
) -> torch.Tensor:
    """x, log_decay [B,1,HS,V] -> o [B,1,HS,V]; state [B,HS,V] is updated in place."""
    g = widen(log_decay[:, 0])
    h = g.exp() * widen(state) + scaled(widen(x[:, 0]), g, input_scaling)
    state.copy_(h)
    return h.to(x.dtype)[:, None]


def _final(h: torch.Tensor, initial_state: torch.Tensor | None) -> torch.Tensor:
    return h if initial_state is None else h.to(initial_state.dtype)
