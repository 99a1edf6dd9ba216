"""The reference of a problem: the operator's oracle in float64 on one sampled sequence and head group.

The gradients come from autograd through the oracle. An operator with a state is run in checkpointed segments, so that a
long sequence keeps one state per segment in memory and not one per token.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch.utils.checkpoint import checkpoint

from suite.checks.calling import GRADIENT, Tensors, named_outputs
from suite.checks.inputs import STATES, Inputs, cut_inputs, each, flat, leaves, slicer
from suite.numerics import rms
from suite.problem import Problem
from suite.registry import Operator

SEGMENT = 128
# Beyond it, what an operator approximates is not computed: one token at a time, a quadratic oracle would take minutes.
APPROXIMATION_T = 2048
OUTPUT_DIMS = {"o": "B T HS V", "final_state": "N HS"}


# Tokens by whose gradients the parts of a direction are weighed; how far the inputs move along it, as a part of them.
WEIGHED_T = 128
STEP = 1e-5
# A gradient that cancels to less than this part of the largest is not made as large as the others.
SMALLEST_GRADIENT = 1e-4


class Slice(NamedTuple):
    """One sequence and one group of heads; None for all of them, where an operator mixes them."""

    sequence: int | None
    group: int | None


@dataclass
class Reference:
    """What a problem's outputs and gradients should be, on one slice of it.

    values: float64 tensors by name (`o`, `final_state`, `state`, `dq`, …)
    cut:    (name, tensor) -> the same slice of what an implementation returned under that name
    dims:   name -> the dimensions of what an implementation returns under that name
    slope:  how the outputs change along one direction of the inputs, where gradients are looked at so
    typical: of the gradients of inputs that all tokens share, RMS over all cotangents: by chance one may cancel
    whole:  whether what is compared with it are whole outputs, of which it takes its part
    approximation: relative RMS error of `o` against the operator that this one approximates, in forward passes that
            have one
    """

    values: Tensors
    cut: Callable[[str, torch.Tensor], torch.Tensor]
    dims: Callable[[str], str]
    approximation: float | None = None
    slope: Slope | None = None
    typical: Mapping[str, float] = field(default_factory=dict)
    whole: bool = True


@dataclass(frozen=True)
class Slope:
    """A directional derivative: of sum(cotangent * output) over all outputs of a slice, along a direction.

    direction: by input name, float64, of the slice; each input's part of the derivative is about as large
    value:     <gradient, direction>, from two calls of the oracle in float64
    """

    direction: Tensors
    value: float


def reference(
    operator: Operator,
    problem: Problem,
    inputs: Inputs,
    cotangents: Tensors | None,
    pick: int,
    along: int | None = None,
) -> Reference:
    """Run the oracle on the sequence and head group that `pick` selects.

    cotangents: gradients of the full outputs, needed in passes that differentiate
    pick:       any integer; 0 is the last of both, where a wrong stride or an offset that ran over shows; the next
                ones count down. Sequences without tokens are passed over: `suite.checks.checker` looks at their states
    along:      in passes that differentiate, the seed of a direction: gradients are then no values but a slope, which
                takes three forward calls of the oracle where its backward pass takes too long
    """
    sequence, group = slice_of(operator, problem, inputs, pick)
    cut = slicer(problem, sequence, group)
    sliced = each(_to_double, cut_inputs(operator, inputs, cut))
    if sequence is None and problem.cu_seqlens is not None:
        sliced["cu_seqlens"] = inputs["cu_seqlens_cpu"]

    def cut_output(name: str, x: torch.Tensor) -> torch.Tensor:
        return cut(x, dims_of_output(operator, name))

    def dims(name: str) -> str:
        return dims_of_output(operator, name)

    if problem.differentiates and along is not None:
        assert cotangents is not None
        values = _outputs(operator, problem, sliced)
        slope = _slope(operator, problem, sliced, {n: cut_output(n, x).double() for n, x in cotangents.items()}, along)
        return Reference(values, cut_output, dims, slope=slope)
    run = _step if problem.pass_ == "decode" else _sequence
    values = run(operator, problem, sliced, cotangents, cut_output)
    typical = _typical(operator, problem, sliced) if problem.differentiates else {}
    return Reference(values, cut_output, dims, _approximation(operator, problem, sliced, values), typical=typical)


def slice_of(operator: Operator, problem: Problem, inputs: Inputs, pick: int) -> Slice:
    """The part of inputs and outputs that `reference` compares."""
    some = with_tokens(problem)
    sequence = None if _all_sequences(operator, problem, inputs) else some[(-1 - pick) % len(some)]
    return Slice(sequence, None if "H" in operator.couples else (-1 - pick // len(some)) % problem.groups)


def with_tokens(problem: Problem) -> list[int]:
    """The sequences that have tokens, by number."""
    return [n for n in range(problem.N) if n not in problem.empty]


def pick_of_shortest(operator: Operator, problem: Problem, inputs: Inputs, pick: int) -> int | None:
    """What picks the shortest sequence with tokens and the same heads as `pick`, or None where it is picked already.

    A kernel goes other ways in a sequence of one token or of less than a chunk. Dense sequences are as long as another.
    """
    bounds, some = problem.cu_seqlens, with_tokens(problem)
    if bounds is None or _all_sequences(operator, problem, inputs):
        return None
    shortest = min(range(len(some)), key=lambda i: bounds[some[i] + 1] - bounds[some[i]])
    found = pick // len(some) * len(some) + len(some) - 1 - shortest
    return None if found == pick else found


def _approximation(operator: Operator, problem: Problem, inputs: Inputs, values: Tensors) -> float | None:
    target = operator.approximates(problem) if operator.approximates else None
    if target is None or problem.pass_ != "fwd" or problem.initial_state or problem.T > APPROXIMATION_T:
        return None
    axes = {name: value for name, value in problem.axes if name in {axis.name for axis in target.axes}}
    words = target.kwargs_of(target.complete(problem.replace(axes=()), axes))
    with torch.no_grad():
        o, _ = target.oracle(**_accepted(target.oracle, inputs), **words)
    return rms(values["o"] - o) / rms(o)


def dims_of_output(operator: Operator, name: str, own: Mapping[str, str | tuple[str, ...]] | None = None) -> str:
    """Dimensions of an output, a stepped state or a gradient, by its name; own: of inputs, before the operator's."""
    base, _, index = name.partition("[")
    if base in OUTPUT_DIMS:
        dims = operator.dims.get(base, OUTPUT_DIMS[base])
    else:
        of = base if base in STATES else base.removeprefix(GRADIENT)
        dims = (own or {}).get(of) or operator.dims_of(of)
    return dims if isinstance(dims, str) else dims[int(index.rstrip("]") or 0)]


def _all_sequences(operator: Operator, problem: Problem, inputs: Inputs) -> bool:
    """Whether no sequence can be looked at alone."""
    return "B" in operator.couples or _shares_inputs(operator, problem, inputs)


def _shares_inputs(operator: Operator, problem: Problem, inputs: Inputs) -> bool:
    # A parameter that all sequences share has a gradient that sums over them: one sequence alone can't tell it.
    if not problem.differentiates:
        return False
    names = [n for n, value in inputs.items() if any(x.requires_grad for x in flat({n: value}).values())]
    dims = [operator.dims_of(name) for name in names]
    return any("B" not in d.split() and "N" not in d.split() for d in dims if isinstance(d, str))


def _to_double(x: torch.Tensor) -> torch.Tensor:
    if not x.is_floating_point():
        return x
    return x.detach().double().requires_grad_(x.requires_grad)


def _accepted(fn: Callable[..., Any], words: Mapping[str, Any]) -> dict[str, Any]:
    names = inspect.signature(fn).parameters
    return {name: value for name, value in words.items() if name in names}


def _step(operator: Operator, problem: Problem, inputs: Inputs, *_: Any) -> Tensors:
    words: dict[str, Any] = operator.kwargs_of(problem)
    state = tuple(x.clone() for x in inputs["state"]) if isinstance(inputs["state"], tuple) else inputs["state"].clone()
    tokens = {name: x for name, x in inputs.items() if name != "state"}
    with torch.no_grad():
        if operator.step is not None:
            o = operator.step(**tokens, state=state, **_accepted(operator.step, words))
            return {"o": o} | flat({"state": state})
        o, final = operator.oracle(**tokens, initial_state=state, output_final_state=True, **words)
    return {"o": o} | flat({"state": final})


def _sequence(
    operator: Operator,
    problem: Problem,
    inputs: Inputs,
    cotangents: Tensors | None,
    cut_output: Callable[[str, torch.Tensor], torch.Tensor],
) -> Tensors:
    words: dict[str, Any] = operator.kwargs_of(problem)
    if operator.stateful and problem.initial_state:
        words["output_final_state"] = True
    with torch.set_grad_enabled(problem.differentiates):
        # Packed sequences stay together only where they share a parameter: segments would cut through them.
        carries = operator.segmented(problem) if operator.segmented else operator.stateful
        whole = not (carries and problem.differentiates and problem.T > SEGMENT) or "cu_seqlens" in inputs
        result = operator.oracle(**inputs, **words) if whole else _in_segments(operator, inputs, words)
    outputs = named_outputs(result)
    if not problem.differentiates:
        return outputs
    assert cotangents is not None
    found = leaves(inputs)
    if found and not outputs["o"].requires_grad:
        raise ValueError("its o does not depend on its inputs: it was computed without a graph, so it has no gradients")
    flowing = {name: x for name, x in outputs.items() if x.requires_grad}
    incoming = [cut_output(name, cotangents[name]).double() for name in flowing]
    # An input that the mathematics does not use has no gradient, and nothing to compare.
    grads = torch.autograd.grad(list(flowing.values()), list(found.values()), incoming, allow_unused=True)
    return {name: x.detach() for name, x in outputs.items()} | {
        GRADIENT + name: g for name, g in zip(found, grads, strict=True) if g is not None
    }


def _outputs(operator: Operator, problem: Problem, inputs: Inputs) -> Tensors:
    """The oracle's outputs, without gradients."""
    forward = problem.replace(pass_="fwd")
    return _sequence(operator, forward, each(lambda x: x.detach(), inputs), None, lambda _, x: x)


def _slope(operator: Operator, problem: Problem, inputs: Inputs, incoming: Tensors, seed: int) -> Slope:
    """The derivative along a drawn direction, by a central difference."""
    found = leaves(inputs)
    generator = torch.Generator(device=next(iter(found.values())).device).manual_seed(seed)
    direction = {
        name: torch.randn(x.shape, generator=generator, device=x.device, dtype=torch.float64) / weight
        for (name, x), weight in zip(found.items(), _weights(operator, problem, inputs, incoming), strict=True)
    }
    step = STEP * min((rms(x.detach()) or 1.0) / rms(direction[name]) for name, x in found.items() if x.numel())
    sides = [_weighed(operator, problem, _moved(inputs, direction, sign * step), incoming) for sign in (1.0, -1.0)]
    return Slope(direction, (sides[0] - sides[1]) / (2 * step))


def _typical(operator: Operator, problem: Problem, inputs: Inputs) -> dict[str, float]:
    """RMS of each shared input's gradient over cotangents of unit variance, from how outputs change with the input.

    One number, such as a head's decay, has a gradient that sums over all tokens. For one cotangent the sum may be near
    0, and its error is still that of its terms.
    """
    typical = {}
    generator = torch.Generator().manual_seed(0)
    for name, x in leaves(inputs).items():
        dims = operator.dims_of(name.partition("[")[0])
        if name.partition("[")[0] in STATES or not isinstance(dims, str) or {"T", "N", "B"} & set(dims.split()):
            continue
        # Numbers of several heads change other outputs: with random signs the squares of their changes add up.
        signs = (torch.randint(0, 2, x.shape, generator=generator) * 2.0 - 1.0).to(x)
        step = STEP * (rms(x.detach()) or 1.0)
        up, down = (_outputs(operator, problem, _moved(inputs, {name: signs}, side * step)) for side in (1.0, -1.0))
        squares = sum(float(((up[n] - down[n]) / (2 * step)).square().sum()) for n in up if n in down)
        typical[GRADIENT + name] = (squares / x.numel()) ** 0.5 if x.numel() else 0.0
    return typical


def _weighed(operator: Operator, problem: Problem, inputs: Inputs, incoming: Tensors) -> float:
    outputs = _outputs(operator, problem, inputs)
    return sum(float((x * incoming[name]).sum()) for name, x in outputs.items() if name in incoming)


def _moved(inputs: Inputs, direction: Tensors, step: float) -> Inputs:
    def moved(name: str, x: torch.Tensor) -> torch.Tensor:
        return x.detach() + step * direction[name] if name in direction else x.detach()

    return {
        name: tuple(moved(f"{name}[{i}]", x) for i, x in enumerate(value))
        if isinstance(value, tuple)
        else moved(name, value)
        for name, value in inputs.items()
    }


def _weights(operator: Operator, problem: Problem, inputs: Inputs, incoming: Tensors) -> list[float]:
    """What each input's direction is divided by: about its gradient's norm, as the first tokens tell it.

    In the unweighed sum, an input with a small gradient would not be seen beside one with a large one.
    """

    def shortened(name: str, value: Any) -> Any:
        if name == "cu_seqlens":
            return value.clamp(max=WEIGHED_T)
        return value[:, :WEIGHED_T] if _timed(operator, name) else value

    short = {name: shortened(name, value) for name, value in inputs.items()}
    short = each(lambda x: x.detach().requires_grad_(x.requires_grad), short)
    flowing = {name: x[:, :WEIGHED_T] if name == "o" else x for name, x in incoming.items()}
    part = problem.replace(T=min(problem.T, WEIGHED_T)) if problem.cu_seqlens is None else problem
    values = _sequence(operator, part, short, flowing, lambda _, x: x)
    sizes = [rms(values[GRADIENT + name]) if GRADIENT + name in values else 0.0 for name in leaves(inputs)]
    least = SMALLEST_GRADIENT * max(sizes) or 1.0
    return [
        max(size, least) * max(1.0, x.numel() ** 0.5) for size, x in zip(sizes, leaves(inputs).values(), strict=True)
    ]


def _in_segments(operator: Operator, inputs: Inputs, words: dict[str, Any]) -> tuple[torch.Tensor, Any]:
    """The oracle over SEGMENT tokens at a time, the state carried, each segment recomputed in the backward pass."""
    state = inputs.get("initial_state")
    wanted = words.pop("output_final_state", False)
    T = next(x.shape[1] for name, x in inputs.items() if _timed(operator, name))
    outputs = []
    for first in range(0, T, SEGMENT):
        part = {
            name: x[:, first : first + SEGMENT] if _timed(operator, name) else x
            for name, x in inputs.items()
            if name != "initial_state"
        }
        o, state = checkpoint(_segment, operator.oracle, part, state, words, use_reentrant=False)
        outputs.append(o)
    return torch.cat(outputs, dim=1), (state if wanted else None)


def _timed(operator: Operator, name: str) -> bool:
    """Whether an input has tokens, which always are its second dimension."""
    return name not in STATES and "T" in str(operator.dims_of(name)).split()


def _segment(oracle: Callable[..., Any], part: Inputs, state: Any, words: dict[str, Any]) -> Any:
    given = {} if state is None else {"initial_state": state}
    return oracle(**part, **given, output_final_state=True, **words)
