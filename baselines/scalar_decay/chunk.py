"""Chunkwise decayed recurrence in PyTorch: all chunks at once, their states joined by products over groups of chunks.

    O_c = s (exp(G) Q_c S_c + (Q_c K_c^T . exp(G_i - G_j), j <= i) V_c)
    S_{c+1} = exp(G_C) S_c + (K_c exp(G_C - G))^T V_c

Products are in the dtype of the inputs, as tensor cores want them; decays and states are in float32.
Sources: Sun et al. 2023, arXiv:2307.08621, equation 7; for a decay per token: Dao and Gu 2024, arXiv:2405.21060.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from baselines.precision import widen
from baselines.scalar_decay.decay import a_token, between, cumulated
from kernels.common.heads import expand_heads
from kernels.common.packed import apart, host_copy, per_sequence

# Chunks whose states one product joins: its FLOPs grow with this, the number of steps falls.
GROUP = 16


def torch_chunk(
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
    chunk: int = 64,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [HS] or [B,T,HS] -> (o [B,T,HS,V], S [N,HS,K,V] or None).

    A sequence shorter than a chunk is one chunk of its length; packed sequences are run one after the other.
    """
    heads, T, C = max(q.shape[2], v.shape[2]), q.shape[1], min(chunk, q.shape[1])
    log_decay = a_token(log_decay, q, heads)
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, q)
    if apart(q, bounds):
        o, final = per_sequence(
            torch_chunk,
            q,
            k,
            v,
            log_decay,
            cu_seqlens=bounds,
            scale=scale,
            chunk=chunk,
            initial_state=initial_state,
            output_final_state=output_final_state,
        )
        assert not isinstance(final, tuple)
        return o, final
    dtype, s = q.dtype, q.shape[-1] ** -0.5 if scale is None else scale
    # [B, HS, chunks, C, D]
    qc, kc, vc = (_split(expand_heads(x, heads), C) for x in (q, k, v))
    G = cumulated(_split(log_decay[..., None], C).squeeze(-1))
    wide = widen(G.new_empty(0, dtype=dtype)).dtype
    scores = (widen(qc @ kc.transpose(-1, -2)) * between(G, G, wide)).to(dtype)
    left = (G[..., -1:] - G).exp().to(wide)
    sums = (widen(kc) * left[..., None]).to(dtype).transpose(-1, -2) @ vc
    S, final = _running(widen(sums), G[..., -1], initial_state)
    o = G.exp().to(wide)[..., None] * widen(qc @ S.to(dtype)) + widen(scores @ vc)
    o = (s * o).flatten(2, 3)[:, :, :T].transpose(1, 2).to(v.dtype)
    if not output_final_state:
        return o, None
    return o, final if initial_state is None else final.to(initial_state.dtype)


def _split(x: torch.Tensor, C: int) -> torch.Tensor:
    """[B, T, HS, D] -> [B, HS, chunks, C, D], the last chunk padded with zeros: such tokens neither decay nor add."""
    padded = F.pad(x, (0, 0, 0, 0, 0, -x.shape[1] % C))
    return padded.transpose(1, 2).unflatten(2, (-1, C)).contiguous()


def _running(
    parts: torch.Tensor, totals: torch.Tensor, first: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """The state before each chunk [B, HS, chunks, K, V], and the one after the last, in the dtype of `parts`.

    parts: what each chunk adds; totals: each chunk's log decay [B, HS, chunks]; first: the state before the first chunk
    """
    carry = torch.zeros_like(parts[:, :, 0]) if first is None else first.to(parts.dtype)
    carry, flat, starts = carry.flatten(2), parts.flatten(3), []
    for begin in range(0, parts.shape[2], GROUP):
        x, L = flat[:, :, begin : begin + GROUP], cumulated(totals[:, :, begin : begin + GROUP])
        before = torch.cat([torch.zeros_like(L[..., :1]), L], -1)
        states = between(before, L, x.dtype, diagonal=-1) @ x + before.exp().to(x.dtype)[..., None] * carry[:, :, None]
        starts.append(states[:, :, :-1])
        carry = states[:, :, -1]
    return torch.cat(starts, 2).unflatten(-1, parts.shape[-2:]), carry.unflatten(-1, parts.shape[-2:])
