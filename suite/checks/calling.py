"""Call: one implementation, one problem, its inputs; `run()` is what is measured.

    fwd     the function without autograd
    fwdbwd  the function and the gradients of all float inputs
    bwd     the gradients alone: the graph is built by `prepare`, outside the measured span, and kept between runs
    decode  the step; the state is updated in place

Gradients are taken by torch.autograd.grad, so nothing accumulates and nothing needs clearing inside the span.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from suite.checks.inputs import Inputs, draw_inputs, flat, leaves
from suite.faults import place_of_code, returned
from suite.problem import Problem, Value
from suite.registry import Implementation, Operator
from suite.targets import is_aimed

Tensors = dict[str, torch.Tensor]
GRADIENT = "d"
# What an implementation must return.
RESULT = "a tensor o, or the pair (o, final_state or None)"


def keywords(
    operator: Operator, implementation: Implementation, problem: Problem, tunables: Mapping[str, Value]
) -> dict[str, Any]:
    """Everything an implementation is called with beside the tensors: own axes it takes, tunables, the final state."""
    words: dict[str, Any] = {
        name: value for name, value in operator.kwargs_of(problem).items() if name in implementation.parameters
    }
    words |= tunables
    if problem.initial_state and problem.pass_ != "decode":
        words["output_final_state"] = True
    return words


def named_outputs(result: Any) -> Tensors:
    """`o` and `final_state` (or its parts) of what a sequence function or a step returned; TypeError on all else."""
    if isinstance(result, torch.Tensor):
        return {"o": result}
    if not isinstance(result, tuple) or len(result) != 2 or result[0] is None:
        raise TypeError(f"{type(result).__name__} is not {RESULT}")
    found = flat({"o": result[0], "final_state": result[1]})
    for name, x in found.items():
        if not isinstance(x, torch.Tensor):
            raise TypeError(f"{name}, a {type(x).__name__}, is not a tensor")
    return found


@dataclass
class Call:
    """One implementation on one problem. `inputs` are those of suite.checks.inputs.draw_inputs."""

    operator: Operator
    implementation: Implementation
    problem: Problem
    tunables: Mapping[str, Value]
    inputs: Inputs
    seed: int = 0
    cotangents: Tensors | None = None
    _graph: Tensors | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._words = keywords(self.operator, self.implementation, self.problem, self.tunables)
        taken = self.implementation.parameters
        self._tensors = {n: x for n, x in self.inputs.items() if not (n.endswith("_cpu") and n not in taken)}
        self._leaves = leaves(self.inputs)
        requires = self.implementation.requires
        if requires is not None and requires.pretend is not None and is_aimed():
            requires.pretend()

    def forward(self) -> Tensors:
        """Outputs by name, with a graph where the pass differentiates."""
        with torch.set_grad_enabled(self.problem.differentiates):
            result = self.implementation.fn(**self._tensors, **self._words)
        try:
            found = named_outputs(result)
        except TypeError:
            to = self.implementation
            raise returned("fn", to.title, place_of_code(to.fn, to.place), result, RESULT) from None
        # A state that nobody asked for is no output: no gradient flows into it, and the oracle has none.
        return found if "output_final_state" in self._words else {"o": found["o"]}

    def prepare(self) -> None:
        """Do what does not belong to the measured span: the graph of a backward pass, the gradients that flow in."""
        if not self.problem.differentiates:
            return
        if self.cotangents is None or self.problem.pass_ == "bwd":
            outputs = self.forward()
            self.cotangents = self.cotangents or draw_cotangents(outputs, self.seed)
            self._graph = outputs if self.problem.pass_ == "bwd" else None

    def run(self) -> Tensors:
        """One call of the pass: outputs, gradients, or both, by name (`dq` for the gradient of `q`)."""
        pass_ = self.problem.pass_
        if pass_ in ("fwd", "decode"):
            return self.forward()
        if self.cotangents is None or (pass_ == "bwd" and self._graph is None):
            self.prepare()
        if pass_ == "bwd":
            assert self._graph is not None
            return self._gradients(self._graph, retain=True)
        outputs = self.forward()
        return outputs | self._gradients(outputs, retain=False)

    @property
    def built(self) -> Tensors:
        """The outputs of the graph that a backward pass runs on; empty without one."""
        return self._graph or {}

    def release(self) -> None:
        """Drop the graph of a backward pass."""
        self._graph = None

    def _gradients(self, outputs: Tensors, retain: bool) -> Tensors:
        assert self.cotangents is not None
        differentiable = {name: x for name, x in outputs.items() if x.requires_grad}
        grads = torch.autograd.grad(
            list(differentiable.values()),
            list(self._leaves.values()),
            [self.cotangents[name] for name in differentiable],
            retain_graph=retain,
            allow_unused=True,
        )
        return {GRADIENT + name: g for name, g in zip(self._leaves, grads, strict=True) if g is not None}


def draw_cotangents(outputs: Tensors, seed: int) -> Tensors:
    """Random gradients of the outputs, the same for every implementation of a problem."""
    drawn: Tensors = {}
    for i, (name, x) in enumerate(outputs.items()):
        generator = torch.Generator(device=x.device).manual_seed(seed * 31 + i + 1) if x.device.type != "meta" else None
        noise = torch.randn(x.shape, generator=generator, device=x.device)
        drawn[name] = noise.to(x.dtype)
    return drawn


def make_call(
    operator: Operator,
    implementation: Implementation,
    problem: Problem,
    tunables: Mapping[str, Value],
    *,
    seed: int,
    device: str,
) -> Call:
    """A call on freshly drawn inputs."""
    inputs = draw_inputs(operator, problem, seed, device)
    return Call(operator, implementation, problem, tunables, inputs, seed)
