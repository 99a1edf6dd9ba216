"""triton_chunk of SSD against the oracle, in Triton's interpreter: forward, every gradient, states, both regimes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from baselines.scalar_decay.ssd.pytorch import naive
from kernels.scalar_decay.ssd.chunk import chunk_ssd
from kernels.scalar_decay.ssd.spec import recurrence, ssd
from suite import Problem
from suite.checks.checker import Check, check_case
from suite.checks.inputs import draw_inputs
from suite.numerics import LIMITS, difference
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.regimes import SMS
from tests.parameters import with_long

pytestmark = pytest.mark.interpret

ALL = {"skip": True, "gated": True}
STATE = {"initial_state": True}
PACKED = {"layout": "packed:ragged", **STATE}

# regime, chunk, the operator's axes, sizes. Between them, every pair of regime and feature occurs.
CASES: dict[str, tuple[str, int, dict[str, Any], dict[str, Any]]] = {
    "one_token": ("on-chip", 16, ALL, {"T": 1, **STATE}),
    "tail": ("on-chip", 32, {}, {"T": 63, "B": 2}),
    "skip": ("on-chip", 16, {"skip": True}, {"T": 40, "K": 16, "V": 48, **STATE}),
    "odd": ("on-chip", 16, ALL, {"T": 20, "K": 60, "V": 100, "H": 1, "HV": 2}),
    "value_heads": ("on-chip", 16, {}, {"T": 40, "H": 1, "HV": 4, **STATE}),
    "slices": ("on-chip", 16, {}, {"T": 20, "K": 128, "V": 20, "H": 1, **STATE}),
    "packed": ("on-chip", 16, ALL, {"T": 70, "H": 1, **PACKED}),
    "half": ("on-chip", 64, {"gated": True}, {"T": 100, "K": 64, "H": 1, "dtype": "fp16", **STATE}),
    "wide_chunk": ("on-chip", 256, {}, {"T": 150, "H": 1, "dtype": "fp16"}),
    "segments": ("segments", 16, ALL, {"T": 140, "H": 1, **STATE}),
    "segments_value_heads": ("segments", 16, {}, {"T": 100, "H": 1, "HV": 2, "K": 48, "V": 16}),
    "segments_packed": ("segments", 16, ALL, {"T": 200, "H": 1, "K": 16, **PACKED}),
    "segments_half": ("segments", 16, {}, {"T": 100, "H": 1, "dtype": "fp16", **STATE}),
    # More segments than a program joins by itself.
    "segments_many": ("segments", 16, {}, {"T": 1100, "H": 1, "K": 16, "V": 16, **STATE}),
}


def check(regime: str, chunk: int, own: dict[str, Any], sizes: dict[str, Any], seed: int = 0) -> Check:
    case = ssd.complete(Problem(**{"H": 2, "K": 32, "V": 32, "dtype": "fp32", "pass_": "fwdbwd", **sizes}), own)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        return check_case(ssd, "triton_chunk", case, {"chunk": chunk}, device="interpret", seed=seed)


@pytest.mark.parametrize(
    "name", with_long(CASES, "segments_many", "segments", "packed", "tail", "segments_half", "value_heads")
)
def test_outputs_states_and_gradients(name: str) -> None:
    found = check(*CASES[name])
    assert found.ok, found.reason
    own = CASES[name][2]
    assert {"o", "dq", "dk", "dv", "ddt", "dA"} <= set(found.errors)
    assert ("dD" in found.errors, "dz" in found.errors) == (bool(own.get("skip")), bool(own.get("gated")))
    assert found.repeatable


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_large_heads(regime: str, size: int) -> None:
    # Two heads: dA of one is a single sum over all tokens, which may cancel to nothing, and then shows rounding alone.
    found = check(regime, 64, ALL, {"T": 500, "H": 1, "HV": 2, "K": size, "V": size, "dtype": "fp16", **STATE})
    assert found.ok, found.reason


@pytest.mark.parametrize("regime", SMS)
def test_gradients_are_those_of_the_quadratic_form(regime: str) -> None:
    """In float64, by autograd through the T x T form, which shares nothing with the recurrence or the chunks."""
    at = ssd.complete(Problem(T=70, H=1, HV=2, K=16, V=20, dtype="fp32", pass_="bwd"), ALL)
    inputs = draw_inputs(ssd, at, 3)
    exact = {name: x.detach().double().requires_grad_() for name, x in inputs.items()}
    weight = torch.randn(1, 70, 2, 20, generator=torch.Generator().manual_seed(0))
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        found = torch.autograd.grad((chunk_ssd(**inputs, chunk=16)[0] * weight).sum(), list(inputs.values()))
    expected = torch.autograd.grad((naive(**exact)[0] * weight).sum(), list(exact.values()))
    for name, ours, oracle in zip(inputs, found, expected, strict=True):
        assert difference(ours, oracle).error < 2e-5, name


def gradients(function, inputs: dict[str, torch.Tensor], **options: Any) -> dict[str, torch.Tensor]:
    leaves = {name: x.detach().clone().requires_grad_() for name, x in inputs.items()}
    o, end = function(**leaves, output_final_state=True, **options)
    grads = torch.autograd.grad(o.square().sum() + end.sin().sum(), list(leaves.values()))
    return {"o": o, "end": end} | dict(zip(leaves, grads, strict=True))


EXTREMES = {
    "never": lambda dt, A: (dt, A * 0),
    "at_once": lambda dt, A: (dt + 1, A * 0 - 20),
    "far_below": lambda dt, A: (torch.where(dt > dt.median(), dt, 1.0), A * 0 - 1e5),
    "no_step": lambda dt, A: (torch.where(dt > dt.median(), dt, 0.0), A),
}


@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_gates(regime: str, name: str) -> None:
    at = ssd.complete(Problem(T=70, H=1, K=16, V=16, dtype="fp32", initial_state=True))
    inputs = draw_inputs(ssd, at, 0)
    inputs["dt"], inputs["A"] = EXTREMES[name](inputs["dt"], inputs["A"])
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        found = gradients(chunk_ssd, inputs, chunk=16)
    expected = gradients(recurrence, {name: x.double() for name, x in inputs.items()})
    for part, right in expected.items():
        # Where all is forgotten at once, hardly a gradient of A is left: it counts against those of dt.
        floor = expected["dt"].square().mean().sqrt().item() if part == "A" else 1e-6
        assert difference(found[part], right, floor=floor).error < 1e-4, part


# Step sizes of every fourth token; 1e-40 is denormal.
STEPS = (0.0, 1e-40, 1e-12, 1e-8, 1e-6, 1e-4, 1.0)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("regime", SMS)
def test_gradients_of_step_sizes_however_small_in_half_precision(regime: str, step: float) -> None:
    at = ssd.complete(Problem(T=40, H=1, K=16, V=16, dtype="fp16", initial_state=True))
    inputs = draw_inputs(ssd, at, 0)
    inputs["dt"][:, 1::4] = step
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        found = gradients(chunk_ssd, inputs, chunk=16)
    expected = gradients(recurrence, {name: x.double() for name, x in inputs.items()})
    for part, right in expected.items():
        off = difference(found[part], right, 1 if part == "dt" else None)
        assert not off.exceeds(LIMITS["float16"]), off.describe(part, LIMITS["float16"])


def test_sums_over_a_long_sequence_keep_their_digits() -> None:
    """The gradient of A adds up differences over all tokens: it shows what is rounded differently in two sweeps."""
    found = check("on-chip", 64, {}, {"T": 700, "H": 1, "K": 32, "V": 16, "dtype": "fp16", **STATE})
    assert found.ok, found.reason
    # Rounded differently, it errs by ten times as much as the other gradients.
    assert found.errors["dA"] < 1e-3


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
def test_long_memory(regime: str) -> None:
    """A decay near 1 over 2000 tokens."""
    at = ssd.complete(Problem(T=2000, H=1, K=16, V=16, dtype="fp32", initial_state=True))
    inputs = draw_inputs(ssd, at, 0)
    inputs["A"] = inputs["A"] * 1e-5
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        found = gradients(chunk_ssd, inputs, chunk=64)
    expected = gradients(recurrence, {name: x.double() for name, x in inputs.items()})
    for part, right in expected.items():
        assert difference(found[part], right).error < 1e-4, part


@pytest.mark.parametrize("regime", SMS)
def test_two_halves_with_the_carried_state_are_the_whole(regime: str) -> None:
    inputs = draw_inputs(ssd, ssd.complete(Problem(T=150, H=1, K=32, V=20, dtype="fp32"), ALL), 0)

    def run(first: int, end: int, state=None):
        part = {name: x[:, first:end] if x.ndim > 1 else x for name, x in inputs.items()}
        return chunk_ssd(**part, initial_state=state, output_final_state=True, chunk=16)

    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        whole, end = run(0, 150)
        first, state = run(0, 70)
        second, last = run(70, 150, state)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, end, rtol=1e-4, atol=1e-5)
