"""Inputs: drawing them for a problem, slicing one sequence and head group out of them, walking their tensors.

Inputs are a dict of tensors by parameter name; a state may be a tuple of tensors. `cu_seqlens` is on the device and
`cu_seqlens_cpu` beside it on the CPU, so that host code never waits for a device to read a boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from suite.faults import blamed, place_of_code, returned
from suite.problem import Problem
from suite.registry import Operator

STATES = ("initial_state", "state")
PACKING = ("cu_seqlens", "cu_seqlens_cpu")
Inputs = dict[str, Any]


def draw_inputs(operator: Operator, problem: Problem, seed: int, device: str = "cpu") -> Inputs:
    """The operator's inputs for a problem, from one seed.

    In passes that differentiate, floats that are not the operator's constants require gradients.
    """
    generator = torch.Generator(device=device).manual_seed(seed)
    inputs = _drawn(operator, problem, generator)
    if problem.differentiates:
        free = {name: value for name, value in inputs.items() if name not in operator.constants}
        inputs |= each(lambda x: x.detach().requires_grad_() if x.is_floating_point() else x, free)
    bounds = problem.cu_seqlens
    if bounds is not None:
        cpu = torch.tensor(bounds, dtype=torch.int32)
        inputs |= {"cu_seqlens": cpu.to(device), "cu_seqlens_cpu": cpu}
    return inputs


def _drawn(operator: Operator, problem: Problem, generator: torch.Generator) -> Inputs:
    with blamed("inputs", operator.name, operator.place):
        inputs = operator.inputs(problem, generator)
    place = place_of_code(operator.inputs, operator.place)
    if not isinstance(inputs, Mapping) or not all(isinstance(name, str) for name in inputs):
        raise returned("inputs", operator.name, place, inputs, "a dict of tensors by name")
    for name, value in inputs.items():
        parts = value if isinstance(value, tuple) else (value,)
        if not all(isinstance(part, torch.Tensor) for part in parts):
            raise returned("inputs", operator.name, place, {name: value}, "tensors, or tuples of tensors")
    return dict(inputs)


def each(fn: Callable[[torch.Tensor], torch.Tensor], inputs: Mapping[str, Any]) -> Inputs:
    """Apply `fn` to every tensor, those inside tuples too."""
    return {
        name: tuple(fn(x) for x in value) if isinstance(value, tuple) else fn(value) for name, value in inputs.items()
    }


def flat(values: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Tensors by name; those of a tuple are called `state[0]`, `state[1]`, …; None is left out."""
    found: dict[str, torch.Tensor] = {}
    for name, value in values.items():
        if isinstance(value, tuple):
            found |= {f"{name}[{i}]": x for i, x in enumerate(value)}
        elif value is not None:
            found[name] = value
    return found


def fill(inputs: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """Copy values into the memory of inputs without a trace: no version counter moves, and no address changes."""
    for name, x in flat(values).items():
        if name not in PACKING:
            flat(inputs)[name].data.copy_(x.detach())


def leaves(inputs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors that are differentiated, by name."""
    return {name: x for name, x in flat(inputs).items() if x.requires_grad}


def tensor_bytes(inputs: Mapping[str, Any]) -> int:
    """Bytes of all tensors."""
    return sum(x.numel() * x.element_size() for x in flat(inputs).values())


def slicer(problem: Problem, sequence: int | None, group: int | None) -> Callable[[torch.Tensor, str], torch.Tensor]:
    """A function that cuts one sequence and one group of heads (all when None) out of a tensor with given dims.

    dims names leading dimensions as in "B T HS K". A packed sequence is a span of T, another one a row of B.
    """
    heads = {name: getattr(problem, name) // problem.groups for name in ("H", "HK", "HV", "HS")}
    bounds = problem.cu_seqlens
    spans: dict[str, slice] = {}
    if group is not None:
        spans |= {name: slice(group * n, (group + 1) * n) for name, n in heads.items()}
    if sequence is not None:
        spans["N"] = slice(sequence, sequence + 1)
        if bounds is None:
            spans["B"] = spans["N"]
        elif problem.pass_ != "decode":
            spans["T"] = slice(bounds[sequence], bounds[sequence + 1])

    def cut(x: torch.Tensor, dims: str) -> torch.Tensor:
        return x[tuple(spans.get(name, slice(None)) for name in dims.split()[: x.ndim])]

    return cut


def cut_inputs(
    operator: Operator, inputs: Mapping[str, Any], cut: Callable[[torch.Tensor, str], torch.Tensor]
) -> Inputs:
    """One sequence and head group of all inputs, as a dense problem: cu_seqlens is left out."""
    return {
        name: cut_named(operator, name, value, cut)
        for name, value in inputs.items()
        if name not in PACKING and value is not None
    }


def cut_named(operator: Operator, name: str, value: Any, cut: Callable[[torch.Tensor, str], torch.Tensor]) -> Any:
    """Cut one input; every tensor of a tuple has its own dims, or all have the same."""
    dims = operator.dims_of(name)
    if not isinstance(value, tuple):
        return cut(value, dims if isinstance(dims, str) else dims[0])
    all_dims = [dims] * len(value) if isinstance(dims, str) else dims
    return tuple(cut(x, d) for x, d in zip(value, all_dims, strict=True))
