"""A plug-in whose kernels depend on all that a launch may be special about: what is compiled ahead must be the same.

Integers that are 1, a multiple of 16, neither, or beyond 32 bits; pointers that are aligned or not; tensor descriptors;
a Triton function as an argument; None; a tuple; an autotuner; other kernels in a backward pass, and at another length.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.tools.tensor_descriptor import TensorDescriptor

import suite
from suite import Cost, Operator
from suite.draw import normal

CONFIGS = [triton.Config({"BLOCK": block}, num_warps=warps) for block, warps in ((1024, 8), (256, 2), (128, 1))]
# A configuration that does not compile: an autotuner skips it.
ODD = triton.Config({"BLOCK": 512}, num_warps=1)


@triton.jit
def twice(value):
    return value * 2


@triton.jit
def special_kernel(x, y, N, M, extra, sizes, FN: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = FN(tl.load(x + at, mask=at < N)) + M + sizes[0]
    if extra is not None:
        value += tl.load(extra)
    tl.store(y + at, value.to(y.dtype.element_ty), mask=at < N)


@triton.jit
def rows_kernel(x, y, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    block = x.load([tl.program_id(0) * ROWS, 0])
    y.store([tl.program_id(0) * ROWS, 0], block + block)


@triton.autotune([*CONFIGS, ODD], key=["N"], cache_results=True)
@triton.jit
def tuned_kernel(x, y, N, BLOCK: tl.constexpr):
    tl.static_assert(BLOCK != 512)
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < N), mask=at < N)


@triton.jit
def backward_kernel(x, y, N, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(y + at, tl.load(x + at, mask=at < N) * 2, mask=at < N)


@triton.jit
def broken_kernel(x, y):
    tl.store(y, tl.load(x) + not_written_yet)  # noqa: F821


class Special(torch.autograd.Function):
    @staticmethod
    def forward(ctx, v):
        o, sms = torch.empty_like(v), suite.target().sms
        for x, n, m in ((v, v.shape[1], 1), (v, 16, sms), (v.flatten()[1:], 3, 1 << 40)):
            for extra in (None, v):
                special_kernel[(n,)](x, o, n, m, extra, (n, m), twice, 256)
        return o

    @staticmethod
    def backward(ctx, do):
        dv = torch.empty_like(do)
        # As a backward pass that works in blocks of the whole length.
        backward_kernel[(1,)](do.contiguous(), dv, do.numel(), triton.next_power_of_2(do.shape[1]))
        return dv


launched = Operator(
    name="launched",
    equation="o = 2 v",
    paper="none",
    inputs=lambda p, g: {name: normal(g, p.B, p.T, p.H, p.K, dtype=p.dtype) for name in ("q", "k", "v")},
    cost=lambda p, tunables: Cost(1.0, 1.0, 1.0),
    oracle=lambda q, k, v: (v + v, None),
    passes=("fwd", "bwd", "fwdbwd"),
    stateful=False,
)
ours = {"origin": "ours", "devices": {"cuda"}}


@launched.implementation("special", **ours)
def special(q, k, v):
    return Special.apply(v), None


@launched.implementation("rows", passes={"fwd"}, **ours)
def rows(q, k, v):
    o = torch.empty_like(v)
    given, made = (TensorDescriptor.from_tensor(x.view(-1, x.shape[-1]), [16, 32]) for x in (v, o))
    rows_kernel[(v.numel() // v.shape[-1] // 16,)](given, made, 16, 32)
    return o, None


@launched.implementation("tuned", origin="peer", devices={"cuda"}, passes={"fwd"})
def tuned(q, k, v):
    o = torch.empty_like(v)
    tuned_kernel[lambda words: (triton.cdiv(v.numel(), words["BLOCK"]),)](v, o, v.numel())
    return o, None


@launched.implementation("broken", passes={"fwd"}, **ours)
def broken(q, k, v):
    broken_kernel[(1,)](v, v)
    special_kernel[(1,)](v, torch.empty_like(v), 7, 7, None, (7, 7), twice, 128)
    return v, None


@launched.implementation("by_value", passes={"fwd"}, **ours)
def by_value(q, k, v):
    return v * v.max().item(), None
