"""Sliding-window attention in Triton: registers the shared kernels of kernels/attention."""

from __future__ import annotations

from collections.abc import Mapping

from kernels.attention.autograd import flash_attention
from kernels.attention.register import of_flash
from kernels.attention.shape import AUTO, Shape, of_problem
from kernels.attention.sliding_window_attention.spec import sliding_window_attention
from suite import Problem
from suite.errors import UsageError
from suite.problem import Value


def shape_of(problem: Problem, tunables: Mapping[str, Value]) -> Shape:
    """The shape by which a problem is planned."""
    window, dilation = int(problem.axis("window")), int(problem.axis("dilation"))
    own = {"window": window, "dilation": dilation}
    return of_problem(problem, str(tunables["loads"]), causal=bool(problem.axis("causal")), **own)


@sliding_window_attention.implementation("triton_flash", **of_flash(shape_of))
def triton_flash_window(
    q,
    k,
    v,
    *,
    causal: bool = True,
    window: int = 1024,
    dilation: int = 1,
    scale: float | None = None,
    cu_seqlens=None,
    cu_seqlens_cpu=None,
    loads: str = AUTO,
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HK,V] -> (o [B,T,H,V], None), as spec.py defines it.

    window of at least 1 counts the token itself. cu_seqlens_cpu is cu_seqlens on the CPU. loads: "pointers";
    "descriptors"; or "auto", which takes descriptors where the GPU has TMA and the shape allows them. Differentiable in
    q, k and v. Raises UsageError on bad input.
    """
    if window < 1:
        raise UsageError(f"window = {window} sees nothing, not even the token itself; use at least 1")
    o = flash_attention(
        q,
        k,
        v,
        causal=causal,
        window=window,
        dilation=dilation,
        scale=scale,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
        loads=loads,
    )
    return o, None
