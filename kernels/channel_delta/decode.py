"""The decode step: one token per sequence, the state updated in place, one launch."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

import torch
import triton
import triton.language as tl

from kernels.channel_delta.autograd import sizes_of
from kernels.channel_delta.launch import Inputs
from kernels.common.arguments import check_flags, check_given, check_states
from kernels.common.device import load_state, store_state
from kernels.common.shapes import power_of_2
from suite.errors import UsageError

NORM_EPS = tl.constexpr(1e-6)
WIDTH, WARPS = 32, 4


@triton.jit(do_not_specialize=["scale"])
def channel_delta_step_kernel(
    q,
    k,
    v,
    g,
    beta,
    a,
    b,
    o,
    S,
    scale,
    H: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    DPLR: tl.constexpr,
    L2NORM: tl.constexpr,
):
    """KDA: S = diag(e^g) S, S += beta k (v - k^T S)^T. DPLR: S = diag(e^g) S + b (a^T S) + k v^T. o = s q^T S.

    Grid:    sequences x HS x slices of V, one axis, slices fastest.
    On chip: a slice of S [BK, BV], fp32.
    Reads and writes: S [N, HS, K, V] once each, in its dtype; a token's q, k, v, gates and o.
    """
    pid = tl.program_id(0)
    slice_v = pid % SLICES
    h = pid // SLICES % HS
    n = (pid // (SLICES * HS)).to(tl.int64)
    o_k = tl.arange(0, BK)
    o_v = slice_v * BV + tl.arange(0, BV)
    index = n * HS + h
    shared = (n * H + h // (HS // H)) * K + o_k
    b_q = tl.load(q + shared, mask=o_k < K, other=0.0).to(tl.float32)
    b_k = tl.load(k + shared, mask=o_k < K, other=0.0).to(tl.float32)
    if L2NORM:
        b_q *= tl.rsqrt(tl.sum(b_q * b_q, 0) + NORM_EPS)
        b_k *= tl.rsqrt(tl.sum(b_k * b_k, 0) + NORM_EPS)
    b_v = tl.load(v + index * V + o_v, mask=o_v < V, other=0.0).to(tl.float32)
    b_g = tl.load(g + index * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)
    b_S = load_state(S, index, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)  # [BK, BV]
    if DPLR:
        b_a = tl.load(a + index * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)
        b_b = tl.load(b + index * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)
        b_u = tl.sum(b_a[:, None] * b_S, 0)
        b_S = tl.exp(b_g)[:, None] * b_S + b_b[:, None] * b_u[None, :] + b_k[:, None] * b_v[None, :]
    else:
        b_S *= tl.exp(b_g)[:, None]
        b_u = tl.load(beta + index).to(tl.float32) * (b_v - tl.sum(b_k[:, None] * b_S, 0))
        b_S += b_k[:, None] * b_u[None, :]
    store_state(S, index, b_S, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
    b_o = tl.sum(b_q[:, None] * b_S, 0) * scale
    tl.store(o + index * V + o_v, b_o.to(o.dtype.element_ty), mask=o_v < V)


def step_channel_delta(
    q, k, v, log_decay, *, beta=None, a=None, b=None, state, scale: float | None, l2norm: bool = False
):
    """q, k [B,1,H,K], v [B,1,HS,V], log_decay [B,1,HS,K] -> o [B,1,HS,V] in q's dtype; `state` is updated in place.

    Either beta [B,1,HS], or a and b [B,1,HS,K]. state: S [B,HS,K,V] in any float dtype, contiguous. Raises UsageError
    on other shapes.
    """
    check_flags(l2norm=l2norm)
    x = Inputs(q, k, v, log_decay, beta=beta, a=a, b=b)
    sizes = sizes_of(x, scale)
    B, T, H, heads, K, V = (sizes[name] for name in ("B", "T", "H", "HV", "K", "V"))
    if T != 1:
        raise UsageError(f"q holds {T} tokens; a decode step takes 1")
    check_given(state=state)
    check_states(q, {"the state": state})
    if state.shape != (B, heads, K, V):
        raise UsageError(f"the state is {tuple(state.shape)}; it must be {(B, heads, K, V)}")
    if not state.is_contiguous():
        raise UsageError("the state is not contiguous; it is updated in place, so pass a contiguous tensor")
    x = x.contiguous()
    o = torch.empty_like(x.v, dtype=q.dtype)
    width, slices = plan_step(V)
    channel_delta_step_kernel[(B * heads * slices,)](
        **x._asdict(),
        o=o,
        S=state,
        scale=K**-0.5 if scale is None else scale,
        H=H,
        HS=heads,
        K=K,
        V=V,
        BK=power_of_2(K),
        BV=width,
        SLICES=slices,
        DPLR=a is not None,
        L2NORM=l2norm,
        num_warps=WARPS,
    )
    return o


def plan_step(V: int) -> tuple[int, int]:
    """Width of a state slice, and slices (programs per head)."""
    width = min(power_of_2(V), WIDTH)
    return width, -(-V // width)
