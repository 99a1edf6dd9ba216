"""Issued traffic: the bytes that kernels really load and store, counted in Triton's interpreter at a small shape.

Launch traffic counts each argument of a launch once, so it does not see that a launch reads something twice. Here the
interpreter's load and store builders are wrapped, and the operator runs a small problem (suite/static/probe_shape.py).

Runs only in a process that was started with TRITON_INTERPRET=1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
import torch

from suite.checks.calling import make_call
from suite.faults import classify
from suite.problem import Problem, Value
from suite.registry import Implementation, Operator
from suite.static.allocation_tracker import distinct, extent
from suite.static.forks import Forks, ways_taken
from suite.static.model import Issued
from suite.static.probe_shape import shrunk, small
from suite.static.tensors import tensors_in
from suite.targets import Target, aim


@dataclass
class Tally:
    """What was counted while kernels ran. inside: an operation, whose own loads and stores do not count."""

    bytes: int = 0
    traffic_bytes: int = 0
    dot_flops: int = 0
    kernels: dict[str, None] = field(default_factory=dict)
    inside: bool = False

    def clear(self) -> None:
        self.bytes = self.traffic_bytes = self.dot_flops = 0
        self.kernels.clear()


def issued(
    operator: Operator,
    implementation: Implementation,
    problem: Problem,
    tunables: Mapping[str, Value],
    target: Target,
    T: int,
    forks: Forks | None = None,
) -> Issued:
    """Count one call of the problem's pass, made small with T tokens; what the interpreter cannot run has a reason.

    forks: where data decide which way a kernel takes, as `telling` gives them
    """
    counted = small(problem, T)
    shape = "_".join(counted.tokens_of_id(operator.axes))
    if reason := implementation.unsupported(counted, tunables, operator.axes):
        return Issued(shape, reason=reason)
    try:
        with aim(shrunk(target, problem, counted)):
            call = make_call(operator, implementation, counted, tunables, seed=0, device="cpu")
            with counting() as tally:
                call.prepare()
                tally.clear()
                with ways_taken(forks or {}) as ways:
                    call.run()
    except Exception as error:
        return Issued(shape, reason=f"Triton's interpreter cannot run it: {classify(error)[1]}")
    if not tally.kernels:
        return Issued(shape, reason="launches no Triton kernel")
    compulsory = operator.cost_of(counted, implementation, tunables).bytes_compulsory
    return Issued(shape, tally.bytes, tally.traffic_bytes, compulsory, tally.dot_flops, tuple(tally.kernels), ways)


@contextmanager
def counting() -> Iterator[Tally]:
    """Count what interpreted kernels load and store inside the block. Requires the interpreter."""
    from triton.runtime.interpreter import InterpretedFunction, InterpreterBuilder

    tally = Tally()
    with ExitStack() as stack:
        for name, count in _COUNTERS.items():
            if original := getattr(InterpreterBuilder, name, None):
                stack.enter_context(mock.patch.object(InterpreterBuilder, name, _wrapped(original, count, tally)))
        run = InterpretedFunction.run
        stack.enter_context(mock.patch.object(InterpretedFunction, "run", _noting(run, tally)))
        yield tally


def _noting(run: Callable[..., Any], tally: Tally) -> Callable[..., Any]:
    def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        tally.kernels[self.fn.__name__] = None
        tensors: list[torch.Tensor] = distinct(tensors_in([*args, *kwargs.values()]))
        tally.traffic_bytes += sum(map(extent, tensors))
        return run(self, *args, **kwargs)

    return noted


def _wrapped(original: Callable[..., Any], count: Callable[..., None], tally: Tally) -> Callable[..., Any]:
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if tally.inside:
            return original(self, *args, **kwargs)
        count(tally, *args)
        tally.inside = True
        try:
            return original(self, *args, **kwargs)
        finally:
            tally.inside = False

    return wrapped


def _masked(tally: Tally, pointers: Any, mask: Any = None) -> None:
    addresses = np.asarray(pointers.data)
    if mask is not None:
        addresses = addresses[np.broadcast_to(mask.data, addresses.shape)]
    itemsize = max(1, pointers.get_element_ty().primitive_bitwidth // 8)
    tally.bytes += len(np.unique(addresses)) * itemsize


def _load(tally: Tally, pointers: Any, mask: Any, *_: Any) -> None:
    _masked(tally, pointers, mask)


def _store(tally: Tally, pointers: Any, value: Any, mask: Any, *_: Any) -> None:
    _masked(tally, pointers, mask)


def _atomic(tally: Tally, operation: Any, pointers: Any, value: Any, mask: Any, *_: Any) -> None:
    # Read and written.
    _masked(tally, pointers, mask)
    _masked(tally, pointers, mask)


def _compare_and_swap(tally: Tally, pointers: Any, *_: Any) -> None:
    _masked(tally, pointers)
    _masked(tally, pointers)


def _dot(tally: Tally, a: Any, b: Any, *_: Any) -> None:
    *batch, m, k = a.data.shape
    tally.dot_flops += 2 * int(np.prod(batch, dtype=int)) * m * k * b.data.shape[-1]


# Every other load and store builder goes through the masked ones, in Triton 3.6 and in 3.9.
_COUNTERS: dict[str, Callable[..., None]] = {
    "create_masked_load": _load,
    "create_masked_store": _store,
    "create_atomic_rmw": _atomic,
    "create_atomic_cas": _compare_and_swap,
    "create_dot": _dot,
}
