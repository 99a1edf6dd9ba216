"""How far rounding takes the chunked delta rule from the oracle, by length and by how alike the keys are.

    python -m tests.kernels.delta.precision

Prints a Markdown table: errors of o (RMS over the oracle's RMS) of the kernels' own sequence of products without a
gate, carried out in PyTorch with operands rounded as the kernels round them, where only the inverse's products differ,
and of the plain PyTorch chunks. The interpreter is too slow for these lengths. Nothing here is a limit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from baselines.delta.pytorch import torch_chunk
from kernels.delta.delta_rule.spec import recurrence
from suite.numerics import difference

CHUNK, K, V = 64, 128, 128
LENGTHS = (256, 1024, 4096)
Keys = Callable[[torch.Tensor, torch.Generator], torch.Tensor]


def nearly_parallel(noise: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Keys within about 25 degrees of each other: one direction and a fifth as much noise."""
    return torch.randn(K, generator=generator) + 0.2 * noise


def repeated(noise: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Eight keys, taken in turn."""
    return noise[:, :8].repeat(1, -(-noise.shape[1] // 8), 1, 1)[:, : noise.shape[1]]


KEYS: dict[str, Keys] = {
    "random": lambda noise, generator: noise,
    "nearly parallel": nearly_parallel,
    "8 keys in turn": repeated,
}


def inverse(A: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """(I + A)^{-1} [C, C] as kernels/common/triangular.py merges it, operands and results rounded to `dtype`."""
    i = torch.arange(A.shape[0])
    block, size = i[:, None] ^ i[None, :], 1
    A, X = A.to(dtype).float(), torch.eye(A.shape[0])
    while size < A.shape[0]:
        L = torch.where(block // size == 1, A, 0.0)
        X = X - (X @ (L @ X).to(dtype).float()).to(dtype).float()
        size *= 2
    return X


def chunks(q, k, v, beta, dtype: torch.dtype, merge: torch.dtype) -> torch.Tensor:
    """o [1, T, 1, V] fp32: the forward sweep, operands rounded to `dtype`, sums in fp32, the inverse by `inverse`."""

    def rounded(x: torch.Tensor) -> torch.Tensor:
        return x.to(dtype).float()

    S, outputs = torch.zeros(K, V), []
    for at in range(0, q.shape[1], CHUNK):
        b_q, b_k, b_v = (x[0, at : at + CHUNK, 0].float() for x in (q, k, v))
        b = beta[0, at : at + CHUNK, 0]
        N = rounded(inverse((b_k @ b_k.T).tril(-1) * b[None, :], merge).tril(-1))
        r = b_v - b_k @ rounded(S)
        w = rounded((r + N @ rounded(r)) * b[:, None])
        outputs.append(b_q @ rounded(S) + rounded((b_q @ b_k.T).tril()) @ w)
        S = S + b_k.T @ w
    return rounded(torch.cat(outputs) * K**-0.5)[None, :, None]


def errors(T: int, keys: Keys) -> list[float]:
    """Errors with the inverse in bf16, in fp16 and in fp32, and of torch_chunk; inputs in bf16, beta in [0, 1]."""
    generator = torch.Generator().manual_seed(T)
    q, k, v = (torch.randn(1, T, 1, size, generator=generator) for size in (K, K, V))
    q, k, v = (x.bfloat16() for x in (F.normalize(q, dim=-1), F.normalize(keys(k, generator), dim=-1), v))
    beta = torch.randn(1, T, 1, generator=generator).sigmoid()
    exact, _ = recurrence(q.double(), k.double(), v.double(), beta.double())
    found = [chunks(q, k, v, beta, torch.bfloat16, each) for each in (torch.bfloat16, torch.float16, torch.float32)]
    found.append(torch_chunk(q, k, v, beta)[0])
    return [difference(o, exact, 1).error for o in found]


def main() -> None:
    print("| keys | T | inverse in bf16 | in fp16 (ours) | in fp32 | torch_chunk |\n|---|---|---|---|---|---|")
    for name, keys in KEYS.items():
        for T in LENGTHS:
            print(f"| {name} | {T} | " + " | ".join(f"{error:.1e}" for error in errors(T, keys)) + " |")


if __name__ == "__main__":
    main()
