"""How far rounding takes chunked Kimi Delta Attention from the oracle, by length, gates and how alike the keys are.

    python -m tests.kernels.channel_delta.precision

Prints a Markdown table: errors of o (RMS over the oracle's RMS) of the kernels' own sequences of products, carried out
in PyTorch with operands rounded to bfloat16 as the kernels round them, and of the plain PyTorch chunks. The
interpreter is too slow for these lengths. Nothing here is a limit.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from baselines.channel_delta.kimi_delta_attention.pytorch import torch_chunk
from kernels.channel_delta.kimi_delta_attention.spec import recurrence
from suite.numerics import difference
from tests.kernels.delta.precision import CHUNK, KEYS, LENGTHS, K, Keys, V, inverse

LEVELS = CHUNK.bit_length() - 1
WIDTH, WIDEST, NARROWEST = 32, 100.0, 3
# A of -A softplus(x + bias): the slowest and the fastest head that a model starts with.
SLOW, FAST = 1.0, 16.0


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().float()


def since_boundary(G: torch.Tensor, level: int) -> torch.Tensor:
    """G less its value at the end of the lower half of each row's block of 2 << level rows."""
    last = (torch.arange(CHUNK) >> (level + 1) << (level + 1)) + (1 << level) - 1
    return G - G[last]


def scores(x: torch.Tensor, y: torch.Tensor, G: torch.Tensor) -> torch.Tensor:
    """tril(x y^T, -1) through the decays 2^(G_i - G_j), level by level in slices of the channels, as the kernels do."""
    i, found = torch.arange(CHUNK), torch.zeros(CHUNK, CHUNK)
    order = torch.where(i[:, None] > i[None, :], i[:, None] ^ i[None, :], 0)
    for at in range(0, K, WIDTH):
        part = [each[:, at : at + WIDTH] for each in (x, y, G)]
        fits = [level for level in range(NARROWEST, LEVELS) if since_boundary(part[2], level).abs().max() < WIDEST]
        first = max(fits, default=0)
        for level in range(first, LEVELS):
            whole = level == first > 0
            since, most = since_boundary(part[2], level), WIDEST if whole else 0.0
            product = (
                rounded(part[0] * since.clamp(max=most).exp2()) @ rounded(part[1] * (-since).clamp(max=most).exp2()).T
            )
            found += torch.where((order >= (1 if whole else 1 << level)) & (order < 2 << level), product, 0.0)
    return found


def chunks(q, k, v, log_decay, beta, merge: torch.dtype) -> torch.Tensor:
    """o [1, T, 1, V] fp32: the forward sweep over prepared operands; the inverse's products in `merge`."""
    S, outputs = torch.zeros(K, V), []
    for at in range(0, q.shape[1], CHUNK):
        b_q, b_k, b_v, b_g = (x[0, at : at + CHUNK, 0].float() for x in (q, k, v, log_decay))
        b, G = beta[0, at : at + CHUNK, 0, None], (b_g * math.log2(math.e)).cumsum(0)
        before, after = G.exp2(), (G[-1] - G).exp2()
        A, QB = scores(b_k, b_k, G) * b.T, scores(b_q, b_k, G) * b.T
        QB = rounded(QB + torch.diag(b[:, 0] * (b_q * b_k).sum(1)))
        X = rounded(inverse(A, merge))
        u = rounded(X @ b_v - rounded(X @ rounded(b_k * before)) @ rounded(S))
        outputs.append(rounded(b_q * before) @ rounded(S) + QB @ u)
        S = before[-1, :, None] * S + rounded(b * b_k * after).T @ u
    return rounded(torch.cat(outputs) * K**-0.5)[None, :, None]


def errors(T: int, keys: Keys, rate: float) -> list[float]:
    """Errors with the inverse in bf16, fp16 and fp32, and of torch_chunk."""
    generator = torch.Generator().manual_seed(T)
    q, k, v = (torch.randn(1, T, 1, size, generator=generator) for size in (K, K, V))
    q, k, v = (x.bfloat16() for x in (F.normalize(q, dim=-1), F.normalize(keys(k, generator), dim=-1), v))
    beta = torch.randn(1, T, 1, generator=generator).sigmoid()
    step = (torch.rand(K, generator=generator) * math.log(100.0) + math.log(1e-3)).exp()
    bias = step + torch.log(-torch.expm1(-step))
    log_decay = -rate * F.softplus(torch.randn(1, T, 1, K, generator=generator) + bias)
    exact, _ = recurrence(*(x.double() for x in (q, k, v, log_decay, beta)))
    given = (q, k, v, log_decay, beta)
    found = [chunks(*given, merge) for merge in (torch.bfloat16, torch.float16, torch.float32)]
    found.append(torch_chunk(*given)[0])
    return [difference(o, exact, 1).error for o in found]


def main() -> None:
    print("| keys | A | T | inverse in bf16 | in fp16 (ours) | in fp32 | torch_chunk |")
    print("|---|---|---|---|---|---|---|")
    for name, keys in KEYS.items():
        for rate, T in [(SLOW, T) for T in LENGTHS] + [(FAST, LENGTHS[-1])]:
            found = " | ".join(f"{error:.1e}" for error in errors(T, keys, rate))
            print(f"| {name} | {rate:.0f} | {T} | {found} |", flush=True)


if __name__ == "__main__":
    main()
