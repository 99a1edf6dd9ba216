"""Gates: mLSTM as a recurrence with a scalar decay, which is how the PyTorch forms compute it.

With log f' and log i' at most 0 (the stabiliser taken out), k weighted by i', and a column of ones beside v:

    [C n]_t = f'_t [C n]_{t-1} + i'_t k_t [v_t 1]^T        [C n]_t^T q_t = (numerator, n_t . q_t)

The stabiliser m_t = max(log f_t + m_{t-1}, i_t) is F_t + M_t, F being the sum of the log forget gates and M the running
maximum of i_j - F_j: so all tokens have theirs at once. In float64, since differences of long sums are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from baselines.precision import widen
from kernels.common.heads import expand_heads
from kernels.common.packed import apart, host_copy, per_sequence
from kernels.mlstm.spec import EXP, NOTHING

State = torch.Tensor | tuple[torch.Tensor, ...]
# exp of this is 0 in float64 too; -inf would make differences NaN.
LOWEST = -1e3
# The least log forget gate. Beside the sums of such ones in float64, what the other gates add keeps its digits; what is
# left of memory counts for nothing beside an input gate above it.
LEAST_FORGET = -1e5


def decays(
    input_gate: torch.Tensor, forget_gate: torch.Tensor, gate: str, m: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """(log f', i', m) [B,T,HS] float64 of gates [B,T,HS], m None with the sigmoid gate.

    m [B,HS] is the stabiliser before the first token, or None. It carries no gradient.
    """
    log_f, i = F.logsigmoid(forget_gate.double()).clamp(min=LEAST_FORGET), input_gate.double()
    if gate != EXP:
        return log_f, i.sigmoid(), None
    with torch.no_grad():
        before = torch.full_like(i[:, :1], -torch.inf) if m is None else m.double()[:, None]
        sums = log_f.cumsum(1)
        tops = torch.cat([before, i - sums], 1).cummax(1).values
        m_after = sums + tops[:, 1:]
        m_before = torch.cat([before, m_after[:, :-1]], 1)
        # Nothing is remembered at m = -inf, neither before nor after: any finite value serves there.
        taken = m_after.masked_fill(m_after == -torch.inf, 0.0)
    return (log_f + m_before - taken).clamp(min=LOWEST), (i - taken).exp(), m_after


def weighted(k: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """[B,T,HK,K] -> [B,T,HS,K] in k's dtype: k of each state head times its weight [B,T,HS]."""
    return (widen(expand_heads(k, weight.shape[2])) * weight[..., None].to(widen(k).dtype)).to(k.dtype)


def divided(numerator: torch.Tensor, total: torch.Tensor, m: torch.Tensor) -> torch.Tensor:
    """numerator [..., V] / max(|total|, exp(-m)) in the numerator's dtype, for total and m [...]."""
    floor = (-m).exp().to(widen(total).dtype)
    return (widen(numerator) / torch.maximum(widen(total).abs(), floor)[..., None]).to(numerator.dtype)


def run(
    decayed: Callable[..., Any],
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    input_gate: torch.Tensor,
    forget_gate: torch.Tensor,
    *,
    gate: str,
    initial_state: State | None,
    output_final_state: bool,
    cu_seqlens: torch.Tensor | None,
    cu_seqlens_cpu: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, State | None]:
    """mLSTM by a function of baselines/scalar_decay, called as decayed(q, k, v, log_decay, initial_state=…, …)."""
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, q)
    if apart(q, bounds):
        return per_sequence(
            _one,
            q,
            k,
            v,
            input_gate,
            forget_gate,
            cu_seqlens=bounds,
            initial_state=initial_state,
            output_final_state=output_final_state,
            nothing=NOTHING,
            decayed=decayed,
            gate=gate,
            **options,
        )
    return _one(
        q,
        k,
        v,
        input_gate,
        forget_gate,
        decayed=decayed,
        gate=gate,
        initial_state=initial_state,
        output_final_state=output_final_state,
        **options,
    )


def _one(q, k, v, input_gate, forget_gate, *, decayed, gate, initial_state, output_final_state, **options):
    C, n, m = initial_state if gate == EXP and initial_state is not None else (initial_state, None, None)
    log_f, weight, m_after = decays(input_gate, forget_gate, gate, m)
    k = weighted(k, weight)
    if m_after is None:
        return decayed(q, k, v, log_f, initial_state=C, output_final_state=output_final_state, **options)
    v = torch.cat([v, v.new_ones(*v.shape[:3], 1)], -1)
    start = None if n is None or C is None else torch.cat([C, n[..., None]], -1)
    o, final = decayed(q, k, v, log_f, initial_state=start, output_final_state=output_final_state, **options)
    o = divided(o[..., :-1], o[..., -1], m_after)
    return o, (final[..., :-1], final[..., -1], m_after[:, -1].float()) if output_final_state else None
