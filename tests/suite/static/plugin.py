"""A plug-in with an operator whose implementations each meet another fate under the static profile."""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl

from suite import Cost, Operator
from suite.cost import state_bytes
from suite.draw import normal

BLOCK = 512


@triton.jit
def double_kernel(x, y, N, READS: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + at, mask=at < N)
    for _ in tl.static_range(READS - 1):
        value = tl.load(x + at, mask=at < N, volatile=True)
    tl.store(y + at, value * 2, mask=at < N)


@triton.jit
def tile_kernel(x, y, M: tl.constexpr, K: tl.constexpr):
    m, k = tl.arange(0, M), tl.arange(0, K)
    a = tl.load(x + m[:, None] * K + k[None, :])
    tl.store(y + m[:, None] * M + m[None, :], tl.dot(a, tl.trans(a)).to(y.dtype.element_ty))


@triton.jit
def unfinished_kernel(x, y):
    tl.store(y, tl.load(x) + not_written_yet)  # noqa: F821


def doubled(x: torch.Tensor, reads: int = 1) -> torch.Tensor:
    y = torch.empty_like(x)
    double_kernel[(triton.cdiv(x.numel(), BLOCK),)](x, y, x.numel(), reads, BLOCK, num_warps=4)
    return y


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return doubled(x)

    @staticmethod
    def backward(ctx, *grads):
        return doubled(grads[0].contiguous())


def inputs(problem, generator):
    p, length = problem, 1 if problem.pass_ == "decode" else problem.T
    drawn = {
        "q": normal(generator, p.B, length, p.H, p.K, dtype=p.dtype),
        "k": normal(generator, p.B, length, p.HK, p.K, dtype=p.dtype),
        "v": normal(generator, p.B, length, p.HV, p.V, dtype=p.dtype),
    }
    if p.pass_ == "decode":
        drawn["state"] = normal(generator, p.N, p.HS, p.K, p.V, dtype=p.state_dtype)
    return drawn


def cost(problem, tunables):
    size = problem.itemsize * problem.tokens * problem.HV * problem.V
    state = state_bytes(problem) if problem.pass_ == "decode" else 0.0
    return Cost(size, size, 2 * size + 2 * state)


double = Operator(
    name="double",
    equation="o = 2 v",
    paper="none",
    inputs=inputs,
    cost=cost,
    oracle=lambda q, k, v: (v + v, None),
    stateful=False,
)
ours = {"origin": "ours", "devices": {"cuda", "interpret"}}


@double.implementation("triton", passes={"fwd", "bwd", "fwdbwd"}, **ours)
def double_triton(q, k, v):
    return Double.apply(v), None


@double.implementation("rereading", tunables={"reads": (3, 1)}, **ours)
def double_rereading(q, k, v, *, reads):
    return doubled(v, reads), None


@double.implementation("wasteful", **ours)
def double_wasteful(q, k, v):
    return doubled(doubled(v) - v), None


@double.implementation("step", passes={"decode"}, **ours)
def double_step(q, k, v, *, state):
    double_kernel[(triton.cdiv(state.numel(), BLOCK),)](state, state, state.numel(), 1, BLOCK)
    return doubled(v)


@double.implementation("by_value", **ours)
def double_by_value(q, k, v):
    return doubled(v) if v.max().item() > 0 else v + v, None


@double.implementation("eager", **ours)
def double_eager(q, k, v):
    return v + v, None


@double.implementation("large", **ours)
def double_large(q, k, v):
    tile_kernel[(1,)](v.new_empty(64, 2048), v.new_empty(64, 64), 64, 2048, num_warps=8)
    return doubled(v), None


@double.implementation("unfinished", **ours)
def double_unfinished(q, k, v):
    unfinished_kernel[(1,)](v, v)
    return doubled(v), None


@double.implementation("faulty", **ours)
def double_faulty(q, k, v):
    raise IndexError("a bug in host code")


@double.implementation("fatal", **ours)
def double_fatal(q, k, v):
    os._exit(7)


@double.implementation("cpu", origin="baseline", devices={"cpu"})
def double_cpu(q, k, v):
    return v + v, None


@double.implementation("careful", origin="peer", devices={"cuda"})
def double_careful(q, k, v):
    raise RuntimeError("wrong results with this compiler; upgrade it")
