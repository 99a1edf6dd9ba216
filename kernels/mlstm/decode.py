"""The decode step of mLSTM in Triton: one token per sequence, the state updated in place, one launch."""

# Triton types a launch as a call of the kernel, whose constexpr parameters take plain values, and a device function as
# one that never returns.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportGeneralTypeIssues=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton
import triton.language as tl

from kernels.common.arguments import check_given
from kernels.common.device import at_least, load_normaliser, load_state, store_normaliser, store_state
from kernels.common.shapes import power_of_2
from kernels.mlstm.chunk import check_sizes, check_state
from kernels.mlstm.device import EMPTY, LARGEST, SMALLEST, WIDEST, log_sigmoid
from kernels.mlstm.plan import supports
from kernels.mlstm.spec import EXP, SIGMOID, mlstm
from kernels.scalar_decay.decode import TILE
from suite import Problem
from suite.errors import UsageError, unknown
from suite.problem import Value


@triton.jit(do_not_specialize=["scale"])
def mlstm_decode_step_kernel(
    q,
    k,
    v,
    input_gate,
    forget_gate,
    o,
    C,
    n,
    m,
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
    TILES: tl.constexpr,
    EXP: tl.constexpr,
):
    """C = f' C + i' k v^T, n = f' n + i' k, m = max(log f + m, i);  o = s C^T q / max(|s n . q|, exp(-m)), or s C^T q.

    Grid:    sequences x HS x slices of V, one axis, slices fastest. With the exponential gate a program takes all of V
             in TILES turns: n and m are updated in place, so no other program may need the old ones.
    On chip: a tile of C [BK, BV], fp32.
    Reads and writes: C [N, HS, K, V], n [N, HS, K] and m [N, HS] once each, in their dtype; a token's q, k, v, gates
             and o.
    """
    pid = tl.program_id(0)
    h = pid // SLICES % HS
    sequence = (pid // (SLICES * HS)).to(tl.int64)
    index = sequence * HS + h
    o_k = tl.arange(0, BK)
    b_q = tl.load(q + (sequence * H + h // (HS // H)) * K + o_k, mask=o_k < K, other=0.0).to(tl.float32) * scale
    b_k = tl.load(k + (sequence * HK + h // (HS // HK)) * K + o_k, mask=o_k < K, other=0.0).to(tl.float32)
    f = log_sigmoid(tl.load(forget_gate + index).to(tl.float32))
    b_input = tl.load(input_gate + index).to(tl.float32)
    den = 1.0
    if EXP:
        i = at_least(b_input, EMPTY)
        m_before = at_least(tl.load(m + index).to(tl.float32), EMPTY)
        m_after = at_least(f + m_before, i)
        passed = tl.exp(f + (m_before - m_after))
        b_k *= tl.exp(i - m_after)
        b_n = load_normaliser(n, index, o_k, K, K) * passed + b_k
        # Every warp reads all of m and, where K is short, of n: none may write before the last has read.
        tl.debug_barrier()
        store_normaliser(n, index, b_n, o_k, K=K, SIZE=K)
        tl.store(m + index, m_after.to(m.dtype.element_ty))
        den = tl.maximum(tl.abs(tl.sum(b_q * b_n, 0)), tl.exp(tl.minimum(-m_after, WIDEST)))
        den = tl.minimum(tl.maximum(den, SMALLEST), LARGEST)
    else:
        passed = tl.exp(f)
        b_k *= tl.exp(log_sigmoid(b_input))
    for tile in range(TILES):
        o_v = (pid % SLICES * TILES + tile) * BV + tl.arange(0, BV)
        b_v = tl.load(v + (sequence * HV + h // (HS // HV)) * V + o_v, mask=o_v < V, other=0.0).to(tl.float32)
        b_C = load_state(C, index, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
        b_C = b_C * passed + b_k[:, None] * b_v[None, :]
        store_state(C, index, b_C, o_k[:, None], o_v[None, :], K=K, V=V, SIZE=K * V)
        b_o = tl.sum(b_q[:, None] * b_C, 0) / den
        tl.store(o + index * V + o_v, b_o.to(o.dtype.element_ty), mask=o_v < V)


def _tiling(K: int, V: int, exponential: bool) -> tuple[int, int, int, int]:
    """Width of a tile of C, slices (programs a head), tiles a program, warps."""
    if exponential:
        width = min(power_of_2(V), TILE // power_of_2(K))
        return width, 1, -(-V // width), 8
    width = min(power_of_2(V), 32)
    return width, -(-V // width), 1, 4


def _configuration(problem: Problem, tunables: Mapping[str, Value]) -> dict[str, Any]:
    width, slices, tiles, warps = _tiling(problem.K, problem.V, problem.axis("gate") == EXP)
    return {"step": {"slice": width, "slices": slices, "tiles": tiles, "warps": warps}}


@mlstm.implementation(
    "triton_step",
    origin="ours",
    devices={"cuda", "interpret"},
    passes={"decode"},
    supports=supports,
    configuration=_configuration,
)
def step_mlstm(q, k, v, input_gate, forget_gate, *, state, gate: str = EXP, scale: float | None = None):
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], gates [B,1,HS] -> o [B,1,HS,V]; the state is updated in place.

    state: (C [B,HS,K,V], n [B,HS,K], m [B,HS]), with gate = "sigmoid" C alone; contiguous. Raises UsageError on bad
    input.
    """
    if gate not in (EXP, SIGMOID):
        raise unknown("gate", gate, (EXP, SIGMOID))
    sizes = check_sizes(q, k, v, input_gate, forget_gate, scale=scale)
    B, T, H, heads, K, V = (sizes[name] for name in ("B", "T", "H", "HS", "K", "V"))
    if T != 1:
        raise UsageError(f"q holds {T} tokens; a decode step takes 1")
    check_given(state=state)
    parts = check_state(q, state, gate, B, heads, K, V)
    for name, x in parts._asdict().items():
        if x is not None and not x.is_contiguous():
            raise UsageError(f"state {name} is not contiguous; it is updated in place, so pass a contiguous tensor")
    q, k, v, input_gate, forget_gate = (x.contiguous() for x in (q, k, v, input_gate, forget_gate))
    o = q.new_empty(B, 1, heads, V)
    width, slices, tiles, warps = _tiling(K, V, gate == EXP)
    mlstm_decode_step_kernel[(B * heads * slices,)](
        q=q,
        k=k,
        v=v,
        input_gate=input_gate,
        forget_gate=forget_gate,
        o=o,
        **parts._asdict(),
        scale=K**-0.5 if scale is None else scale,
        H=H,
        HK=k.shape[2],
        HV=v.shape[2],
        HS=heads,
        K=K,
        V=V,
        BK=power_of_2(K),
        BV=width,
        SLICES=slices,
        TILES=tiles,
        EXP=gate == EXP,
        num_warps=warps,
    )
    return o
