"""flash-linear-attention on the delta rules: what the adapters to fla-core 0.6 share.

Some entries take more value heads than heads of q and k as they are; for the others q and k are repeated before, which
belongs to the time. The steps of a token are rows of k, v and beta there. The library's gate is a log decay.
Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from baselines.fla_core import requirement
from baselines.scalar_decay.flash_linear_attention import HALVES, supports_chunk, supports_gated_chunk
from kernels.common.heads import expand_heads
from suite import Operator
from suite.registry import SEQUENCE_PASSES

Result = tuple[torch.Tensor, torch.Tensor | None]


@dataclass(frozen=True)
class Entry:
    """A function of the library: its module, its name, whether it takes nothing but equal heads."""

    module: str
    name: str
    equal_heads: bool = False

    def __call__(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        beta: torch.Tensor,
        log_decay: torch.Tensor | None,
        *,
        l2norm: bool,
        **options: Any,
    ) -> Result:
        """o [B,T,HV,V] in v's dtype, and the state where asked for; k, v and beta may have a dimension of steps."""
        options |= {} if log_decay is None else {"g": log_decay}
        if k.ndim == 5:
            options["num_householder"] = k.shape[2]
            k, v, beta = (x.flatten(1, 2) for x in (k, v, beta))
        if self.equal_heads:
            q, k = expand_heads(q, v.shape[2]), expand_heads(k, v.shape[2])
        entry = getattr(import_module(self.module), self.name)
        o, final = entry(q, k, v, beta=beta, use_qk_l2norm_in_kernel=l2norm, **options)
        return o.to(v.dtype), final


def register(
    operator: Operator,
    chunk: Entry,
    recurrent: Entry | None = None,
    *,
    gated: bool,
    recurrent_passes: Collection[str] = SEQUENCE_PASSES,
) -> None:
    """Register fla_chunk, and fla_fused_recurrent and fla_step where the library has a recurrent entry.

    gated: whether the operator has a log_decay
    """
    supports = supports_gated_chunk if gated else supports_chunk
    peer: dict[str, Any] = {"origin": "peer", "devices": {"cuda", "interpret"}, "requires": requirement(chunk.module)}
    # float32 is left out: its tl.dot multiplies float32 in TF32, which float32's error limit does not allow.
    chunked = operator.implementation("fla_chunk", **peer, dtypes=HALVES, supports=supports)
    chunked(_in_chunks(chunk))
    if recurrent is not None:
        operator.implementation("fla_fused_recurrent", **peer, passes=recurrent_passes)(_token_by_token(recurrent))
        operator.implementation("fla_step", **peer, passes={"decode"})(_one_token(recurrent))


def _in_chunks(entry: Entry) -> Callable[..., Result]:
    def fla_chunk(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        beta: torch.Tensor,
        log_decay: torch.Tensor | None = None,
        *,
        steps: int | None = None,
        l2norm: bool = False,
        scale: float | None = None,
        initial_state: torch.Tensor | None = None,
        output_final_state: bool = False,
        cu_seqlens: torch.Tensor | None = None,
        cu_seqlens_cpu: torch.Tensor | None = None,
    ) -> Result:
        """Shapes as in the specification; in chunks of 64."""
        return entry(
            q,
            k,
            v,
            beta,
            log_decay,
            l2norm=l2norm,
            scale=scale,
            initial_state=initial_state,
            output_final_state=output_final_state,
            cu_seqlens=cu_seqlens,
            cu_seqlens_cpu=cu_seqlens_cpu,
        )

    return fla_chunk


def _token_by_token(entry: Entry) -> Callable[..., Result]:
    def fla_fused_recurrent(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        beta: torch.Tensor,
        log_decay: torch.Tensor | None = None,
        *,
        l2norm: bool = False,
        scale: float | None = None,
        initial_state: torch.Tensor | None = None,
        output_final_state: bool = False,
        cu_seqlens: torch.Tensor | None = None,
    ) -> Result:
        """Shapes as in the specification; one token at a time."""
        return entry(
            q,
            k,
            v,
            beta,
            log_decay,
            l2norm=l2norm,
            scale=scale,
            initial_state=initial_state,
            output_final_state=output_final_state,
            cu_seqlens=cu_seqlens,
        )

    return fla_fused_recurrent


def _one_token(entry: Entry) -> Callable[..., torch.Tensor]:
    def fla_step(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        beta: torch.Tensor,
        log_decay: torch.Tensor | None = None,
        *,
        state: torch.Tensor,
        l2norm: bool = False,
        scale: float | None = None,
    ) -> torch.Tensor:
        """One token -> o [B,1,HV,V]; the library returns a new state; copying it into `state` is part of the cost."""
        o, final = entry(
            q, k, v, beta, log_decay, l2norm=l2norm, scale=scale, initial_state=state, output_final_state=True
        )
        assert final is not None
        state.copy_(final)
        return o

    return fla_step
