"""The recurrence with channel gates in PyTorch, one token at a time, and what the operators' specifications share.

S_t = diag(e^g_t) S_{t-1} + k_t v_t^T
o_t = s q_t^T S_t                                     without a bonus
o_t = s q_t^T (S_{t-1} + diag(u) k_t v_t^T)           with a bonus u: the state is read before it decays
"""

from __future__ import annotations

import torch

from kernels.common.heads import expand_heads
from kernels.common.packed import apart, per_sequence
from suite import Cost, Problem, dtypes
from suite.cost import state_bytes
from suite.draw import normal


def recurrence(
    q, k, v, log_decay, *, u=None, scale: float, initial_state=None, output_final_state=False, cu_seqlens=None
):
    """q [B,T,H,K], k [B,T,HK,K], v [B,T,HV,V], log_decay [B,T,HS,K], u [HS,K] -> o [B,T,HS,V], and the state."""
    if apart(q, cu_seqlens):
        return per_sequence(
            recurrence,
            q,
            k,
            v,
            log_decay,
            cu_seqlens=cu_seqlens,
            initial_state=initial_state,
            output_final_state=output_final_state,
            u=u,
            scale=scale,
        )
    heads = max(q.shape[2], v.shape[2])
    q, k, v = (expand_heads(x, heads) for x in (q * scale, k, v))
    decay = log_decay.exp()
    S = q.new_zeros(q.shape[0], heads, q.shape[-1], v.shape[-1]) if initial_state is None else initial_state
    outputs = []
    for t in range(q.shape[1]):
        new = k[:, t, :, :, None] * v[:, t, :, None, :]
        decayed = decay[:, t, :, :, None] * S + new
        read = decayed if u is None else S + u[..., None] * new
        outputs.append(torch.einsum("bhk,bhkv->bhv", q[:, t], read))
        S = decayed
    return torch.stack(outputs, dim=1), (S if output_final_state else None)


def draw_state(problem: Problem, generator: torch.Generator, log_decay: torch.Tensor) -> torch.Tensor:
    """A state [N, HS, K, V] as large as after T tokens under the drawn gates [B,T,HS,K]."""
    p = problem
    kept = log_decay.float().exp().square().mean((0, 1))
    size = ((1 - kept**p.T) / (1 - kept).clamp_min(1e-6)).sqrt()
    drawn = normal(generator, p.N, p.HS, p.K, p.V, dtype="float32") * size[..., None]
    return drawn.to(dtypes.torch_dtype(p.state_dtype))


def channel_cost(problem: Problem, chunk: int, *, stored_keys: bool = True, bonus: bool = False) -> Cost:
    """FLOPs per token and head: 4KV forward and 10KV backward by the recurrence, 5KV for a decode step.

    A bonus is read through the token's own score: 3K + 2V more, 9K + 4V backward. A chunk of C tokens executes 2C(K+V)
    more forward and 2C(3K+2V) more backward. Bytes: q, v, the gates, the bonus and, where stored, k are read once, o is
    written once; backward, do is read and every gradient written besides.
    """
    p = problem
    n = p.tokens * p.HS
    backward = p.pass_ == "bwd"
    inputs = p.H * p.K + p.HV * p.V + p.HS * p.K + (p.HK * p.K if stored_keys else 0)
    io = p.itemsize * p.tokens * ((2 if backward else 1) * inputs + p.HS * p.V)
    io += p.itemsize * p.HS * p.K * bonus * (2 if backward else 1)
    states = state_bytes(p)
    own = (9 * p.K + 4 * p.V if backward else 3 * p.K + 2 * p.V) * bonus
    per_token = {"fwd": 4, "bwd": 10, "decode": 5}[p.pass_] * p.K * p.V + own
    alg = float(n * per_token)
    extra = 2.0 * n * chunk * (3 * p.K + 2 * p.V if backward else p.K + p.V)
    if p.pass_ == "decode":
        return Cost(alg, alg, io + 2 * states, 2 * states, float(n * p.K))
    moved = (3 if backward else 2) * states * p.initial_state
    return Cost(alg, alg + extra, io + moved, moved, float(n * p.K))
