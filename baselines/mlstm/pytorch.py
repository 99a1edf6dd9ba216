"""mLSTM in PyTorch: the forms of baselines/scalar_decay, with the normaliser as one more column of v (see gates.py).

Sources: Beck et al. 2024, arXiv:2405.04517, appendix A.3 (the parallel form); Beck et al. 2025, arXiv:2503.14376 (the
chunkwise form).
"""

from __future__ import annotations

import torch

from baselines.mlstm.gates import State, decays, divided, run, weighted
from baselines.precision import widen
from baselines.scalar_decay.chunk import torch_chunk as decayed_chunk
from baselines.scalar_decay.linear_attention.chunk import chunk_flops
from baselines.scalar_decay.linear_attention.naive import square_flops
from baselines.scalar_decay.naive import naive as decayed_naive
from baselines.scalar_decay.step import torch_step as decayed_step
from kernels.common.heads import expand_heads
from kernels.mlstm.spec import EXP, mlstm


@mlstm.implementation("naive", origin="baseline", flops_exec=square_flops)
def naive(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    input_gate: torch.Tensor,
    forget_gate: torch.Tensor,
    *,
    gate: str = EXP,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> tuple[torch.Tensor, State | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], gates [B,T,HS] -> (o [B,T,HS,V], state or None); products in float32."""
    o, final = run(
        decayed_naive,
        widen(q),
        widen(k),
        widen(v),
        input_gate,
        forget_gate,
        gate=gate,
        scale=scale,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )
    return o.to(v.dtype), final


@mlstm.implementation("torch_chunk", origin="baseline", tunables={"chunk": (64, 32, 128, 256)}, flops_exec=chunk_flops)
def torch_chunk(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    input_gate: torch.Tensor,
    forget_gate: torch.Tensor,
    *,
    gate: str = EXP,
    scale: float | None = None,
    initial_state: State | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
    chunk: int = 64,
) -> tuple[torch.Tensor, State | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], gates [B,T,HS] -> (o [B,T,HS,V], state or None), all chunks at once.

    Products are in the dtype of the inputs, as tensor cores want them.
    """
    return run(
        decayed_chunk,
        q,
        k,
        v,
        input_gate,
        forget_gate,
        gate=gate,
        scale=scale,
        chunk=chunk,
        initial_state=initial_state,
        output_final_state=output_final_state,
        cu_seqlens=cu_seqlens,
        cu_seqlens_cpu=cu_seqlens_cpu,
    )


@mlstm.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    input_gate: torch.Tensor,
    forget_gate: torch.Tensor,
    *,
    state: State,
    gate: str = EXP,
    scale: float | None = None,
) -> torch.Tensor:
    """q [B,1,H,K], k [B,1,HK,K], v [B,1,HV,V], gates [B,1,HS] -> o [B,1,HS,V]; the state is updated in place."""
    C, n, m = state if isinstance(state, tuple) else (state, None, None)
    log_f, weight, m_after = decays(input_gate, forget_gate, gate, m)
    k = weighted(widen(k), weight)
    o = decayed_step(widen(q), k, widen(v), log_f, state=C, scale=scale)
    if n is None or m is None or m_after is None:
        return o.to(v.dtype)
    n.mul_(log_f[:, 0, :, None].exp()).add_(k[:, 0])
    m.copy_(m_after[:, 0])
    s = q.shape[-1] ** -0.5 if scale is None else scale
    total = s * (expand_heads(widen(q), n.shape[1])[:, 0] * widen(n)).sum(-1)
    return divided(o, total[:, None], m_after).to(v.dtype)
