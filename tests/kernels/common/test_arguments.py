"""What our functions refuse before they launch a kernel, in one line that names the argument, of all families."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import torch

from kernels.common.arguments import fit, given
from kernels.common.heads import expand_heads
from suite import Problem
from suite.checks.inputs import STATES, draw_inputs
from suite.discovery import discover
from suite.errors import UsageError
from suite.registry import Implementation, Operator
from suite.targets import aim

# Axes of implementations that do not serve the defaults.
OWN: dict[str, dict[str, Any]] = {"taylor_attention/triton_efficient": {"causal": False}}
# Inputs that lie on the sequence's tokens but are multiplied in float32: gates, which may be float32 beside halves.
GATES = ("log_decay", "beta", "dt", "input_gate", "forget_gate")
# Inputs whose dtype or shape are checked by their own names alone.
INDICES = ("lengths", "block_table")
# Inputs without which shared code would compute another operator, or crash.
REQUIRED = ("k", "v", "u", "beta", "a", "b", *GATES)


@cache
def ours() -> dict[str, tuple[Operator, Implementation]]:
    return {
        f"{operator.name}/{made.name}": (operator, made)
        for operator in discover().operators.values()
        for made in operator.implementations.values()
        if made.origin == "ours"
    }


NAMES = sorted(ours())


def call_of(name: str) -> dict[str, Any]:
    """Keywords of a small call that the implementation serves, in float16."""
    operator, made = ours()[name]
    pass_ = "fwd" if "fwd" in made.passes else "decode"
    sizes = {"B": 2, "T": 24, "H": 2, "K": 16, "V": 16, "dtype": "fp16", "pass_": pass_}
    problem = operator.complete(Problem(**sizes, initial_state=operator.stateful and pass_ == "fwd"), OWN.get(name))
    words = {axis: value for axis, value in operator.kwargs_of(problem).items() if axis in made.parameters}
    return {**draw_inputs(operator, problem, seed=0), **words}


def tensors(call: dict[str, Any]) -> list[str]:
    """The inputs that are one tensor."""
    return [name for name, x in call.items() if isinstance(x, torch.Tensor) and name not in INDICES]


def tokens(name: str, call: dict[str, Any]) -> list[str]:
    """Those with tokens that are multiplied with each other, the first one first."""
    operator, _ = ours()[name]
    if operator.name == "attention_decode":
        return ["q"]
    timed = [each for each in tensors(call) if each not in STATES and "T" in str(operator.dims_of(each)).split()]
    return [each for each in timed if each not in GATES or operator.name == "gated_scan"]


def bad(name: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(what is wrong, the arguments that say so, words of the message)."""
    call = call_of(name)
    (operator, made), known = ours()[name], tokens(name, call)
    first = known[0]
    wide = {each: call[each].double() for each in tensors(call) if call[each].is_floating_point()}
    yield (
        "float64",
        wide,
        f"{first} is torch.float64; our kernels serve torch.bfloat16, torch.float16 and torch.float32",
    )
    yield "integers", {each: call[each].int() for each in known}, f"{first} is torch.int32; our kernels serve"
    yield "a list", {first: call[first].tolist()}, f"{first} is a list; it must be a tensor"
    yield "no batch", {first: call[first][0]}, f"{first} is ("
    yield "one more dimension", {first: call[first][None]}, f"{first} is ("
    for each in known[1:]:
        yield "mixed dtypes", {each: call[each].float()}, f"{each} is torch.float32, {first} is torch.float16"
        yield "no batch", {each: call[each][0]}, f"{each} is ("
        yield "other T", {each: call[each].repeat(1, 2, *[1] * (call[each].ndim - 2))}, f"{each} is ("
        yield "other B", {each: call[each][:1]}, f"{each} is ("
    for each in (each for each in tensors(call) if each not in STATES):
        yield "sparse", {each: call[each].to_sparse()}, f"{each} has the layout torch.sparse_coo"
        for d, dim in enumerate(str(operator.dims_of(each)).split()[: call[each].ndim]):
            if dim not in ("B", "T"):
                yield f"{dim} = 0", {each: call[each].narrow(d, 0, 0)}, f"{each} is ("
        if each in REQUIRED and inspect.signature(made.fn).parameters[each].default is inspect.Parameter.empty:
            yield "None", {each: None}, f"{each} is "
    state = next((each for each in STATES if each in call), None)
    if state == "state":
        yield "no state", {state: None}, "state"
    if state:
        yield "a number", {state: 0.0}, "state"
        yield "too many parts", {state: (call[state],) * 4}, "state"
    for axis in operator.axes:
        default = inspect.signature(made.fn).parameters.get(axis.name)
        if default is not None and isinstance(default.default, (bool, str)):
            yield f"{axis.name} is None", {axis.name: None}, "None"
    for each in tensors(call):
        if each in STATES:
            yield "int state", {each: call[each].int()}, "is torch.int32; our kernels serve"
            yield "state on another device", {each: call[each].to("meta")}, "is on meta"
            yield "wide state", {each: call[each].double()}, "is torch.float64; our kernels serve"
        elif each not in known:
            yield "other gates", {each: call[each].bfloat16()}, f"{each} is torch.bfloat16"
            yield "wide gates", {each: call[each].double()}, f"{each} is torch.float64"
            yield "gates of a lower rank", {each: call[each][0]}, f"{each} is ("
        if each not in STATES and each != first:
            yield "another device", {each: call[each].to("meta")}, f"{each} is on meta, the others on cpu"
    for each in STATES:
        if isinstance(call.get(each), tuple):
            yield "wide state", {each: tuple(x.double() for x in call[each])}, "is torch.float64; our kernels serve"
    if "scale" in made.parameters:
        yield "tensor", {"scale": torch.tensor(0.5)}, "scale is a tensor"
        yield "tensors", {"scale": torch.ones(3)}, "scale is a tensor"
        yield "NaN", {"scale": float("nan")}, "scale = nan is not supported"
        yield "bool", {"scale": True}, "scale = True is not supported"
        yield "beyond float32", {"scale": 10**400}, "scale = 1000"
        yield "text", {"scale": "1"}, "scale = '1' is not supported"
    if "chunk" in made.parameters:
        yield "chunk", {"chunk": 64.0}, "chunk must be a power of two >= 16, got 64.0"


@pytest.mark.parametrize("name", NAMES)
def test_bad_arguments_are_named(name: str) -> None:
    call, made = call_of(name), ours()[name][1]
    for what, changes, words in bad(name):
        with aim("sm_90"), pytest.raises(UsageError) as caught:
            made.fn(**{**call, **changes})
        assert words in str(caught.value), what
        assert "\n" not in str(caught.value)


def test_sizes_are_bound_by_name() -> None:
    q, k, v = torch.empty(2, 5, 4, 8), torch.empty(2, 5, 2, 8), torch.empty(2, 5, 8, 3)
    found = fit({"q": (q, "B T H K"), "k": (k, "B T HK K"), "v": (v, "B T HV V")}, {"g": (torch.empty(8), "HS")})
    assert found == {"B": 2, "T": 5, "H": 4, "HK": 2, "HV": 8, "K": 8, "V": 3, "HS": 8}


def test_gates_in_float32_are_served_beside_halves() -> None:
    q, gate = torch.empty(1, 5, 4, 8, dtype=torch.float16), torch.empty(1, 5, 4)
    assert fit({"q": (q, "B T H K")}, {"g": (gate, "B T HS"), **given({"none": (None, "HS")})})["T"] == 5


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("triton_step") and "HK" not in name])
def test_heads_that_do_not_divide_are_refused_by_steps_too(name: str) -> None:
    call, (operator, made) = call_of(name), ours()[name]
    more = {}
    for each in tensors(call):
        dims = str(operator.dims_of(each)).split()[: call[each].ndim]
        for d, dim in enumerate(dims):
            if dim in ("H", "HK") and each not in STATES:
                more[each] = torch.cat([call[each], call[each].narrow(d, 0, 1)], dim=d)
    if not more:
        pytest.skip("it has no heads of q and k")
    with aim("sm_90"), pytest.raises(UsageError) as caught:
        made.fn(**{**call, **more})
    assert "divide" in str(caught.value) or " is (" in str(caught.value)


def test_heads_that_do_not_divide_are_not_expanded() -> None:
    with pytest.raises(UsageError, match="2 heads do not divide 1"):
        expand_heads(torch.empty(1, 3, 2, 4), 1)
