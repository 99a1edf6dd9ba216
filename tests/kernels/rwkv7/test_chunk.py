"""triton_chunk of RWKV-7 in Triton's interpreter: outputs, every gradient, states, both regimes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from baselines.rwkv7.pytorch import naive
from kernels.kimi_delta_attention.chunk import chunk_kimi_delta_attention
from kernels.rwkv7.chunk import chunk_rwkv7
from kernels.rwkv7.spec import recurrence, rwkv7
from suite import Problem
from suite.inputs import draw_inputs
from suite.numerics import difference
from tests.kernels.channel_delta.cases import CASES, FORWARD, NAMES, SMS, aimed, checked, gradients, halves_agree

pytestmark = pytest.mark.interpret

WHOLE = {"o", "dq", "dk", "dv", "dlog_decay", "da", "db"}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_states_and_gradients(name: str) -> None:
    found = checked(rwkv7, name)
    assert found.ok, found.reason
    assert set(found.errors) >= WHOLE
    assert ("dinitial_state" in found.errors) == bool(CASES[name][2].get("initial_state"))
    assert found.repeatable


@pytest.mark.parametrize("name", FORWARD)
def test_forward_alone(name: str) -> None:
    found = checked(rwkv7, name, pass_="fwd")
    assert found.ok, found.reason
    assert ("final_state" in found.errors) == bool(CASES[name][2].get("initial_state"))
    assert found.repeatable


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_large_heads(regime: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "large", (regime, 64, {"T": 600, "H": 1, "K": size, "dtype": "fp16"}))
    found = checked(rwkv7, "large", initial_state=True)
    assert found.ok, found.reason


def draw(T: int, **sizes: Any) -> dict[str, torch.Tensor]:
    at = {"H": 1, "K": 16, "V": 20, "dtype": "fp32", **sizes}
    return draw_inputs(rwkv7, rwkv7.complete(Problem(T=T, **at)), seed=2)


@pytest.mark.parametrize("regime", SMS)
def test_two_halves_with_the_carried_state_are_the_whole(regime: str) -> None:
    halves_agree(chunk_rwkv7, draw(80), 37, regime)


def test_gradients_are_those_of_the_parallel_form() -> None:
    inputs = draw(40, HV=2)
    with aimed("on-chip"):
        found = gradients(chunk_rwkv7, inputs, chunk=16)
    expected = gradients(naive, {name: x.double() for name, x in inputs.items()})
    for name, ours in found.items():
        assert difference(ours, expected[name], 1).error < 1e-5, name


@pytest.mark.parametrize(("gate", "every"), [(0.0, 1), (-20.0, 1), (-1e4, 3), (float("-inf"), 3)])
def test_extreme_gates(gate: float, every: int) -> None:
    inputs = draw(50)
    inputs["log_decay"][:, ::every, :, ::2] = gate
    with aimed("on-chip"):
        found = gradients(chunk_rwkv7, inputs, chunk=32)
    expected = gradients(recurrence, {name: x.double() for name, x in inputs.items()})
    largest = max(float(x.square().mean().sqrt()) for x in expected.values())
    for name, ours in found.items():
        assert difference(ours, expected[name], 1, 1e-4 * largest).error < 1e-4, name
    with aimed("on-chip"):
        alone, _ = chunk_rwkv7(**inputs, chunk=32)
    assert difference(alone, expected["o"], 1, 1e-4 * largest).error < 1e-4


def test_scale_is_the_callers_and_1_by_default() -> None:
    inputs = draw(30)
    with aimed("on-chip"):
        plain, _ = chunk_rwkv7(**inputs, chunk=16)
        half, _ = chunk_rwkv7(**inputs, scale=0.5, chunk=16)
    torch.testing.assert_close(half, plain / 2)
    assert difference(plain, recurrence(*(x.double() for x in inputs.values()))[0], 1).error < 1e-5


def test_it_holds_kimi_delta_attention() -> None:
    """S = diag(a) S + b k (v - k^T diag(a) S)^T is this recurrence with a = -k e^g, b = beta k and values beta v."""
    inputs = draw(40)
    k = torch.nn.functional.normalize(inputs["k"], dim=-1)
    beta = torch.linspace(0.1, 1.0, 40).reshape(1, 40, 1)
    g = inputs["log_decay"]
    with aimed("on-chip"):
        expected, _ = chunk_kimi_delta_attention(inputs["q"], k, inputs["v"], g, beta, scale=1.0, chunk=16)
        found, _ = chunk_rwkv7(
            inputs["q"], k, inputs["v"] * beta[..., None], g, -k * g.exp(), k * beta[..., None], chunk=16
        )
    assert difference(found, expected.double(), 1).error < 1e-5
