"""Lightning Attention-2 of fla-core 0.6: adapters to chunk_simple_gla and fused_recurrent_simple_gla.

The library's chunk_lightning_attn and fused_recurrent_lightning_attn make the decays from a layer's number and call
these two. The decays come as an input here, so they are called with it: g_gamma, natural logarithms [HS].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import torch

from baselines.fla_core import requirement
from baselines.scalar_decay.flash_linear_attention import HALVES, called, stepped, supports_chunk
from kernels.scalar_decay.lightning_attention.spec import lightning_attention, log_decays
from suite import Problem
from suite.problem import Value

FLA = requirement("fla.ops.simple_gla")
CHUNK = 64
# 2 to this power is infinite in float32.
OVERFLOW = 128


def supports(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why the chunked entry cannot serve a problem, or None.

    For the state that leaves a chunk, chunk_fwd_kernel_h multiplies row j of v by exp(g (r - j - 1)); r of the chunk's
    64 rows are tokens, the others zeros, and where their factor is infinite they make the state NaN. Only a sequence's
    last chunk lacks tokens, and only its final state is that chunk's: outputs and gradients are right.
    """
    lengths = [end - first for first, end in pairwise(problem.cu_seqlens or (0, problem.T))]
    missing = max(-length % CHUNK for length in lengths)
    slope = -float(log_decays(problem.HS, float(problem.axis("layer"))).min())
    if problem.initial_state and slope * missing / math.log(2) >= OVERFLOW:
        return (
            f"the final state of fla's chunk_simple_gla is NaN here: its last chunk lacks {missing} of {CHUNK} tokens, "
            f"and exp({slope:.3g} x {missing}) is infinite in float32"
        )
    return supports_chunk(problem, tunables)


# float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
@lightning_attention.implementation(
    "fla_chunk", origin="peer", devices={"cuda", "interpret"}, dtypes=HALVES, requires=FLA, supports=supports
)
def fla_chunk(
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
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], S [N,HS,K,V] or None), in chunks of 64 tokens."""
    from fla.ops.simple_gla import chunk_simple_gla  # pyright: ignore[reportMissingImports]

    return called(
        chunk_simple_gla,
        q,
        k,
        v,
        g_gamma=log_decay,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


@lightning_attention.implementation("fla_fused_recurrent", origin="peer", devices={"cuda", "interpret"}, requires=FLA)
def fla_fused_recurrent(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    scale: float | None = None,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V] -> (o [B,T,HS,V], S [N,HS,K,V] or None), one token at a time."""
    from fla.ops.simple_gla import fused_recurrent_simple_gla  # pyright: ignore[reportMissingImports]

    return called(
        fused_recurrent_simple_gla,
        q,
        k,
        v,
        g_gamma=log_decay,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


@lightning_attention.implementation(
    "fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA
)
def fla_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    state: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V] by fused_recurrent_simple_gla; `state` is updated."""
    from fla.ops.simple_gla import fused_recurrent_simple_gla  # pyright: ignore[reportMissingImports]

    return stepped(fused_recurrent_simple_gla, q, k, v, state, g_gamma=log_decay, scale=scale)
