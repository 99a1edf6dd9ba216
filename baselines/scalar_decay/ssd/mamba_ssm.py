"""SSD by its authors: adapters to the package mamba_ssm 2, kernels in Triton for CUDA.

Entries: mamba_chunk_scan_combined, which takes x = v, B = k, C = q and gates and skips inside, and
selective_state_update for decode. Their states are [N,H,V,K], the transpose of ours. Source: Dao and Gu 2024,
github.com/state-spaces/mamba.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from baselines.scan.selective_scan.mamba import TRITON, triton_module
from kernels.common.heads import expand_heads
from kernels.scalar_decay.ssd.spec import given, ssd
from suite import Problem
from suite.problem import Value

OFFSETS = 2**31


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why mamba_chunk_scan_combined cannot serve a problem, or None: its offsets are 32 bits wide."""
    p = problem
    states = -(-p.T // int(tunables["chunk"])) * p.K
    largest = p.B * p.HS * p.V * max(p.T, states)
    if largest >= OFFSETS:
        return f"mamba_ssm's kernels count in 32 bits, and its largest tensor here has {largest} elements"
    return None


@ssd.implementation(
    "mamba_chunk_scan",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=("bfloat16", "float16"),
    requires=TRITON,
    tunables={"chunk": (256, 128, 64)},
    supports=supports,
)
def mamba_chunk_scan(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    *,
    skip: bool | None = None,
    gated: bool | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    chunk: int = 256,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q, k [B,T,H,K], v [B,T,HV,V], dt [B,T,HV], A, D [HV], z [B,T,HV,V] -> (o [B,T,HV,V], S [B,HV,K,V] or None).

    Packed sequences are left out: the entry takes one initial state per row, not one per sequence.
    """
    given(D, z, skip, gated)
    start = None if initial_state is None else initial_state.transpose(-1, -2).contiguous()
    x = expand_heads(v, dt.shape[2])
    found = triton_module("ssd_combined").mamba_chunk_scan_combined(
        x, dt, A, k, q, chunk, D=D, z=z, initial_states=start, return_final_states=output_final_state
    )
    if not output_final_state:
        return found, None
    o, final = found
    return o, final.transpose(-1, -2)


@ssd.implementation("mamba_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=TRITON)
def mamba_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dt: torch.Tensor,
    A: torch.Tensor,
    D: torch.Tensor | None = None,
    z: torch.Tensor | None = None,
    *,
    state: torch.Tensor,
    skip: bool | None = None,
    gated: bool | None = None,
) -> torch.Tensor:
    """q, k [B,1,H,K], v [B,1,HV,V], dt [B,1,HV], A, D [HV], z [B,1,HV,V] -> o [B,1,HV,V]; `state` is updated in place.

    selective_state_update has a dt, its bias and a D a channel and an A a state element: views that repeat one value,
    as Mamba-2's own layer passes them. It reads the strides of bias and D: zeros stand for what is not there, and
    making them belongs to the time.
    """
    given(D, z, skip, gated)
    K, V, heads = q.shape[-1], v.shape[-1], dt.shape[2]
    zeros = A.new_zeros(heads)[:, None].expand(-1, V)
    o = triton_module("selective_state_update").selective_state_update(
        state.transpose(-1, -2),
        expand_heads(v, heads)[:, 0],
        dt[:, 0, :, None].expand(-1, -1, V),
        A[:, None, None].expand(-1, V, K),
        k[:, 0],
        q[:, 0],
        D=zeros if D is None else D[:, None].expand(-1, V),
        z=None if z is None else z[:, 0],
        dt_bias=zeros,
    )
    return o[:, None]
