"""Packed sequences: several sequences in one row of tokens, their boundaries in cu_seqlens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch.autograd.function import once_differentiable

from suite.errors import UsageError


class Packing(NamedTuple):
    """The sequences of a call, as host code knows them.

    longest: tokens of the longest, at least 1, since plans divide by it
    some_empty: whether one has no tokens: no kernel writes its state
    """

    sequences: int
    longest: int
    some_empty: bool


def packing(cu_seqlens: torch.Tensor | None, cu_seqlens_cpu: torch.Tensor | None, tokens: torch.Tensor) -> Packing:
    """The sequences of a call on tokens [B, T, ...]: its rows, or those that cu_seqlens [N + 1] cuts one row into.

    Raises UsageError where `check_cu_seqlens` does, and if only the copy on the CPU is given.
    """
    B, T = tokens.shape[:2]
    if cu_seqlens is None:
        if cu_seqlens_cpu is not None:
            raise UsageError("cu_seqlens_cpu came without cu_seqlens; pass both, or neither")
        return Packing(B, max(1, T), some_empty=T == 0)
    lengths = [end - first for first, end in pairwise(check_cu_seqlens(cu_seqlens, cu_seqlens_cpu, tokens))]
    return Packing(len(lengths), max(1, *lengths), some_empty=0 in lengths)


def check_cu_seqlens(cu_seqlens: Any, cu_seqlens_cpu: Any, tokens: torch.Tensor) -> list[int]:
    """The values of cu_seqlens [N + 1], which cuts tokens [1, T, ...] into N >= 1 sequences, some of them maybe empty.

    cu_seqlens lies where the tokens lie, and kernels read it there. Host code reads its copy on the CPU, which may be
    left out where cu_seqlens itself lies there. A device's values are not compared with the copy: that would wait for
    the device. Raises UsageError unless both are int32 or int64, alike, and run from 0 to T without decreasing.
    """
    _check_form("cu_seqlens", cu_seqlens)
    own = cu_seqlens.device.type == "cpu"
    if cu_seqlens_cpu is not None:
        _check_copy(cu_seqlens, cu_seqlens_cpu)
    elif not own:
        raise UsageError("cu_seqlens came without its copy on the CPU; pass cu_seqlens_cpu too")
    B, T = tokens.shape[:2]
    if B != 1:
        raise UsageError(f"cu_seqlens came with B = {B}; pack all sequences into one row")
    if cu_seqlens.device != tokens.device:
        raise UsageError(f"cu_seqlens is on {cu_seqlens.device}, the tokens on {tokens.device}; move it there")
    if not cu_seqlens.is_contiguous():
        raise UsageError("cu_seqlens is not contiguous, and kernels read it as it lies; pass cu_seqlens.contiguous()")
    bounds = (cu_seqlens if cu_seqlens_cpu is None else cu_seqlens_cpu).tolist()
    if own and cu_seqlens_cpu is not None:
        for n, (value, copied) in enumerate(zip(cu_seqlens.tolist(), bounds, strict=True)):
            if value != copied:
                raise UsageError(f"cu_seqlens_cpu[{n}] = {copied}, cu_seqlens[{n}] = {value}; pass a copy")
    _check_bounds(bounds, T)
    return bounds


def _check_form(name: str, x: Any) -> None:
    if not isinstance(x, torch.Tensor):
        raise UsageError(f"{name} is a {type(x).__name__}; it must be a tensor")
    if x.dtype not in (torch.int32, torch.int64):
        raise UsageError(f"{name} is {x.dtype}; it must be int32 or int64")
    if x.layout != torch.strided:
        raise UsageError(f"{name} has the layout {x.layout}; pass {name}.to_dense()")
    if x.ndim != 1 or len(x) < 2:
        raise UsageError(f"{name} has the shape {tuple(x.shape)}; it must be (N + 1,), with N >= 1 sequences")


def _check_copy(cu_seqlens: torch.Tensor, copy: Any) -> None:
    _check_form("cu_seqlens_cpu", copy)
    if copy.device.type != "cpu":
        raise UsageError(f"cu_seqlens_cpu is on {copy.device}; pass a copy of cu_seqlens on the CPU")
    if copy.shape != cu_seqlens.shape:
        raise UsageError(f"cu_seqlens_cpu has {len(copy)} entries, cu_seqlens has {len(cu_seqlens)}; pass a copy")


def _check_bounds(bounds: list[int], T: int) -> None:
    if bounds[0] != 0:
        raise UsageError(f"cu_seqlens begins at {bounds[0]}; it must begin at 0")
    for n, (first, end) in enumerate(pairwise(bounds)):
        if end < first:
            raise UsageError(f"cu_seqlens[{n + 1}] = {end} is below cu_seqlens[{n}] = {first}; it must not decrease")
    if bounds[-1] != T:
        raise UsageError(f"cu_seqlens ends at {bounds[-1]}, T is {T}; it must end at T")


def room(
    like: torch.Tensor,
    shape: Sequence[int],
    dtype: torch.dtype,
    passed: torch.Tensor | None,
    some_empty: bool,
    *,
    nothing: float = 0.0,
) -> torch.Tensor:
    """Room for a state of each sequence, or its gradient, on the device of `like`.

    Kernels write the states of sequences with tokens. Those of sequences without tokens are filled in here, with
    `passed`: the initial state, or the final state's gradient, of this shape and dtype; with `nothing` if it is None.
    """
    if not some_empty:
        return like.new_empty(shape, dtype=dtype)
    return like.new_full(shape, nothing, dtype=dtype) if passed is None else passed.detach().clone()


def without_tokens(
    outputs: Sequence[torch.Tensor | None], inputs: Sequence[torch.Tensor | None], states: Sequence[torch.Tensor | None]
) -> tuple[torch.Tensor | None, ...]:
    """A call without tokens, differentiable: no kernel is launched. Returns the outputs.

    outputs: an o without elements, then for each state the final one, as `room` makes it, or nothing but o
    inputs:  everything else that may be differentiated; their gradients are 0
    states:  the initial states: their gradients are those of the final ones, or 0
    """
    return _WithoutTokens.apply(len(outputs), len(states), *outputs, *inputs, *states)


class _WithoutTokens(torch.autograd.Function):
    @staticmethod
    def forward(ctx, outputs: int, states: int, *tensors):  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.save_for_backward(*tensors[outputs:])
        ctx.outputs, ctx.states = outputs, states
        ctx.set_materialize_grads(False)
        return tensors[:outputs]

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):  # pyright: ignore[reportIncompatibleMethodOverride] - the decorator hides `ctx`
        passed = [None] * (len(ctx.saved_tensors) - ctx.states) + list(gradients[1:] or [None] * ctx.states)
        found = [
            None if x is None else torch.zeros_like(x) if gradient is None else gradient
            for x, gradient in zip(ctx.saved_tensors, passed, strict=True)
        ]
        return None, None, *[None] * ctx.outputs, *found


def host_copy(cu_seqlens: Any, cu_seqlens_cpu: Any, tokens: torch.Tensor) -> torch.Tensor | None:
    """cu_seqlens where host code can read it, or None of a call that is not packed; raises as `packing` does."""
    packing(cu_seqlens, cu_seqlens_cpu, tokens)
    return cu_seqlens if cu_seqlens_cpu is None else cu_seqlens_cpu


def apart(tokens: torch.Tensor, cu_seqlens: torch.Tensor | None) -> bool:
    """Whether a call on tokens [B, T, ...] needs `per_sequence`: it is packed, or has no tokens."""
    return cu_seqlens is not None or tokens.shape[1] == 0


def spans(T: int, cu_seqlens: torch.Tensor | None) -> list[tuple[int, int]]:
    """(first, end) of each sequence: all of T when cu_seqlens is None. cu_seqlens is read on any device.

    Raises UsageError unless it is int32 or int64 [N + 1] and runs from 0 to T without decreasing.
    """
    if cu_seqlens is None:
        return [(0, T)]
    _check_form("cu_seqlens", cu_seqlens)
    ends = cu_seqlens.tolist()
    _check_bounds(ends, T)
    return list(pairwise(ends))


def per_sequence(
    oracle,
    *tokens,
    cu_seqlens,
    initial_state=None,
    output_final_state=False,
    nothing: Sequence[float] | None = None,
    **options,
) -> tuple[torch.Tensor, Any]:
    """Run a form that serves one sequence on each packed one (B = 1); join outputs and states along their first axes.

    tokens:  q, k, v and gates, each [1, T, ...]; a state is a tensor or a tuple of tensors whose first dimension counts
             the sequences. cu_seqlens None: the rows of [B, T, ...] as they are, without tokens (T = 0).
    nothing: what each tensor of a state holds before the first token; None: zeros
    A sequence without tokens gives no rows of output, and its final state is the initial one.
    """
    B, T = tokens[0].shape[:2]
    if cu_seqlens is not None and B != 1:
        raise UsageError(f"cu_seqlens came with B = {B}; pack all sequences into one row")
    outputs, states = [], []
    for n, (first, end) in enumerate(spans(T, cu_seqlens)):
        part = [x[:, first:end] for x in tokens]
        state = initial_state if cu_seqlens is None else _each(lambda x, n=n: x[n : n + 1], initial_state)
        run = oracle if first < end else partial(_without_tokens, oracle, nothing)
        o, final = run(*part, initial_state=state, output_final_state=output_final_state, **options)
        outputs.append(o)
        states.append(final)
    if not output_final_state:
        return torch.cat(outputs, dim=1), None
    if isinstance(states[0], tuple):
        return torch.cat(outputs, dim=1), tuple(torch.cat(parts) for parts in zip(*states, strict=True))
    return torch.cat(outputs, dim=1), torch.cat(states)


def _without_tokens(
    oracle, nothing: Sequence[float] | None, *tokens, initial_state, output_final_state: bool, **options
):
    """The result without tokens of a form that needs one: run it on a token of zeros and keep no row and no state."""
    one = [torch.cat([x, x.new_zeros(x.shape[0], 1, *x.shape[2:])], dim=1) for x in tokens]
    o, final = oracle(*one, initial_state=initial_state, output_final_state=output_final_state, **options)
    if not output_final_state:
        return o[:, :0], None
    if initial_state is not None:
        return o[:, :0], initial_state
    if isinstance(final, tuple):
        fills = nothing or (0.0,) * len(final)
        return o[:, :0], tuple(torch.full_like(x, fill) for x, fill in zip(final, fills, strict=True))
    return o[:, :0], torch.zeros_like(final)


def _each(fn, state):
    if state is None:
        return None
    return tuple(fn(x) for x in state) if isinstance(state, tuple) else fn(state)
