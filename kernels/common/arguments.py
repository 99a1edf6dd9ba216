"""Arguments: the checks of tensors, chunk and scale that host code makes before it reads a shape.

    sizes = fit({"q": (q, "B T H K"), "k": (k, "B T HK K"), "v": (v, "B T HV V")}, {"beta": (beta, "B T HS")}, scale=s)
    B, T, HS = sizes["B"], sizes["T"], sizes["HS"]

q, k, v and all tensors that are multiplied with them have one dtype of SERVED. Gates and parameters have that dtype
or float32; a state has any dtype of SERVED. All are dense and on one device. Only batches and tokens may be 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, NamedTuple

import torch

from suite.errors import UsageError

# In float64 and in integers the kernels would compute something else without saying so.
SERVED = (torch.bfloat16, torch.float16, torch.float32)
# The largest number that float32 holds.
LARGEST = torch.finfo(torch.float32).max
# Dimensions that may be 0: such a call launches nothing.
MAY_BE_0 = ("B", "T", "caches")
# A tensor, or what came for one, and its dimensions by name.
Given = tuple[Any, str]


class Options(NamedTuple):
    """Arguments of the public chunked forms beside tensors and scale: states, boundaries of sequences, chunk size."""

    initial_state: Any = None
    output_final_state: bool = False
    cu_seqlens: Any = None
    cu_seqlens_cpu: Any = None
    chunk: int = 64


def fit(tokens: Mapping[str, Given], gates: Mapping[str, Given] | None = None, *, scale: Any = None) -> dict[str, int]:
    """The sizes of all dimensions by name. HS is max(H, HV) if no earlier tensor has the dimension HS.

    tokens: tensors that are multiplied with each other, in one dtype of SERVED
    gates:  gates and parameters, in float32 or that dtype
    Raises UsageError, naming the argument, on anything but a dense tensor, another dtype or device, another number of
    dimensions, a size of 0 or one that differs from an earlier tensor's, and a scale that is not a finite number.
    """
    _check_scale(scale)
    sizes: dict[str, int] = {}
    first, (like, _) = next(iter(tokens.items()))
    for name, (x, dims) in tokens.items():
        _check_tensor(name, x, like)
        if x.dtype not in SERVED:
            raise UsageError(f"{name} is {x.dtype}; our kernels serve {_listed(SERVED)}")
        if x.dtype != like.dtype:
            raise UsageError(f"{name} is {x.dtype}, {first} is {like.dtype}; make them agree")
        _bind(sizes, name, x, dims)
    for name, (x, dims) in (gates or {}).items():
        _check_tensor(name, x, like)
        if x.dtype not in (torch.float32, like.dtype):
            raise UsageError(f"{name} is {x.dtype}, {first} is {like.dtype}; it must be torch.float32 or as {first}")
        if "HS" not in sizes and "H" in sizes:
            sizes["HS"] = max(sizes["H"], sizes.get("HV", 1))
        _bind(sizes, name, x, dims)
    if "H" in sizes:
        sizes.setdefault("HS", max(sizes["H"], sizes.get("HV", 1)))
    return sizes


def state_heads(q: Any, v: Any) -> int:
    """HS of q [B, T, H, K] and v [B, T, HV, V], for code that needs it before `fit`; raises the same errors."""
    return fit({"q": (q, "B T H K"), "v": (v, "B T HV V")})["HS"]


def given(tensors: Mapping[str, Given]) -> dict[str, Given]:
    """The gates and parameters that are not None, for `fit`."""
    return {name: each for name, each in tensors.items() if each[0] is not None}


def check_given(**tensors: Any) -> None:
    """UsageError if a required argument is None."""
    for name, x in tensors.items():
        if x is None:
            raise UsageError(f"{name} is None; it must be a tensor")


def check_flags(**flags: Any) -> None:
    """UsageError unless each is True or False."""
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise UsageError(f"{name} = {flag!r} is not supported; use True or False")


def check_heads(H: int, HK: int, HV: int, heads: int) -> None:
    """UsageError unless each number of heads divides those of the state."""
    if heads % H or heads % HK or heads % HV:
        raise UsageError(f"heads H = {H}, HK = {HK}, HV = {HV} do not divide {heads}; choose heads that do")


def check_states(like: torch.Tensor, states: Mapping[str, Any]) -> None:
    """UsageError if a state is not a tensor, has a dtype that is not served, or lies on another device than `like`.

    None is a state that is left out. Shapes are the caller's: only it knows how many sequences there are.
    """
    for name, x in states.items():
        if x is None:
            continue
        _check_tensor(name, x, like)
        if x.dtype not in SERVED:
            raise UsageError(f"{name} is {x.dtype}; our kernels serve {_listed(SERVED)}")


def check_chunk(chunk: Any) -> None:
    """UsageError unless chunk is a power of 2 of at least 16."""
    if not isinstance(chunk, int) or chunk < 16 or chunk & (chunk - 1):
        raise UsageError(f"chunk must be a power of two >= 16, got {chunk!r}")


def _check_scale(scale: Any) -> None:
    if isinstance(scale, torch.Tensor):
        raise UsageError("scale is a tensor; kernels take it as a number, so pass a float, or None for the default")
    # A bool would become another kernel's argument, an integer of more than 64 bits none.
    known = isinstance(scale, (int, float)) and not isinstance(scale, bool) and -LARGEST <= scale <= LARGEST
    if scale is not None and not known:
        raise UsageError(f"scale = {scale!r} is not supported; pass a finite number, or None for the default")


def _check_tensor(name: str, x: Any, like: torch.Tensor) -> None:
    if not isinstance(x, torch.Tensor):
        raise UsageError(f"{name} is a {type(x).__name__}; it must be a tensor")
    if x.device != like.device:
        raise UsageError(f"{name} is on {x.device}, the others on {like.device}; move it there")
    if x.layout != torch.strided:
        raise UsageError(f"{name} has the layout {x.layout}; kernels read dense tensors, so pass {name}.to_dense()")


def _bind(sizes: dict[str, int], name: str, x: torch.Tensor, dims: str) -> None:
    names = _names(dims)
    if len(names) != x.ndim or any(sizes.setdefault(n, size) != size for n, size in zip(names, x.shape, strict=True)):
        known = ", ".join(str(sizes.get(n, n)) for n in names)
        raise UsageError(f"{name} is {tuple(x.shape)}; it must be [{', '.join(names)}] = ({known})")
    for n, size in zip(names, x.shape, strict=True):
        if not size and n not in MAY_BE_0:
            raise UsageError(f"{name} is {tuple(x.shape)}: {n} = 0 is not supported; use at least 1")


@cache
def _names(dims: str) -> tuple[str, ...]:
    return tuple(dims.split())


def _listed(dtypes: tuple[torch.dtype, ...]) -> str:
    *most, last = map(str, dtypes)
    return f"{', '.join(most)} and {last}"
