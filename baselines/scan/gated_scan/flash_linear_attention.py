"""The gated scan of flash-linear-attention: adapters to fla-core 0.6's HGRN. Its kernels are in Triton.

Entries: fla.ops.hgrn.chunk_hgrn and fused_recurrent_hgrn, on [B, T, D]. They know no sqrt(1 - a^2): where the input is
scaled, that is done before in PyTorch and belongs to the time.
Source: Yang and Zhang 2024, github.com/fla-org/flash-linear-attention.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from baselines.fla_core import requirement
from baselines.precision import widen
from kernels.scan.gated_scan.spec import NONE, gated_scan, scaled
from suite import Problem
from suite.problem import Value

FLA = requirement("fla.ops.hgrn")


def _call(
    entry: Callable[..., Any],
    x: torch.Tensor,
    log_decay: torch.Tensor,
    state: torch.Tensor | None,
    input_scaling: str,
    **options: Any,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    if input_scaling != NONE:
        x = scaled(widen(x), widen(log_decay), input_scaling).to(x.dtype)
    heads = x.shape[2:]
    initial = None if state is None else state.flatten(1)
    o, final = entry(x.flatten(2), log_decay.flatten(2), initial_state=initial, **options)
    return o.unflatten(2, heads), None if final is None else final.unflatten(1, heads)


def supports_chunk(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why chunk_hgrn cannot serve a problem, or None: its backward pass knows no state."""
    if problem.differentiates and problem.initial_state:
        return "fla's chunk_hgrn gives no gradient to the initial state, and takes none of the final one"
    return None


def supports_recurrent(problem: Problem, tunables: Mapping[str, Value]) -> str | None:
    """Why fused_recurrent_hgrn cannot serve a problem, or None: its final state has the dtype of x."""
    p = problem
    if p.pass_ != "decode" and p.initial_state and p.dtype != p.state_dtype:
        return f"fla's fused_recurrent_hgrn returns the final state in {p.dtype}, not in {p.state_dtype}"
    return None


@gated_scan.implementation(
    "fla_chunk", origin="peer", devices={"cuda", "interpret"}, requires=FLA, supports=supports_chunk
)
def fla_chunk(
    x: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    input_scaling: str = NONE,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """x, log_decay [B,T,HS,V] -> (o [B,T,HS,V], final state or None), in chunks of 128 tokens; nothing packed."""
    from fla.ops.hgrn import chunk_hgrn  # pyright: ignore[reportMissingImports]

    return _call(chunk_hgrn, x, log_decay, initial_state, input_scaling, output_final_state=output_final_state)


@gated_scan.implementation(
    "fla_fused_recurrent", origin="peer", devices={"cuda", "interpret"}, requires=FLA, supports=supports_recurrent
)
def fla_fused_recurrent(
    x: torch.Tensor,
    log_decay: torch.Tensor,
    *,
    input_scaling: str = NONE,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """x, log_decay [B,T,HS,V] -> (o [B,T,HS,V], final state or None), one token at a time."""
    from fla.ops.hgrn import fused_recurrent_hgrn  # pyright: ignore[reportMissingImports]

    return _call(
        fused_recurrent_hgrn,
        x,
        log_decay,
        initial_state,
        input_scaling,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
    )


@gated_scan.implementation("fla_step", origin="peer", passes={"decode"}, devices={"cuda", "interpret"}, requires=FLA)
def fla_step(
    x: torch.Tensor, log_decay: torch.Tensor, *, state: torch.Tensor, input_scaling: str = NONE
) -> torch.Tensor:
    """x, log_decay [B,1,HS,V] -> o [B,1,HS,V]; the new state that the library returns is copied into `state`."""
    from fla.ops.hgrn import fused_recurrent_hgrn  # pyright: ignore[reportMissingImports]

    o, final = _call(fused_recurrent_hgrn, x, log_decay, state, input_scaling, output_final_state=True)
    assert final is not None
    state.copy_(final)
    return o
