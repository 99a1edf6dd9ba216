"""The decode step: one token per sequence, the state updated in place, one launch."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from kernels.common.arguments import check_flags, check_states
from kernels.common.device import LOG2E, load_normaliser, load_state, silu, store_normaliser, store_state
from kernels.common.shapes import power_of_2
from kernels.scalar_decay.autograd import NO_GATES, Gates, check_tensors, parts_of
from kernels.scalar_decay.device import features
from suite.errors import UsageError

# Elements of a state tile: 64 KiB in fp32, which 8 warps hold without spilling.
TILE = 16384


@triton.jit(do_not_specialize=["scale", "eps"])
def linear_decode_step_kernel(
    q,
    k,
    v,
    gate,
    rate,
    skip,
    out_gate,
    o,
    S,
    z,
    scale,
    eps,
    H: tl.constexpr,
    HK: tl.constexpr,
    HV: tl.constexpr,
    HS: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    SLICES: tl.constexpr,
    TILES: tl.constexpr,
    MAP: tl.constexpr,
    NORMALISED: tl.constexpr,
    DECAY: tl.constexpr,
):
    """S = e^g S + w phi(k) v^T, z += phi(k);  o = (s phi(q)^T S [ / (s phi(q) . z + eps) ] + D v) silu(out_gate).

    g and w are those of Gates in autograd.py: g = 0 and w = 1 without gates.

    Grid:    sequences x HS x slices of V, one axis, slices fastest. Normalised, a program takes all of V in TILES
             turns: z is updated in place, so no other program may need the old one.
    On chip: a tile of S [BK, BV], fp32.
    Reads and writes: S [N, HS, K, V] and z [N, HS, K] once each, in their dtype; a token's q, k, v, gates and o.
    """
    pid = tl.program_id(0)
    h = pid // SLICES % HS
    n = (pid // (SLICES * HS)).to(tl.int64)
    o_k = tl.arange(0, BK)
    keep = tl.full([1], 1, tl.int1)
    at_q = q + (n * H + h // (HS // H)) * K + o_k
    at_k = k + (n * HK + h // (HS // HK)) * K + o_k
    b_q = features(
        tl.load(at_q, mask=o_k < K, other=0.0).to(tl.float32)[None, :], keep, 0, D=K, BD=BK, MAP=MAP
    )  # [1, BK]
    b_k = features(
        tl.load(at_k, mask=o_k < K, other=0.0).to(tl.float32)[None, :], keep, 0, D=K, BD=BK, MAP=MAP
    )  # [1, BK]
    b_q = tl.sum(b_q, 0) * scale
    b_k = tl.sum(b_k, 0)
    index = n * HS + h
    passed = 1.0
    if DECAY == "head":
        passed = tl.exp2(tl.load(rate + h).to(tl.float32) * LOG2E)
    if DECAY == "token":
        passed = tl.exp2(tl.load(gate + index).to(tl.float32) * LOG2E)
    if DECAY == "step":
        b_gate = tl.load(gate + index).to(tl.float32)
        passed = tl.exp2(b_gate * tl.load(rate + h).to(tl.float32) * LOG2E)
        b_k *= b_gate
    den = 1.0
    if NORMALISED:
        b_z = load_normaliser(z, index, o_k, K, K) + b_k
        store_normaliser(z, index, b_z, o_k, K=K, SIZE=K)
        den = tl.sum(b_q * b_z, 0) + eps
    for tile in range(TILES):
        o_v = (pid % SLICES * TILES + tile) * BV + tl.arange(0, BV)
        b_v = tl.load(v + (n * HV + h // (HS // HV)) * V + o_v, mask=o_v < V, other=0.0).to(tl.float32)
        b_S = load_state(S, index, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
        b_S = b_S * passed + b_k[:, None] * b_v[None, :]
        store_state(S, index, b_S, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
        b_o = tl.sum(b_q[:, None] * b_S, 0) / den
        if skip is not None:
            b_o += b_v * tl.load(skip + h).to(tl.float32)
        if out_gate is not None:
            b_open, _ = silu(tl.load(out_gate + index * V + o_v, mask=o_v < V, other=0.0))
            b_o *= b_open
        tl.store(o + index * V + o_v, b_o.to(o.dtype.element_ty), mask=o_v < V)


def step_scalar_decay(
    q,
    k,
    v,
    gates: Gates = NO_GATES,
    *,
    state,
    feature_map: str = "identity",
    normalised: bool = False,
    scale: float | None = None,
    eps: float = 0.0,
):
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V] -> o [B,1,HS,V] in q's dtype; `state` is updated in place.

    state: S [B,HS,K,V], or the pair (S, z [B,HS,K]) when normalised, in any float dtype, contiguous.
    Raises UsageError on other shapes.
    """
    check_flags(normalised=normalised)
    sizes = check_tensors(q, k, v, gates.dims, scale=scale)
    B, T, H, HK, HV, heads, K, V = (sizes[name] for name in ("B", "T", "H", "HK", "HV", "HS", "K", "V"))
    if T != 1:
        raise UsageError(f"q holds {T} tokens; a decode step takes 1")
    gates.check(v)
    if normalised and any(x is not None for x in gates):
        raise UsageError("a normalised recurrence takes no gates; leave the gates or the normaliser out")
    S, z = parts_of("state", state, normalised)
    check_states(q, {"state S": S, "state z": z})
    _check_state(S, (B, heads, K, V), "S")
    if z is not None:
        _check_state(z, (B, heads, K), "z")
    q, k, v = (x.contiguous() for x in (q, k, v))
    given = gates.gate, gates.rate, gates.skip, gates.out_gate
    gate, rate, skip, out_gate = (None if x is None else x.contiguous() for x in given)
    o = q.new_empty(B, 1, heads, V)
    width, slices, tiles, warps = plan_step(K, V, normalised)
    linear_decode_step_kernel[(B * heads * slices,)](
        q=q,
        k=k,
        v=v,
        gate=gate,
        rate=rate,
        skip=skip,
        out_gate=out_gate,
        o=o,
        S=S,
        z=z,
        scale=K**-0.5 if scale is None else scale,
        eps=eps,
        H=H,
        HK=HK,
        HV=HV,
        HS=heads,
        K=K,
        V=V,
        BK=power_of_2(K),
        BV=width,
        SLICES=slices,
        TILES=tiles,
        MAP=feature_map,
        NORMALISED=normalised,
        DECAY=gates.decay,
        num_warps=warps,
    )
    return o


def plan_step(K: int, V: int, normalised: bool) -> tuple[int, int, int, int]:
    """Width of a state tile, slices (programs a head), tiles a program, warps."""
    if normalised:
        width = min(power_of_2(V), TILE // power_of_2(K))
        return width, 1, -(-V // width), 8
    width = min(power_of_2(V), 32)
    return width, -(-V // width), 1, 4


def _check_state(x: torch.Tensor, expected: Sequence[int], name: str) -> None:
    if x.shape != tuple(expected):
        raise UsageError(f"state {name} is {tuple(x.shape)}; it must be {tuple(expected)}")
    if not x.is_contiguous():
        raise UsageError(f"state {name} is not contiguous; it is updated in place, so pass a contiguous tensor")
