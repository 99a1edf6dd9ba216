"""Small kernels, each with one property that a static profile has to tell apart."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

THREADS = 128


@triton.jit
def copy_kernel(x, y, STRIDE: tl.constexpr, N: tl.constexpr):
    at = (tl.program_id(0) * N + tl.arange(0, N)) * STRIDE
    tl.store(y + at, tl.load(x + at))


@triton.jit
def exp2_kernel(x, y, N: tl.constexpr):
    at = tl.program_id(0) * N + tl.arange(0, N)
    tl.store(y + at, tl.exp2(tl.load(x + at)))


@triton.jit
def lock_kernel(x, lock):
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    at = tl.arange(0, 128)
    tl.store(x + at, tl.load(x + at) + 1)
    tl.atomic_xchg(lock, 0)


@triton.jit
def dot_kernel(a, b, c, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, INPUT: tl.constexpr):
    m, n, k = tl.arange(0, M), tl.arange(0, N), tl.arange(0, K)
    left = tl.load(a + m[:, None] * K + k[None, :])
    right = tl.load(b + k[:, None] * N + n[None, :])
    tl.store(c + m[:, None] * N + n[None, :], tl.dot(left, right, input_precision=INPUT))


@triton.jit
def chained_kernel(a, b, c, M: tl.constexpr, D: tl.constexpr):
    """Two products, the second of the first's result, as in attention: Triton lays all warps along the rows."""
    m, d = tl.arange(0, M), tl.arange(0, D)
    rows, square = m[:, None] * D + d[None, :], d[:, None] * D + d[None, :]
    right = tl.load(b + square)
    scores = tl.exp2(tl.dot(tl.load(a + rows), right))
    tl.store(c + rows, tl.dot(scores.to(right.dtype), tl.trans(right)))


@triton.jit
def spilling_kernel(a, b, c, D: tl.constexpr, STEPS):
    """Holds three [D, D] accumulators in one warp group: far more than its registers."""
    i, j = tl.arange(0, D), tl.arange(0, D)
    at = i[:, None] * D + j[None, :]
    first = tl.load(a + at).to(tl.float32)
    second = tl.load(b + at).to(tl.float32)
    third = tl.load(c + at).to(tl.float32)
    for step in range(STEPS):
        left = tl.load(a + at + step * D * D)
        first = tl.dot(left, left, first) + second
        second = second * 0.5 + third
        third = third * first
    tl.store(a + at, first)
    tl.store(b + at, second)
    tl.store(c + at, third)


@triton.jit
def local_array_kernel(x, y, N: tl.constexpr):
    """Keeps values in a local array of its own, indexed by data: local memory, but no spill."""
    at = tl.arange(0, N)
    value = tl.load(x + at)
    value = tl.inline_asm_elementwise(
        """
        {
            .local .align 4 .b32 kept[16];
            .reg .b64 address, offset;
            .reg .b32 index, wrapped;
            mov.u64 address, kept;
            mov.u32 index, $1;
            and.b32 wrapped, index, 15;
            mul.wide.u32 offset, wrapped, 4;
            add.s64 address, address, offset;
            st.local.b32 [address], $1;
            ld.local.b32 $0, [kept+8];
        }
        """,
        "=r,r",
        [value],
        dtype=tl.int32,
        is_pure=False,
        pack=1,
    )
    tl.store(y + at, value)


@triton.jit
def looped_kernel(x, y, rows, N: tl.constexpr):
    at = tl.arange(0, N)
    state = tl.zeros([N], tl.float32)
    for row in range(rows):
        state = tl.exp2(state) + tl.load(x + row * N + at)
    tl.store(y + at, state)


@triton.jit
def searching_kernel(x, y, N: tl.constexpr):
    """A loop that ends where data say so."""
    at = tl.load(x)
    while at > 0:
        at = tl.load(x + at)
    tl.store(y + tl.arange(0, N), tl.zeros([N], tl.int32) + at)


@triton.jit
def broken_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    tl.store(y + at, tl.load(x + at) + no_such_name)  # noqa: F821


@triton.jit
def scaled_kernel(x, y, alpha, N: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < N) * alpha, mask=at < N)


CONFIGS = [
    triton.Config({"BLOCK": 1024}, num_warps=8),
    triton.Config({"BLOCK": 256}, num_warps=2),
    triton.Config({"BLOCK": 512}, num_warps=1),
]
tuned_kernel = triton.autotune(CONFIGS, key=["N"])(scaled_kernel)


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def copy(numel: int = 4 * THREADS, stride: int = 1, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    x, y = meta(numel * stride, dtype=dtype), meta(numel * stride, dtype=dtype)
    copy_kernel[(1,)](x, y, stride, numel, num_warps=THREADS // 32)
    return y


def looped(rows: int) -> None:
    looped_kernel[(1,)](meta(rows, 128), meta(128), rows, 128, num_warps=4)


def searching() -> None:
    searching_kernel[(1,)](meta(128, dtype=torch.int32), meta(128, dtype=torch.int32), 128, num_warps=4)


def dot(
    M: int = 64, N: int = 64, K: int = 64, dtype: torch.dtype = torch.bfloat16, precision: str = "tf32", warps: int = 4
) -> torch.Tensor:
    c = meta(M, N)
    dot_kernel[(1,)](meta(M, K, dtype=dtype), meta(K, N, dtype=dtype), c, M, N, K, precision, num_warps=warps)
    return c


def chained(M: int, warps: int, D: int = 64) -> None:
    a, b = meta(M, D, dtype=torch.bfloat16), meta(D, D, dtype=torch.bfloat16)
    chained_kernel[(1,)](a, b, meta(M, D), M, D, num_warps=warps)


def spilling() -> None:
    D = 128
    spilling_kernel[(1,)](*(meta(8, D, D, dtype=torch.bfloat16) for _ in range(3)), D, 8, num_warps=4)


def local_array() -> None:
    local_array_kernel[(1,)](meta(THREADS, dtype=torch.int32), meta(THREADS, dtype=torch.int32), THREADS, num_warps=4)


def tuned(numel: int) -> torch.Tensor:
    x, y = meta(numel), meta(numel)
    tuned_kernel[lambda words: (triton.cdiv(numel, words["BLOCK"]),)](x, y, 2.0, numel)
    return y
