"""The decode step: one token per sequence, the state updated in place, one launch."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from kernels.channel_decay.autograd import sizes_of
from kernels.channel_decay.device import load_key, load_token, store_token
from kernels.common.arguments import check_given, check_states
from kernels.common.device import load_state, store_state
from kernels.common.shapes import MAX_DIM, power_of_2
from suite import Problem
from suite.errors import UsageError
from suite.problem import Value

# Columns of a state that a program holds, and its warps: 32 KiB of fp32 at K = 256, and enough programs at B = 1.
WIDTH, WARPS = 32, 4


@triton.jit(do_not_specialize=["scale"])
def channel_decode_step_kernel(
    q,
    k,
    v,
    g,
    u,
    o,
    S,
    scale,
    H: tl.constexpr,
    HK: tl.constexpr,
    HV: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
):
    """S = diag(e^g) S + k v^T;  o = s q^T S, or s q^T (S before + diag(u) k v^T) where u is given.

    Grid:    sequences x HS x slices of V, one axis, slices fastest.
    On chip: a slice of S [BK, BV], fp32.
    Reads and writes: S [N, HS, K, V] once each, in its dtype; a token's q, k (1 - e^g where None), v, g and o; u.
    """
    pid = tl.program_id(0)
    h = pid // SLICES % HS
    n = (pid // (SLICES * HS)).to(tl.int64)
    o_k = tl.arange(0, BK)
    o_v = pid % SLICES * BV + tl.arange(0, BV)
    index = n * HS + h
    b_g = load_token(g + index * K, o_k, K)
    b_q = load_token(q + (n * H + h // (HS // H)) * K, o_k, K) * scale
    b_k = load_key(None if k is None else k + (n * HK + h // (HS // HK)) * K, b_g, o_k, K)
    b_v = load_token(v + (n * HV + h // (HS // HV)) * V, o_v, V)
    b_S = load_state(S, index, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
    after = b_S * tl.exp(b_g)[:, None] + b_k[:, None] * b_v[None, :]
    store_state(S, index, after, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
    if u is None:
        b_o = tl.sum(b_q[:, None] * after, 0)
    else:
        own = tl.sum(b_q * load_token(u + h * K, o_k, K) * b_k, 0)
        b_o = tl.sum(b_q[:, None] * b_S, 0) + own * b_v
    store_token(o + index * V, b_o, o_v, V)


def step_channel_decay(q, k, v, log_decay, *, state, u=None, scale: float | None):
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], log_decay [B,1,HS,K] -> o [B,1,HS,V]; `state` is updated in place.

    k None: 1 - exp(log_decay). state: S [B,HS,K,V] in any float dtype, contiguous. Raises UsageError on other shapes.
    """
    s = sizes_of(q, k, v, log_decay, u, scale)
    B, T, H, HV, heads, K, V = (s[name] for name in ("B", "T", "H", "HV", "HS", "K", "V"))
    if T != 1:
        raise UsageError(f"q holds {T} tokens; a decode step takes 1")
    check_given(state=state)
    check_states(q, {"state": state})
    if state.shape != (B, heads, K, V):
        raise UsageError(f"state is {tuple(state.shape)}; it must be {(B, heads, K, V)}")
    if not state.is_contiguous():
        raise UsageError("state is not contiguous; it is updated in place, so pass a contiguous tensor")
    q, v, log_decay = (x.contiguous() for x in (q, v, log_decay))
    k, u = (None if x is None else x.contiguous() for x in (k, u))
    o = torch.empty(B, 1, heads, V, device=v.device, dtype=v.dtype)
    width, slices = _cut(V)
    channel_decode_step_kernel[(B * heads * slices,)](
        q=q,
        k=k,
        v=v,
        g=log_decay,
        u=u,
        o=o,
        S=state,
        scale=K**-0.5 if scale is None else scale,
        H=H,
        HK=s["HK"],
        HV=HV,
        HS=heads,
        K=K,
        V=V,
        BK=power_of_2(K),
        BV=width,
        SLICES=slices,
        num_warps=WARPS,
    )
    return o


def _cut(V: int) -> tuple[int, int]:
    """Width of a slice, slices per head."""
    width = min(power_of_2(V), WIDTH)
    return width, -(-V // width)


def supports(problem: Problem, tunables: Any) -> str | None:
    """The reason why our kernels cannot serve a problem, or None."""
    if max(problem.K, problem.V) > MAX_DIM:
        return f"head dims up to {MAX_DIM} are supported"
    return None


def configuration(problem: Problem, tunables: dict[str, Value]) -> dict[str, Any]:
    """The step's slices and warps."""
    width, slices = _cut(problem.V)
    return {"step": {"slice": width, "slices": slices, "warps": WARPS}}


def registration() -> dict[str, Any]:
    """Keywords of `Operator.implementation` for a decode step."""
    return {
        "origin": "ours",
        "devices": {"cuda", "interpret"},
        "passes": {"decode"},
        "supports": supports,
        "configuration": configuration,
    }
