"""Probes: for each operation that is wrapped, a tiny kernel whose result is known bit for bit.

    for probe in PROBES:
        print(probe.name, probe.wrong() or "right")

Results are compared in float32, which would show what was not rounded to bfloat16. Sums of products are of numbers so
small that their order does not matter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
import triton.language as tl

N = 32
# A side of the matrices.
M = 16


@triton.jit
def elementwise_kernel(x, y, f, n, out, F: tl.constexpr, N: tl.constexpr):
    """out[i] = F(x[i], y[i], f[i], n[i]); x and y are of bfloat16, f of float32, n of int32. One program."""
    i = tl.arange(0, N)
    tl.store(out + i, F(tl.load(x + i), tl.load(y + i), tl.load(f + i), tl.load(n + i)))


@triton.jit
def matrix_kernel(x, y, z, out, F: tl.constexpr, M: tl.constexpr):
    """out = F(x, y, z), each [M, M]; z is of float32. One program."""
    at = tl.arange(0, M)[:, None] * M + tl.arange(0, M)[None, :]
    tl.store(out + at, F(tl.load(x + at), tl.load(y + at), tl.load(z + at)))


@triton.jit
def masked_kernel(x, out, N: tl.constexpr):
    """Half of out from x, a quarter from what masked-off lanes load; the last quarter stays. One program."""
    i = tl.arange(0, N)
    tl.store(out + i, tl.load(x + i, mask=i < N // 2, other=1.5), mask=i < 3 * N // 4)


@triton.jit
def atomic_kernel(x, out, before, N: tl.constexpr):
    """Add x[i] to out[i // 4], in half of the lanes; before: what each found there. One program."""
    i = tl.arange(0, N)
    tl.store(before + i, tl.atomic_add(out + i // 4, tl.load(x + i), mask=i < N // 2))


@triton.jit
def compare_and_swap_kernel(out, before):
    """Where out holds 0.5, put 1.5. One program."""
    tl.store(before, tl.atomic_cas(out, tl.full((), 0.5, tl.bfloat16), tl.full((), 1.5, tl.bfloat16)))


@triton.jit
def descriptor_kernel(x, out, M: tl.constexpr):
    """out[M, M] = x[M - 4, M], and zeros below, through descriptors. One program."""
    # Triton's hints know tensors only, and the compiler takes numbers.
    source = tl.make_tensor_descriptor(x, shape=[M - 4, M], strides=[M, 1], block_shape=[M, M])  # pyright: ignore[reportArgumentType]
    target = tl.make_tensor_descriptor(out, shape=[M, M], strides=[M, 1], block_shape=[M, M])  # pyright: ignore[reportArgumentType]
    target.store([0, 0], source.load([0, 0]))  # pyright: ignore[reportArgumentType]


@triton.jit
def masking_kernel(n, out, N: tl.constexpr):
    """Zeros, but where a mask and a comparison of scalars hold both; n: a number in memory. One program."""
    i = tl.arange(0, N)
    tl.store(out + i, 0.0, mask=~((i < N // 2) & (tl.load(n) > 0)))


@triton.jit
def scaling_kernel(x, out, scale, N: tl.constexpr):
    """out = x * scale in the type that the product has; scale: a Python float. One program."""
    i = tl.arange(0, N)
    tl.store(out + i, tl.load(x + i) * scale)


@triton.jit
def counting_kernel(n, out, LOOP: tl.constexpr):
    """Of each counter, what int32 makes of 2^31 - 1 times it; n: a number of rounds in memory. One program."""
    rounds = tl.load(n)
    at = out
    if LOOP == "tl.range":
        for i in tl.range(0, rounds, step=1):  # pyright: ignore[reportGeneralTypeIssues]
            tl.store(at, tl.cast(i * 2147483647, tl.float64))
            at += 1
    elif LOOP == "constant":
        for i in range(4):
            tl.store(at, tl.cast(i * 2147483647, tl.float64))
            at += 1
    elif LOOP == "step":
        for i in range(6, 6 - 2 * rounds, -2):
            tl.store(at, tl.cast(i * 2147483647, tl.float64))
            at += 1
    elif LOOP == "int64":
        for i in range(rounds.to(tl.int64)):
            tl.store(at, tl.cast(i * 2147483647, tl.float64))
            at += 1
    else:
        for i in range(rounds):
            wide = i.to(tl.int64)  # pyright: ignore[reportAttributeAccessIssue]
            tl.store(at, tl.cast(wide * 2147483647, tl.float64))
            at += 1


@triton.jit
def _x(x, y, f, n):
    return x


@triton.jit
def _nearest(x, y, f, n):
    return f.to(tl.bfloat16)


@triton.jit
def _toward_zero(x, y, f, n):
    return f.to(tl.bfloat16, fp_downcast_rounding="rtz")


@triton.jit
def _from_fp64(x, y, f, n):
    return (f.to(tl.float64) * (1 + 2.0**-40)).to(tl.bfloat16)


@triton.jit
def _from_fp16(x, y, f, n):
    return f.to(tl.float16).to(tl.bfloat16)


@triton.jit
def _to_fp16(x, y, f, n):
    return x.to(tl.float16)


@triton.jit
def _from_fp8(x, y, f, n):
    return f.to(tl.float8e5).to(tl.bfloat16)


@triton.jit
def _to_fp8(x, y, f, n):
    return x.to(tl.float8e5).to(tl.float32)


@triton.jit
def _from_int(x, y, f, n):
    return n.to(tl.bfloat16)


@triton.jit
def _from_bool(x, y, f, n):
    return (n > 0).to(tl.bfloat16)


@triton.jit
def _to_int(x, y, f, n):
    return x.to(tl.int32).to(tl.float32)


@triton.jit
def _to_bits(x, y, f, n):
    return x.to(tl.int16, bitcast=True).to(tl.float32)


@triton.jit
def _from_bits(x, y, f, n):
    return (n & 0x3FFF).to(tl.int16).to(tl.bfloat16, bitcast=True)


@triton.jit
def _add(x, y, f, n):
    return x + y


@triton.jit
def _subtract(x, y, f, n):
    return x - y


@triton.jit
def _multiply(x, y, f, n):
    return x * y


@triton.jit
def _divide(x, y, f, n):
    return x / y


@triton.jit
def _remainder(x, y, f, n):
    return x % y


@triton.jit
def _negate(x, y, f, n):
    return -y


@triton.jit
def _fma(x, y, f, n):
    return tl.fma(x, y, f.to(tl.bfloat16))


@triton.jit
def _scalar(x, y, f, n):
    return x * 0.1


@triton.jit
def _mixed(x, y, f, n):
    return x + f


@triton.jit
def _full(x, y, f, n):
    return x + tl.full([x.shape[0]], 0.1, tl.bfloat16)


@triton.jit
def _zeros(x, y, f, n):
    return tl.zeros([x.shape[0]], tl.bfloat16) + x


@triton.jit
def _select(x, y, f, n):
    return tl.where(x < y, x, y)


@triton.jit
def _select_zero(x, y, f, n):
    return tl.where(n > 0, x, 0.0)


@triton.jit
def _less(x, y, f, n):
    return tl.where(x < y, 1.0, 0.0)


@triton.jit
def _lesses(x, y, f, n):
    return (x < y).to(tl.float32) + (x <= y).to(tl.float32)


@triton.jit
def _equal(x, y, f, n):
    return tl.where(x == -y, 1.0, 0.0)


@triton.jit
def _unequal(x, y, f, n):
    return tl.where(x != x, 1.0, 0.0)


@triton.jit
def _maximum(x, y, f, n):
    return tl.maximum(x, y)


@triton.jit
def _numbers(x, y, f, n):
    return tl.maximum(f, -2.0) + tl.minimum(f, 2.0) + tl.clamp(f, -1.0, 1.0)


@triton.jit
def _minimum(x, y, f, n):
    return tl.minimum(x, y)


@triton.jit
def _clamp(x, y, f, n):
    return tl.clamp(x, -0.5, 0.75)


@triton.jit
def _absolute(x, y, z):
    return tl.abs(tl.trans(x))


@triton.jit
def _exponential(x, y, f, n):
    return tl.exp2((tl.abs(x) * 0.0).to(tl.float32)).to(tl.bfloat16) + x


@triton.jit
def _sum(x, y, f, n):
    return x * 0.0 + tl.sum((n % 7).to(tl.bfloat16), 0)


@triton.jit
def _largest(x, y, f, n):
    return tl.zeros([x.shape[0]], tl.float32) + tl.max(x, 0)


@triton.jit
def _smallest(x, y, f, n):
    return tl.zeros([x.shape[0]], tl.float32) + tl.min(x, 0)


@triton.jit
def _index(x, y, f, n):
    return tl.zeros([x.shape[0]], tl.float32) + tl.argmax(x, 0)


@triton.jit
def _cumulative(x, y, f, n):
    return tl.cumsum((n % 7).to(tl.bfloat16), 0)


@triton.jit
def _backward(x, y, f, n):
    return tl.cumsum((n % 7).to(tl.bfloat16), 0, reverse=True)


@triton.jit
def _joined(a, b):
    return a * 0.5 + b


@triton.jit
def _reduce(x, y, f, n):
    return tl.zeros([x.shape[0]], tl.float32) + tl.reduce(x, 0, _joined)


@triton.jit
def _scan(x, y, f, n):
    return tl.associative_scan(x, 0, _joined)


@triton.jit
def _added(a, b):
    return a + b


@triton.jit
def _own_sum(x, y, f, n):
    return tl.zeros([x.shape[0]], tl.float32) + tl.reduce((n % 7).to(tl.bfloat16), 0, _added)


@triton.jit
def _library_sum(x, y, f, n):
    return tl.zeros([x.shape[0]], tl.float32) + tl.reduce(x, 0, tl.standard._sum_combine)


@triton.jit
def _library_cumsum(x, y, f, n):
    return tl.associative_scan(x, 0, tl.standard._sum_combine)


@triton.jit
def _library_cumprod(x, y, f, n):
    return tl.associative_scan(x, 0, tl.standard._prod_combine)


@triton.jit
def _moved(x, y, f, n):
    a, b = tl.split(tl.reshape(x, [x.shape[0] // 2, 2]))
    return tl.reshape(tl.join(b, a), [x.shape[0]])


@triton.jit
def _gathered(x, y, f, n):
    return tl.gather(x, tl.arange(0, x.shape[0]) ^ 1, 0)


@triton.jit
def _dot(x, y, z):
    return tl.dot(x, tl.trans(y), z)


@triton.jit
def _dot_rounded(x, y, z):
    return tl.dot(x, y).to(tl.bfloat16)


@triton.jit
def _row_sum(x, y, z):
    return tl.sum(x, 1, keep_dims=True) + tl.max(y, 0)[None, :]


@triton.jit
def _dot_tf32(x, y, z):
    return tl.dot(x, y, z, input_precision="tf32")


@triton.jit
def _dot_tf32x3(x, y, z):
    return tl.dot(x, y, z, input_precision="tf32x3")


@triton.jit
def _dot_ieee(x, y, z):
    return tl.dot(x, y, z, input_precision="ieee")


@dataclass(frozen=True)
class Probe:
    """One operation. `run` gives what the interpreter computes, and what is right.

    of: what the operation belongs to: "bfloat16", "tf32", "masks" or "loops"
    """

    name: str
    run: Callable[[], tuple[torch.Tensor, torch.Tensor]]
    of: str = "bfloat16"

    def wrong(self) -> str | None:
        """What is wrong, or None."""
        try:
            with np.errstate(all="ignore"):
                got, right = self.run()
        except Exception as error:
            return str(error).partition("\n")[0] or repr(error)
        got, right = got.flatten().double(), right.flatten().double()
        off = ~((got == right) & (got.signbit() == right.signbit()) | (got.isnan() & right.isnan()))
        if not off.any():
            return None
        first = int(off.nonzero()[0])
        return f"{got[first]:.9g}, not {right[first]:.9g}"


def _launch(kernel: Any, *args: Any, **constants: Any) -> None:
    """Run a kernel as one program."""
    kernel[(1,)](*args, **constants)


def _vectors() -> dict[str, torch.Tensor]:
    """Inputs with ties, zeros of both signs, infinity, numbers below the normal ones and, in f, a NaN."""
    drawn = torch.Generator().manual_seed(0)
    f = torch.randn(N, generator=drawn) * 3
    # Ties to an even neighbour below and above, a carry into the exponent, one beyond the largest, below the normal.
    f[:6] = torch.tensor([1.00390625, 1.01171875, 1.998046875, 3.3961775e38, 1.1e-39, -0.0])
    f[6:8] = torch.tensor([torch.nan, torch.inf])
    x, y = (torch.randn(N, generator=drawn).bfloat16() * 3 for _ in range(2))
    x[:4] = torch.tensor([0.0, -0.0, torch.inf, 1.1e-39])
    y[4:8] = -x[4:8]
    n = torch.randint(-(2**31), 2**31, (N,), generator=drawn, dtype=torch.int32)
    return {"x": x, "y": y, "f": f, "n": n}


def _elementwise(name: str, fn: Any, right: Callable[..., torch.Tensor], **changed: torch.Tensor) -> Probe:
    """A probe of `fn`; right: of x, y, f and n, what torch computes."""

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        given = {**_vectors(), **changed}
        expected = right(*given.values())
        out = torch.empty(N)
        _launch(elementwise_kernel, *given.values(), out, F=fn, N=N)
        return out, expected

    return Probe(name, run)


def _agreed() -> tuple[torch.Tensor, torch.Tensor]:
    out = torch.ones(N)
    _launch(masking_kernel, torch.tensor([2], dtype=torch.int32), out, N=N)
    return out, torch.tensor([1.0, 0.0]).repeat_interleave(N // 2)


def _scaled() -> tuple[torch.Tensor, torch.Tensor]:
    x, out = _vectors()["x"], torch.empty(N)
    _launch(scaling_kernel, x, out, 0.1, N=N)
    return out, x.float() * torch.tensor(0.1)


def _counted(name: str, loop: str, right: list[int]) -> Probe:
    def run() -> tuple[torch.Tensor, torch.Tensor]:
        out = torch.empty(4, dtype=torch.float64)
        _launch(counting_kernel, torch.tensor([4], dtype=torch.int32), out, LOOP=loop)
        return out, torch.tensor(right, dtype=torch.float64)

    return Probe(name, run, of="loops")


def _stored() -> tuple[torch.Tensor, torch.Tensor]:
    given = _vectors()
    out = torch.empty(N, dtype=torch.bfloat16)
    _launch(elementwise_kernel, *given.values(), out, F=_mixed, N=N)
    return out, (given["x"].float() + given["f"]).bfloat16()


def _masked() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.arange(1, N + 1).bfloat16()
    out = torch.full((N,), 7.0, dtype=torch.bfloat16)
    _launch(masked_kernel, x, out, N=N)
    right = torch.cat([x[: N // 2], torch.full((N // 4,), 1.5), torch.full((N // 4,), 7.0)])
    return out, right


def _atomic() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.full((N,), 1.0).bfloat16()
    out = torch.full((N // 4,), 254.0, dtype=torch.bfloat16)
    before = torch.empty(N)
    _launch(atomic_kernel, x, out, before, N=N)
    # 256 + 1 is a tie, which goes to the even 256.
    sums = torch.tensor([256.0, 254.0]).repeat_interleave(N // 8)
    found = torch.tensor([254.0, 255.0, 256.0, 256.0]).repeat(N // 8)
    return torch.cat([out.float(), before[: N // 2]]), torch.cat([sums, found])


def _swapped() -> tuple[torch.Tensor, torch.Tensor]:
    out, before = torch.tensor([0.5]).bfloat16(), torch.empty(1)
    _launch(compare_and_swap_kernel, out, before)
    return torch.cat([out.float(), before]), torch.tensor([1.5, 0.5])


def _described() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.arange(M * M).bfloat16().view(M, M)
    out = torch.empty_like(x)
    _launch(descriptor_kernel, x, out, M=M)
    return out, torch.cat([x[:-4], torch.zeros(4, M)])


def _matrices(dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Matrices of small integers, whose sums of products are exact."""
    drawn = torch.Generator().manual_seed(1)
    x, y, z = (torch.randint(-8, 9, (M, M), generator=drawn) for _ in range(3))
    return x.to(dtype), y.to(dtype), z.float()


def _matrix(name: str, fn: Any, right: Callable[..., torch.Tensor]) -> Probe:
    def run() -> tuple[torch.Tensor, torch.Tensor]:
        x, y, z = _matrices(torch.bfloat16)
        out = torch.empty(M, M)
        _launch(matrix_kernel, x, y, z, out, F=fn, M=M)
        return out, right(x.float(), y.float(), z)

    return Probe(name, run)


def _product(name: str, fn: Any, entry: float, right: float) -> Probe:
    """A probe of float32 products: entry * entry is one element, and `right` what it becomes."""

    def run() -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.eye(M) * entry
        out = torch.empty(M, M)
        _launch(matrix_kernel, x, x, torch.ones(M, M), out, F=fn, M=M)
        return out, torch.eye(M).double() * right + 1

    return Probe(name, run, "tf32")


def _in_turn(f: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """All partial results of x[0], f(x[0], x[1]), and so on."""
    found = [x[0]]
    for each in x[1:]:
        found.append(f(found[-1], each))
    return torch.stack(found)


def _tree(x: torch.Tensor) -> torch.Tensor:
    """The sum in which halves are added until one element is left."""
    while len(x) > 1:
        x = x[: len(x) // 2] + x[len(x) // 2 :]
    return x


def _toward(f: torch.Tensor) -> torch.Tensor:
    """float32 cut to bfloat16."""
    return torch.where(f.isnan(), f, (f.view(torch.int32) & -0x10000).view(torch.float32))


def _halved(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a * torch.tensor(0.5).bfloat16() + b


def _of(value: float) -> torch.Tensor:
    return torch.full((N,), value).bfloat16()


_BITS = torch.arange(N, dtype=torch.int32) * 500
_FP8 = torch.tensor([1.0, 1.25, 1.5, -1.75]).outer(2.0 ** torch.arange(-4, 4)).flatten()
_TINY = torch.full((N,), 2.0**-40)
_FINITE = torch.linspace(-3, 4, N).bfloat16()
_POINT_1 = torch.tensor(0.1).bfloat16()
_256 = torch.tensor([256.0] + [1.0] * (N - 1)).bfloat16()
# The residue of 1 + 2^-11 in TF32, and what a product keeps of it.
_FINE = 1 + 2.0**-11
_C = torch.tensor
_MOST = 2**31 - 1

PROBES: tuple[Probe, ...] = (
    _elementwise("a load and a cast to fp32", _x, lambda x, y, f, n: x),
    Probe("a masked load and a masked store", _masked),
    Probe("a store of fp32 into bfloat16", _stored),
    Probe("a tensor descriptor", _described),
    _elementwise("a cast from fp32", _nearest, lambda x, y, f, n: f.bfloat16()),
    _elementwise("a cast from fp32 toward zero", _toward_zero, lambda x, y, f, n: _toward(f)),
    _elementwise("a cast from fp64", _from_fp64, lambda x, y, f, n: f.nextafter(2 * f).bfloat16()),
    _elementwise("a cast from fp16", _from_fp16, lambda x, y, f, n: f.half().bfloat16()),
    _elementwise("a cast to fp16", _to_fp16, lambda x, y, f, n: x.half()),
    _elementwise("a cast from fp8", _from_fp8, lambda x, y, f, n: f, f=_FP8),
    _elementwise("a cast to fp8", _to_fp8, lambda x, y, f, n: x, x=_FP8.bfloat16()),
    _elementwise("a cast from int32", _from_int, lambda x, y, f, n: n.float().bfloat16()),
    _elementwise("a cast from bool", _from_bool, lambda x, y, f, n: (n > 0).bfloat16()),
    _elementwise("a cast to int32", _to_int, lambda x, y, f, n: x.int(), x=_FINITE),
    _elementwise("a bitcast to int16", _to_bits, lambda x, y, f, n: x.view(torch.int16)),
    _elementwise(
        "a bitcast from int16",
        _from_bits,
        lambda x, y, f, n: (n & 0x3FFF).to(torch.int16).view(torch.bfloat16),
        n=_BITS,
    ),
    _elementwise("x + y", _add, lambda x, y, f, n: x + y),
    _elementwise("x - y", _subtract, lambda x, y, f, n: x - y),
    _elementwise("x * y", _multiply, lambda x, y, f, n: x * y),
    _elementwise("x / y", _divide, lambda x, y, f, n: x.float() / y.float()),
    _elementwise("x % y", _remainder, lambda x, y, f, n: torch.fmod(x.float(), y.float())),
    _elementwise("-x", _negate, lambda x, y, f, n: -y),
    _elementwise("tl.fma", _fma, lambda x, y, f, n: (x.double() * y + f.bfloat16()).float().bfloat16()),
    # A product that is a tie, and an addend that decides it: rounded twice it would be 260 / 256.
    _elementwise(
        "tl.fma of a tie", _fma, lambda x, y, f, n: torch.full((N,), 262 / 256), x=_of(3.0), y=_of(87 / 256), f=_TINY
    ),
    _elementwise("a block times a Python scalar", _scalar, lambda x, y, f, n: x * _POINT_1),
    _elementwise("a sum with fp32", _mixed, lambda x, y, f, n: x.float() + f),
    _elementwise("tl.full", _full, lambda x, y, f, n: x + _POINT_1),
    _elementwise("tl.zeros", _zeros, lambda x, y, f, n: x + 0.0),
    _elementwise("tl.where", _select, lambda x, y, f, n: torch.where(x < y, x, y)),
    _elementwise("tl.where with a Python scalar", _select_zero, lambda x, y, f, n: torch.where(n > 0, x, 0.0)),
    _elementwise("x < y", _less, lambda x, y, f, n: x < y),
    _elementwise("truths, added", _lesses, lambda x, y, f, n: (x < y).float() + (x <= y).float()),
    _elementwise("x == y", _equal, lambda x, y, f, n: x == -y),
    _elementwise("x != y", _unequal, lambda x, y, f, n: x.isnan(), x=_FINITE.where(_FINITE > 0, torch.nan)),
    _elementwise("tl.maximum", _maximum, lambda x, y, f, n: torch.maximum(x, y)),
    _elementwise(
        "maximum, minimum and clamp beside NaN",
        _numbers,
        lambda x, y, f, n: f.fmax(_C(-2.0)) + f.fmin(_C(2.0)) + f.fmax(_C(-1.0)).fmin(_C(1.0)),
        f=torch.full((N,), torch.nan),
    ),
    _elementwise("tl.minimum", _minimum, lambda x, y, f, n: torch.minimum(x, y)),
    _elementwise("tl.clamp", _clamp, lambda x, y, f, n: x.clamp(-0.5, 0.75)),
    _elementwise("tl.exp2 by way of fp32", _exponential, lambda x, y, f, n: 1 + x, x=_FINITE),
    _elementwise("tl.sum", _sum, lambda x, y, f, n: torch.fmod(n, 7).sum() + 0.0 * x.float(), x=_FINITE),
    _elementwise("tl.max", _largest, lambda x, y, f, n: x.max().expand(N)),
    _elementwise("tl.min", _smallest, lambda x, y, f, n: x.min().expand(N)),
    _elementwise("tl.argmax", _index, lambda x, y, f, n: x.argmax().expand(N)),
    _elementwise("tl.cumsum", _cumulative, lambda x, y, f, n: torch.fmod(n, 7).cumsum(0)),
    _elementwise("tl.cumsum in reverse", _backward, lambda x, y, f, n: torch.fmod(n, 7).flip(0).cumsum(0).flip(0)),
    _elementwise("tl.reduce", _reduce, lambda x, y, f, n: _in_turn(_halved, x)[-1].expand(N)),
    _elementwise("tl.associative_scan", _scan, lambda x, y, f, n: _in_turn(_halved, x)),
    _elementwise("tl.reduce of a sum", _own_sum, lambda x, y, f, n: torch.fmod(n, 7).sum().expand(N)),
    # 257 is a tie: sums that round once, at their end, are larger.
    _elementwise("tl.reduce of Triton's sum", _library_sum, lambda x, y, f, n: _tree(x).expand(N), x=_256),
    _elementwise("tl.associative_scan of Triton's sum", _library_cumsum, lambda x, y, f, n: x[0].expand(N), x=_256),
    _elementwise(
        "tl.associative_scan of Triton's product",
        _library_cumprod,
        lambda x, y, f, n: _in_turn(torch.mul, x),
        x=_of(1.0078125),
    ),
    _elementwise("tl.split and tl.join", _moved, lambda x, y, f, n: x.view(-1, 2).flip(1).flatten()),
    _elementwise("tl.gather", _gathered, lambda x, y, f, n: x.view(-1, 2).flip(1).flatten()),
    _matrix("tl.abs", _absolute, lambda x, y, z: x.T.abs()),
    _matrix("tl.dot", _dot, lambda x, y, z: x @ y.T + z),
    _matrix("tl.dot, rounded", _dot_rounded, lambda x, y, z: (x @ y).bfloat16()),
    _matrix("tl.sum and tl.max of rows", _row_sum, lambda x, y, z: x.sum(1)[:, None] + y.max(0).values),
    Probe("tl.atomic_add", _atomic),
    Probe("tl.atomic_cas", _swapped),
    _product("tl.dot with tf32", _dot_tf32, _FINE, 1.0),
    _product("tl.dot with tf32x3", _dot_tf32x3, _FINE, _FINE**2 - 2.0**-22),
    _product("tl.dot with ieee", _dot_ieee, _FINE, _FINE**2),
    Probe("a block times a float argument", _scaled),
    Probe("a mask and a comparison of scalars", _agreed, of="masks"),
    _counted("tl.range", "tl.range", [0, _MOST, -2, _MOST - 2]),
    _counted("range of a constant", "constant", [0, _MOST, -2, _MOST - 2]),
    _counted("range with a step", "step", [-6, -4, -2, 0]),
    _counted("range of an int64", "int64", [0, _MOST, 2 * _MOST, 3 * _MOST]),
    _counted("a counter's .to", "to", [0, _MOST, 2 * _MOST, 3 * _MOST]),
)
