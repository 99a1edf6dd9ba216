"""RWKV-6 of flash-linear-attention: adapters to fla-core 0.6. Its kernels are in Triton.

Entries: fla.ops.rwkv6.chunk_rwkv6 and fused_recurrent_rwkv6, with log decays, bonus u and r as q. Their default scale
is 1/sqrt(K); ours, 1, is passed, as in the library's own layer. baselines/channel_decay/fla.py says what is done around
each call.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from baselines.channel_decay import fla
from baselines.fla_core import requirement
from kernels.channel_decay.rwkv6.spec import rwkv6
from suite import Problem
from suite.problem import Value

FLA = requirement("fla.ops.rwkv6")


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@rwkv6.implementation(
    "fla_chunk",
    origin="peer",
    devices={"cuda", "interpret"},
    dtypes=fla.HALVES,
    requires=FLA,
    supports=fla.supports_chunk,
)
def fla_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    u: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As the operator's specification has them -> (o, final state or None), in chunks of 64 tokens."""
    from fla.ops.rwkv6 import chunk_rwkv6  # pyright: ignore[reportMissingImports]

    return fla.call(
        chunk_rwkv6,
        q,
        k,
        v,
        log_decay,
        u,
        scale=1.0 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


def supports_recurrent(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why fused_recurrent_rwkv6 cannot serve a problem, or None: its backward pass knows no final state."""
    if problem.differentiates and problem.initial_state:
        return "fla's fused_recurrent_rwkv6 takes no gradient of the final state"
    return None


@rwkv6.implementation(
    "fla_fused_recurrent", origin="peer", devices={"cuda", "interpret"}, requires=FLA, supports=supports_recurrent
)
def fla_fused_recurrent(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    u: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """As the operator's specification has them -> (o, final state or None), one token at a time."""
    from fla.ops.rwkv6 import fused_recurrent_rwkv6  # pyright: ignore[reportMissingImports]

    return fla.call(
        fused_recurrent_rwkv6,
        q,
        k,
        v,
        log_decay,
        u,
        scale=1.0 if scale is None else scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


@rwkv6.implementation("fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA)
def fla_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    u: torch.Tensor,
    *,
    state: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """One token by fused_recurrent_rwkv6 -> o [B,1,HS,V]; the new state is copied into `state`."""
    from fla.ops.rwkv6 import fused_recurrent_rwkv6  # pyright: ignore[reportMissingImports]

    return fla.step(fused_recurrent_rwkv6, q, k, v, log_decay, u, state=state, scale=1.0 if scale is None else scale)
