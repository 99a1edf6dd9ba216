"""What the tests of both channel-gated delta rules share: problems as (regime, chunk, sizes), and checks of a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import pytest
import torch

from baselines.channel_delta.kimi_delta_attention.pytorch import naive as naive_kimi
from baselines.channel_delta.rwkv7.pytorch import naive as naive_rwkv7
from kernels.channel_delta import plan
from kernels.channel_delta.kimi_delta_attention import spec as kimi
from kernels.channel_delta.kimi_delta_attention.chunk import chunk_kimi_delta_attention
from kernels.channel_delta.rwkv7 import spec as rwkv7
from kernels.channel_delta.rwkv7.chunk import chunk_rwkv7
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.numerics import difference
from suite.registry import Operator
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.regimes import SMS
from tests.parameters import with_long

STATE = {"initial_state": True}
PACKED = {"layout": "packed:ragged", **STATE}

CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "one_token": ("on-chip", 16, {"T": 1, "H": 1, **STATE}),
    "tail": ("on-chip", 32, {"T": 63, "B": 2, "H": 1, "K": 16, "V": 48}),
    "odd": ("on-chip", 16, {"T": 40, "H": 1, "K": 60, "V": 100, **STATE}),
    "values": ("on-chip", 32, {"T": 50, "H": 1, "HV": 4, "K": 20, "V": 16, **STATE}),
    # fp32 takes at most 32 tokens at a time, so longer chunks are fp16's.
    "chunk": ("on-chip", 64, {"T": 130, "H": 1, "K": 32, "dtype": "fp16", **STATE}),
    "long_chunk": ("on-chip", 128, {"T": 70, "H": 1, "HV": 2, "K": 16, "dtype": "fp16"}),
    "packed": ("on-chip", 16, {"T": 100, "H": 1, "K": 16, **PACKED}),
    "segments": ("segments", 16, {"T": 80, "H": 1, "K": 20, "V": 36, **STATE}),
    "segments_plain": ("segments", 16, {"T": 65, "H": 1, "HV": 2, "K": 16, "V": 16}),
    "segments_packed": ("segments", 16, {"T": 120, "H": 1, "K": 16, "V": 16, **PACKED}),
    "segments_half": ("segments", 32, {"T": 140, "H": 1, "K": 32, "dtype": "fp16", **STATE}),
}

# The others say more of the same, in minutes.
QUICK = ("one_token", "odd", "values", "chunk", "segments_packed")
NAMES = with_long(CASES, *(set(CASES) - set(QUICK)))
# Without a backward pass other kernels run.
FORWARD = with_long(CASES, *(set(CASES) - {"chunk", "segments"}))
LARGE = pytest.mark.parametrize("size", [64, 128, 256])

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Rule:
    """An operator under test.

    run, oracle, parallel: its triton_chunk, its recurrence and its parallel form
    gates: inputs beside q, k, v and log_decay that have a gradient; own: axes of the operator by case
    """

    operator: Operator
    run: Callable[..., Any]
    oracle: Callable[..., Any]
    parallel: Callable[..., Any]
    gates: tuple[str, ...]
    own: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def gradients(self) -> set[str]:
        return {f"d{name}" for name in ("q", "k", "v", "log_decay", *self.gates)}

    def draw(self, T: int, **sizes: Any) -> Tensors:
        at = {"H": 1, "K": 16, "V": 20, "dtype": "fp32", **sizes}
        return draw_inputs(self.operator, self.operator.complete(Problem(T=T, **at)), seed=2)


KIMI = Rule(
    kimi.kimi_delta_attention,
    chunk_kimi_delta_attention,
    kimi.recurrence,
    naive_kimi,
    ("beta",),
    {"values": {"negative_eigenvalues": True}, "tail": {"l2norm": True}},
)
RWKV7 = Rule(rwkv7.rwkv7, chunk_rwkv7, rwkv7.recurrence, naive_rwkv7, ("a", "b"))


@contextmanager
def aimed(regime: str) -> Iterator[None]:
    """A GPU on which the cases run in a regime, segments as short as two chunks."""
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])), patch.object(plan, "MIN_CHUNKS", 2):
        yield


def checked(rule: Rule, name: str, pass_: str = "fwdbwd") -> None:
    """triton_chunk on a case: outputs, states and every gradient are the oracle's, the same in two calls."""
    regime, chunk, sizes = CASES[name]
    _matches(rule, regime, chunk, {**sizes, "pass_": pass_}, rule.own.get(name))


def large_heads_match(rule: Rule, regime: str, size: int) -> None:
    _matches(rule, regime, 64, {"T": 600, "H": 1, "K": size, "dtype": "fp16", **STATE})


def _matches(rule: Rule, regime: str, chunk: int, sizes: dict[str, Any], own: dict[str, Any] | None = None) -> None:
    problem = rule.operator.complete(Problem(**{"H": 2, "K": 32, "dtype": "fp32", "pass_": "fwdbwd", **sizes}), own)
    made = rule.operator.implementations["triton_chunk"]
    assert made.configuration is not None
    with aimed(regime):
        assert {each["regime"] for each in made.configuration(problem, {"chunk": chunk}).values()} == {regime}
        found = check_case(rule.operator, "triton_chunk", problem, {"chunk": chunk}, device="interpret")
    assert found.ok, found.reason
    assert found.repeatable
    backward = problem.pass_ != "fwd"
    names = {"o"} | (rule.gradients if backward else set())
    states = {"final_state"} | ({"dinitial_state"} if backward else set())
    assert set(found.errors) == names | (states if problem.initial_state else set())


def halves_match(rule: Rule, regime: str, T: int = 80, cut: int = 37) -> None:
    """Two calls with the state carried between them give what one call gives."""
    inputs = rule.draw(T)
    with aimed(regime):
        whole, end = rule.run(**inputs, output_final_state=True, chunk=16)
        first, state = rule.run(**{n: x[:, :cut] for n, x in inputs.items()}, output_final_state=True, chunk=16)
        second, last = rule.run(
            **{n: x[:, cut:] for n, x in inputs.items()}, initial_state=state, output_final_state=True, chunk=16
        )
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, end, rtol=1e-4, atol=1e-5)


def parallel_form_agrees(rule: Rule) -> None:
    """Gradients are those that autograd finds through the parallel form in float64."""
    agree(rule, rule.draw(40, HV=2), 16, 1e-5, against=rule.parallel)


def extreme_gates_match(rule: Rule, gate: float, every: int) -> None:
    """A gate of one token in `every` that keeps everything or nothing: outputs and gradients, the gates' included."""
    inputs = rule.draw(50)
    inputs["log_decay"][:, ::every, :, ::2] = gate
    expected = gradients(rule.oracle, {name: x.double() for name, x in inputs.items()})
    floor = 1e-4 * max(float(x.square().mean().sqrt()) for x in expected.values())
    with aimed("on-chip"):
        found = gradients(rule.run, inputs, chunk=32)
        found["o alone"], expected["o alone"] = rule.run(**inputs, chunk=32)[0], expected["o"]
    for name, ours in found.items():
        assert difference(ours, expected[name], 1, floor).error < 1e-4, name


def agree(
    rule: Rule,
    inputs: Tensors,
    chunk: int,
    limit: float,
    names: tuple[str, ...] = (),
    against: Callable[..., Any] | None = None,
) -> None:
    """The output and all gradients, or `names` of them, are the oracle's or another form's in float64."""
    with aimed("on-chip"):
        found = gradients(rule.run, inputs, chunk=chunk)
    expected = gradients(against or rule.oracle, {name: x.double() for name, x in inputs.items()})
    for name in names or found:
        assert difference(found[name], expected[name], 1).error < limit, name


def gradients(run: Callable[..., Any], inputs: Tensors, **options: Any) -> Tensors:
    """The output and the gradient of a weighted sum of it for every input."""
    leaves = {name: x.clone().requires_grad_() for name, x in inputs.items()}
    o, _ = run(**leaves, **options)
    weight = torch.linspace(-1, 1, o.numel(), dtype=o.dtype).reshape(o.shape)
    found = torch.autograd.grad((o * weight).sum(), list(leaves.values()))
    return {"o": o.detach()} | dict(zip(leaves, found, strict=True))


def stepped(rule: Rule, sizes: dict[str, Any], own: dict[str, Any] | None = None) -> None:
    """triton_step gives the oracle's output and state."""
    given = {"T": 100, "H": 2, "K": 32, "dtype": "fp32", "pass_": "decode", **sizes}
    problem = rule.operator.complete(Problem(**given), own)
    found = check_case(rule.operator, "triton_step", problem, device="interpret")
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


def steps_continue(rule: Rule, step: Callable[..., Any], T: int = 40, before: int = 37) -> None:
    """Steps from the state that a chunked pass leaves give what a longer pass gives."""
    inputs = rule.draw(T, B=2, HV=2, V=16)
    with aim("sm_90"):
        whole, _ = rule.run(**inputs, chunk=16)
        _, state = rule.run(**{n: x[:, :before] for n, x in inputs.items()}, output_final_state=True, chunk=16)
        for t in range(before, T):
            o = step(**{name: x[:, t : t + 1] for name, x in inputs.items()}, state=state)
            torch.testing.assert_close(o, whole[:, t : t + 1], rtol=1e-4, atol=1e-5)
