"""An operator's signature: names, shapes and dtypes of its inputs, as they are really drawn.

Example::

    [str(each) for each in signature(retention, "fwd")][0]   # 'q [B,T,H,K] bf16|fp16|fp32'

Inputs are drawn small, at several sizes and dtypes and for every choice of the operator's own axes.
A dimension has the name that the operator's `dims` gives it where its size is that of the name; others get the sizes
of the problem that they follow, such as K or 2K.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from suite import dtypes
from suite.checks.inputs import PACKING, draw_inputs, flat
from suite.checks.oracle import OUTPUT_DIMS
from suite.errors import DiscoveryError
from suite.problem import SIZES, Problem, Value
from suite.registry import Operator

if TYPE_CHECKING:
    import torch

# Sizes to draw at: a dimension's name has to fit them all.
_LENGTHS = ({"B": 3, "T": 40}, {"B": 5, "T": 48})
_HEADS = ({"H": 2, "HK": 2, "HV": 4}, {"H": 4, "HK": 2, "HV": 2}, {"H": 2, "HK": 2, "HV": 2})
_DIMS = (({"K": 24, "V": 40}, {"K": 56, "V": 72}), ({"K": 24, "V": 24}, {"K": 56, "V": 56}))
_NAMES = (*SIZES, "HS", "N")
_FACTORS = (2, 3, 4)
# How the dtype reads of what follows the problem's state dtype.
STATE_DTYPE = "state dtype, fp32 by default"
_DEFAULT_STATE, _OTHER_STATE = "float32", "bfloat16"

Choice = Mapping[str, Value]


@dataclass(frozen=True)
class Input:
    """One tensor of a call.

    dims:  a word for each dimension: a name of the problem, of `dims` or of an own axis, a multiple such as 2K, a size
    dtype: the dtypes it comes in, short, as `bf16|fp16|fp32`; STATE_DTYPE where it follows that
    when:  the choices with which it has this form, "" for the defaults
    """

    name: str
    dims: tuple[str, ...]
    dtype: str
    when: str = ""

    def __str__(self) -> str:
        form = f"{self.name} [{','.join(self.dims)}] {self.dtype}"
        return f"{form}  with {self.when}" if self.when else form


@dataclass(frozen=True)
class _Drawn:
    """A problem and the shapes and dtypes of its inputs."""

    problem: Problem
    inputs: Mapping[str, torch.Tensor]


def signature(operator: Operator, pass_: str) -> list[Input]:
    """The inputs of a pass: each form that an input takes, with the fewest choices off their defaults that give it."""
    known = _dtypes(operator)
    words: dict[tuple[str, torch.Size, torch.dtype], tuple[tuple[str, ...], str]] = {}
    forms: dict[tuple[str, tuple[str, ...], str], list[Choice]] = {}
    for choice in sorted(_choices(operator, pass_), key=len):
        problems = _problems(operator, pass_, choice, known)
        if not problems:
            continue
        first = _draw(operator, problems[0])
        seen = {name: (name, x.shape, x.dtype) for name, x in first.inputs.items()}
        if not words.keys() >= set(seen.values()):
            drawn = [first, *(_draw(operator, problem) for problem in problems[1:])]
            for name, key in seen.items():
                words.setdefault(key, (_dims(operator, name, drawn), _dtype(name, drawn, known)))
        for name, key in seen.items():
            forms.setdefault((name, *words[key]), []).append(choice)
    order = list(dict.fromkeys(name for name, _, _ in forms))
    found = [Input(*form, when=_when(choices)) for form, choices in forms.items()]
    return sorted(found, key=lambda each: order.index(each.name))


def output_dims(operator: Operator) -> tuple[str, ...]:
    """The dimensions of the output `o`."""
    dims = operator.dims.get("o") or OUTPUT_DIMS["o"]
    return tuple(dims.split()) if isinstance(dims, str) else dims


def _dtypes(operator: Operator) -> list[str]:
    """The dtypes of q, k, v that any implementation takes, or all that are measured where there is none."""
    taken = {name for made in operator.implementations.values() for name in made.dtypes}
    return [name for name in dtypes.SHORT if name in taken] or ["bfloat16", "float16", "float32"]


def _choices(operator: Operator, pass_: str) -> Iterator[Choice]:
    """Every choice of own axes, initial state and layout, each as what is off the defaults."""
    options: dict[str, Sequence[Value]] = {axis.name: axis.values for axis in operator.axes}
    if pass_ != "decode":
        options |= {"initial_state": (False, True)} if operator.stateful else {}
        options |= {"layout": ("dense", "packed:ragged")}
    for values in itertools.product(*options.values()):
        yield {name: v for name, v in zip(options, values, strict=True) if v != options[name][0]}


def _problems(operator: Operator, pass_: str, choice: Choice, known: Sequence[str]) -> list[Problem]:
    """Problems of several sizes, then dtypes, then another state dtype, that the operator serves with this choice."""
    own = {axis.name: choice[axis.name] for axis in operator.axes if axis.name in choice}
    standard = {name: choice[name] for name in ("initial_state", "layout") if name in choice}
    for dims in _DIMS:
        sizes = [{**length, **heads, **size} for heads in _HEADS for length, size in zip(_LENGTHS, dims, strict=True)]
        ways = [(size, known[0], _DEFAULT_STATE) for size in sizes]
        served = [way for way in ways if not _refused(operator, _problem(operator, pass_, way, own, standard))]
        if served:
            size = served[0][0]
            served += [(size, dtype, _DEFAULT_STATE) for dtype in known[1:]] + [(size, known[0], _OTHER_STATE)]
            return [_problem(operator, pass_, way, own, standard) for way in served]
    return []


def _refused(operator: Operator, problem: Problem) -> str | None:
    return operator.supports(problem) if operator.supports else None


def _draw(operator: Operator, problem: Problem) -> _Drawn:
    try:
        return _Drawn(problem, flat(draw_inputs(operator, problem, seed=0)))
    except Exception as error:
        how = f"{type(error).__name__}: {error}"
        raise DiscoveryError(f"the inputs of {operator.name} ({operator.place}) cannot be drawn: {how}") from error


def _problem(
    operator: Operator, pass_: str, way: tuple[Mapping[str, int], str, str], own: Choice, standard: Mapping[str, Value]
) -> Problem:
    sizes, dtype, state_dtype = way
    columns = {**sizes, "dtype": dtype, "state_dtype": state_dtype, "pass": pass_, **standard}
    if "layout" in standard:
        columns["B"] = 1
    return operator.complete(Problem.from_columns(columns), own)


def _dims(operator: Operator, name: str, drawn: Sequence[_Drawn]) -> tuple[str, ...]:
    """A word for each dimension of an input."""
    shapes = [each.inputs[name].shape for each in drawn]
    problems = [each.problem for each in drawn]
    sizes = zip(*shapes, strict=True)
    if name in PACKING:
        return ("N+1",)
    declared = _declared(operator, name)
    return tuple(_word(declared[i] if i < len(declared) else "", list(each), problems) for i, each in enumerate(sizes))


def _declared(operator: Operator, name: str) -> list[str]:
    """The names that `dims` gives the leading dimensions of an input; `state[1]` is the second tensor of `state`."""
    base, _, index = name.partition("[")
    dims = operator.dims_of(base)
    return (dims if isinstance(dims, str) else dims[int(index.rstrip("]") or 0)]).split()


def _word(declared: str, sizes: Sequence[int], problems: Sequence[Problem]) -> str:
    """The declared name where it fits, else what the sizes follow."""
    if declared and declared not in _NAMES:
        return declared
    own = [name for name, value in problems[0].axes if isinstance(value, int) and not isinstance(value, bool)]
    for name in [*([declared] if declared else []), "K", "V", *_NAMES, *own]:
        if all(_size(name, problem) == size for problem, size in zip(problems, sizes, strict=True)):
            return name
    if len(set(sizes)) == 1:
        return str(sizes[0])
    for factor, name in itertools.product(_FACTORS, ("K", "V")):
        if all(factor * _size(name, problem) == size for problem, size in zip(problems, sizes, strict=True)):
            return f"{factor}{name}"
    return f"{sizes[0]} at K={problems[0].K}"


def _size(name: str, problem: Problem) -> int:
    """The size of a dimension of this name: of the problem, or the value of an own axis."""
    return getattr(problem, name) if name in _NAMES else int(problem.axis(name))


def _dtype(name: str, drawn: Sequence[_Drawn], known: Sequence[str]) -> str:
    """The dtypes that an input comes in."""
    found = [str(each.inputs[name].dtype).removeprefix("torch.") for each in drawn]
    if found[-1] != found[0] == _DEFAULT_STATE and found[-1] == _OTHER_STATE:
        return STATE_DTYPE
    seen = [dtype for dtype in known if dtype in found] if len(set(found)) > 1 else found[:1]
    return "|".join(dtypes.SHORT.get(dtype, dtype) for dtype in seen)


def _when(choices: Sequence[Choice]) -> str:
    """The smallest choices that give a form; values of one axis together."""
    fewest = [choice for choice in choices if len(choice) == len(choices[0])]
    together: dict[tuple[str, ...], dict[str, dict[str, None]]] = {}
    for choice in fewest:
        values = together.setdefault(tuple(choice), {name: {} for name in choice})
        for name, value in choice.items():
            values[name][_shown(value)] = None
    return " or ".join(
        ", ".join(f"{name}={'|'.join(values)}" for name, values in each.items()) for each in together.values()
    )


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).partition(":")[0]
