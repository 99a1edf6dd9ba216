"""S4D in PyTorch: one token at a time, as a causal convolution by FFT, and a decode step.

Source: Gu, Gupta, Goel and Re 2022, arXiv:2206.11893.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from baselines.precision import widen
from kernels.common.packed import apart, host_copy, per_sequence
from kernels.scan.s4d.spec import discretised, s4d, taps
from suite import Problem
from suite.problem import Value

# Packed, states come through kernels.common.packed, which knows tuples of them too.
Scan = tuple[torch.Tensor, Any]


def _constants(
    log_dt: torch.Tensor, A_real: torch.Tensor, A_imag: torch.Tensor, C: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Real and imaginary parts of a and c, [HS, M, V] in float32."""
    size, phase, c_real, c_imag = discretised(log_dt, A_real, A_imag, C)
    made = (size.exp() * phase.cos(), size.exp() * phase.sin(), c_real, c_imag)
    return tuple(x.transpose(1, 2).to(torch.promote_types(A_real.dtype, torch.float32)) for x in made)


@s4d.implementation("naive", origin="baseline")
def naive(
    u: torch.Tensor,
    log_dt: torch.Tensor,
    A_real: torch.Tensor,
    A_imag: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    *,
    initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
    cu_seqlens: torch.Tensor | None = None,
    cu_seqlens_cpu: torch.Tensor | None = None,
) -> Scan:
    """Shapes as in the operator's spec -> (o [B,T,HS,V], state [sequences,HS,N,V]): a loop over tokens in float32."""
    bounds = host_copy(cu_seqlens, cu_seqlens_cpu, u)
    if apart(u, bounds):

        def one(u, **options):
            return naive(u, log_dt, A_real, A_imag, C, D, **options)

        return per_sequence(
            one, u, cu_seqlens=bounds, initial_state=initial_state, output_final_state=output_final_state
        )
    a_real, a_imag, c_real, c_imag = _constants(log_dt, A_real, A_imag, C)
    wide = widen(u)
    zeros = wide.new_zeros(u.shape[0], *a_real.shape)
    real, imag = (zeros, zeros) if initial_state is None else widen(initial_state).chunk(2, dim=2)
    outputs = []
    for t in range(u.shape[1]):
        real, imag = a_real * real - a_imag * imag + wide[:, t, :, None], a_real * imag + a_imag * real
        outputs.append(((c_real * real - c_imag * imag).sum(2) + D * wide[:, t]).to(u.dtype))
    final = torch.cat([real, imag], dim=2)
    final = final if initial_state is None else final.to(initial_state.dtype)
    return torch.stack(outputs, dim=1), final if output_final_state else None


def fft_size(T: int) -> int:
    """The length of the transforms: at least 2 T - 1, so that the convolution does not wrap around."""
    return 1 << (2 * T - 1).bit_length() if T > 1 else 1


def fft_flops(problem: Problem, tunables: Mapping[str, Value]) -> float:
    """2.5 L log2 L for each real transform of length L: u's and o's a sequence and channel, the kernel's a channel.

    The kernel's taps are 6 FLOPs per pair of modes and token, once per channel. Backward twice all of it.
    """
    p, L = problem, fft_size(problem.T)
    channels = p.HS * p.V
    transform = 2.5 * L * max(1.0, math.log2(L))
    flops = channels * (transform * (2 * p.B + 1) + 3 * L * p.B + 6 * p.T * (p.K // 2))
    return float(flops) * {"fwd": 1, "bwd": 2, "fwdbwd": 3}[p.pass_]


@s4d.implementation("torch_fft", origin="baseline", flops_exec=fft_flops)
def torch_fft(
    u: torch.Tensor,
    log_dt: torch.Tensor,
    A_real: torch.Tensor,
    A_imag: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
) -> tuple[torch.Tensor, None]:
    """Shapes as in the operator's spec -> (o [B,T,HS,V], None): o = k * u + D u by FFT in float32.

    A convolution has no state: neither an initial nor a final one.
    """
    T, wide = u.shape[1], widen(u)
    k = taps(log_dt, A_real, A_imag, C, T).to(wide.dtype).permute(2, 0, 1)
    size = fft_size(T)
    product = torch.fft.rfft(k, n=size, dim=0) * torch.fft.rfft(wide, n=size, dim=1)
    return (torch.fft.irfft(product, n=size, dim=1)[:, :T] + D * wide).to(u.dtype), None


@s4d.implementation("torch_step", origin="baseline", passes={"decode"})
def torch_step(
    u: torch.Tensor,
    log_dt: torch.Tensor,
    A_real: torch.Tensor,
    A_imag: torch.Tensor,
    C: torch.Tensor,
    D: torch.Tensor,
    *,
    state: torch.Tensor,
) -> torch.Tensor:
    """u [B,1,HS,V] -> o [B,1,HS,V]; state [B,HS,N,V] is updated in place."""
    o, final = naive(u, log_dt, A_real, A_imag, C, D, initial_state=state, output_final_state=True)
    assert final is not None
    state.copy_(final)
    return o
