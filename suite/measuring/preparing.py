"""Getting a timer ready for a call: its backward graph built where the timer wants it, its inputs copied to rotate."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from suite.checks.calling import Call
from suite.checks.inputs import each, tensor_bytes
from suite.measuring.timers import Timer


def ready(timer: Timer, call: Call) -> None:
    """Prepare the timer for the call, and for copies of it on inputs of their own where the timer rotates.

    Raises Unsupported where the timer cannot measure this call.
    """
    copies = [_copy(call) for _ in range(timer.sets(tensor_bytes(call.inputs)) - 1)]
    with timer.building():
        for one in (call, *copies):
            one.release()
            one.prepare()
    timer.prepare(call.run, *(one.run for one in copies))


def ready_function(timer: Timer, fn: Callable[..., Any], inputs: Mapping[str, Any]) -> None:
    """Prepare the timer for `fn(**inputs)`, and for copies of the inputs that are tensors where the timer rotates.

    Raises Unsupported where the timer cannot measure this call.
    """
    tensors = {name: x for name, x in inputs.items() if isinstance(x, torch.Tensor)}
    copies = [
        {**inputs, **{name: x.detach().clone().requires_grad_(x.requires_grad) for name, x in tensors.items()}}
        for _ in range(timer.sets(tensor_bytes(tensors)) - 1)
    ]
    timer.prepare(*(partial(fn, **each) for each in (inputs, *copies)))


def _copy(call: Call) -> Call:
    inputs = each(lambda x: x.detach().clone().requires_grad_(x.requires_grad), call.inputs)
    return replace(call, inputs=inputs, _graph=None)
