"""The decode step: one token per sequence with its delta steps, the state updated in place, one launch."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from kernels.common.arguments import check_flags, check_given, check_states
from kernels.common.device import load_state, store_state
from kernels.common.shapes import power_of_2
from kernels.delta.autograd import sizes_of
from kernels.delta.device import NORM_EPS
from kernels.delta.launch import Inputs
from suite import Problem
from suite.errors import UsageError
from suite.tuning import choice

WIDTH, WARPS = 32, 4


@triton.jit(do_not_specialize=["scale"])
def delta_decode_step_kernel(
    q,
    k,
    v,
    beta,
    log_decay,
    o,
    S,
    scale,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    STEPS: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    L2NORM: tl.constexpr,
):
    """S = a S, then STEPS times r = b (v - k^T S), S += k r^T;  o = s q^T S.

    Grid:    sequences x HS x slices of V, one axis, slices fastest.
    On chip: a slice of S [BK, BV], fp32.
    Reads and writes: S [N, HS, K, V] once each, in its dtype; a token's q, k, v, gates and o.
    """
    pid = tl.program_id(0)
    slice_v = pid % SLICES
    h = pid // SLICES % HS
    n = (pid // (SLICES * HS)).to(tl.int64)
    head = n * H + h // (HS // H)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    b_q = tl.load(q + head * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)
    if L2NORM:
        b_q *= tl.rsqrt(tl.sum(b_q * b_q, 0) + NORM_EPS)
    b_S = load_state(S, n * HS + h, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
    if log_decay is not None:
        b_S *= tl.exp(tl.load(log_decay + n * HS + h).to(tl.float32))
    for step in tl.static_range(STEPS):
        row = n * STEPS + step
        b_k = tl.load(k + (row * H + h // (HS // H)) * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)
        if L2NORM:
            b_k *= tl.rsqrt(tl.sum(b_k * b_k, 0) + NORM_EPS)
        b_v = tl.load(v + (row * HS + h) * V + o_v, mask=o_v < V, other=0.0).to(tl.float32)
        b_r = (b_v - tl.sum(b_k[:, None] * b_S, 0)) * tl.load(beta + row * HS + h).to(tl.float32)
        b_S += b_k[:, None] * b_r[None, :]
    store_state(S, n * HS + h, b_S, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
    b_o = tl.sum(b_q[:, None] * b_S, 0) * scale
    tl.store(o + (n * HS + h) * V + o_v, b_o.to(o.dtype.element_ty), mask=o_v < V)


def step_delta(q, k, v, beta, log_decay, *, state: torch.Tensor, steps: int, l2norm: bool, scale: float | None):
    """q [B,1,H,K], k [B,1,n,H,K], v [B,1,n,HS,V], beta [B,1,n,HS], log_decay [B,1,HS] or None -> o [B,1,HS,V].

    The dimension of n = steps may be left out where it is 1. `state` [B,HS,K,V] is updated in place, in any float
    dtype, contiguous. Raises UsageError on other shapes.
    """
    check_flags(l2norm=l2norm)
    sizes = sizes_of(q, k, v, beta, log_decay, steps=steps, scale=scale)
    B, T, H, heads, K, V = (sizes[name] for name in ("B", "T", "H", "HV", "K", "V"))
    if T != 1:
        raise UsageError(f"q holds {T} tokens; a decode step takes 1")
    check_given(state=state)
    check_states(q, {"state": state})
    if state.shape != (B, heads, K, V):
        raise UsageError(f"state is {tuple(state.shape)}; it must be {(B, heads, K, V)}")
    if not state.is_contiguous():
        raise UsageError("state is not contiguous; it is updated in place, so pass a contiguous tensor")
    x = Inputs(q, k, v, beta, log_decay).contiguous()
    o = q.new_empty(B, 1, heads, V)
    width, slices, warps = plan_step(K, V, str(state.dtype).removeprefix("torch."))
    delta_decode_step_kernel[(B * heads * slices,)](
        **x._asdict(),
        o=o,
        S=state,
        scale=K**-0.5 if scale is None else scale,
        H=H,
        HS=heads,
        K=K,
        V=V,
        STEPS=steps,
        BK=power_of_2(K),
        BV=width,
        SLICES=slices,
        L2NORM=l2norm,
        num_warps=warps,
    )
    return o


def step_key(K: int, V: int, dtype: str) -> str:
    """The key of the step's config in tuning tables. dtype: the state's."""
    return f"delta/step/K{K}/V{V}/{dtype}"


def plan_step(K: int, V: int, dtype: str) -> tuple[int, int, int]:
    """Width of a state tile, slices (programs per head), warps."""
    tuned = choice(step_key(K, V, dtype)) or {}
    width = min(power_of_2(V), tuned.get("width", WIDTH))
    return width, -(-V // width), tuned.get("warps", WARPS)


def step_configuration(problem: Problem, tunables: Any) -> dict[str, Any]:
    """The step's tile and programs per head."""
    width, slices, warps = plan_step(problem.K, problem.V, problem.state_dtype)
    return {"step": {"slice": width, "slices": slices, "warps": warps}}


def step_search(problem: Problem, tunables: Any) -> dict[str, list[dict[str, int]]]:
    """Configs of the step that are worth measuring, its own first."""
    pairs = [(WIDTH, WARPS), (16, 2), (16, 4), (32, 2), (64, 4), (64, 8)]
    return {
        step_key(problem.K, problem.V, problem.state_dtype): [
            {"width": width, "warps": warps} for width, warps in pairs
        ]
    }
