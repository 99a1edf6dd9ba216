"""triton_chunk of Kimi Delta Attention in Triton's interpreter: outputs, every gradient, states, both regimes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from baselines.kimi_delta_attention.pytorch import naive
from kernels.kimi_delta_attention.chunk import chunk_kimi_delta_attention
from kernels.kimi_delta_attention.spec import kimi_delta_attention, recurrence
from suite import Problem
from suite.inputs import draw_inputs
from suite.numerics import difference
from tests.kernels.channel_delta.cases import CASES, FORWARD, NAMES, SMS, aimed, checked, gradients, halves_agree

pytestmark = pytest.mark.interpret

OWN: dict[str, dict[str, Any]] = {"values": {"negative_eigenvalues": True}, "tail": {"l2norm": True}}
WHOLE = {"o", "dq", "dk", "dv", "dlog_decay", "dbeta"}


@pytest.mark.parametrize("name", NAMES)
def test_outputs_states_and_gradients(name: str) -> None:
    found = checked(kimi_delta_attention, name, OWN.get(name))
    assert found.ok, found.reason
    assert set(found.errors) >= WHOLE
    assert ("dinitial_state" in found.errors) == bool(CASES[name][2].get("initial_state"))
    assert found.repeatable


@pytest.mark.parametrize("name", FORWARD)
def test_forward_alone(name: str) -> None:
    found = checked(kimi_delta_attention, name, OWN.get(name), pass_="fwd")
    assert found.ok, found.reason
    assert ("final_state" in found.errors) == bool(CASES[name][2].get("initial_state"))
    assert found.repeatable


def test_norms_are_taken_in_the_kernel() -> None:
    """Of rows that are far from normalised: in both kernels of the forward pass, where none follows."""
    inputs = draw(40)
    inputs["q"], inputs["k"] = inputs["q"] * 3.0, inputs["k"] * torch.linspace(0.2, 5.0, 40)[:, None, None]
    expected, _ = recurrence(*(x.double() for x in inputs.values()), l2norm=True)
    for regime in SMS:
        with aimed(regime):
            o, _ = chunk_kimi_delta_attention(**inputs, l2norm=True, chunk=16)
        assert difference(o, expected, 1).error < 1e-5, regime


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_large_heads(regime: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CASES, "large", (regime, 64, {"T": 600, "H": 1, "K": size, "dtype": "fp16"}))
    found = checked(kimi_delta_attention, "large", initial_state=True)
    assert found.ok, found.reason


def draw(T: int, **sizes: Any) -> dict[str, torch.Tensor]:
    at = {"H": 1, "K": 16, "V": 20, "dtype": "fp32", **sizes}
    return draw_inputs(kimi_delta_attention, kimi_delta_attention.complete(Problem(T=T, **at)), seed=2)


@pytest.mark.parametrize("regime", SMS)
def test_two_halves_with_the_carried_state_are_the_whole(regime: str) -> None:
    halves_agree(chunk_kimi_delta_attention, draw(80), 37, regime)


def test_gradients_are_those_of_the_parallel_form() -> None:
    inputs = draw(40, HV=2)
    with aimed("on-chip"):
        found = gradients(chunk_kimi_delta_attention, inputs, chunk=16)
    expected = gradients(naive, {name: x.double() for name, x in inputs.items()})
    for name, ours in found.items():
        assert difference(ours, expected[name], 1).error < 1e-5, name


@pytest.mark.parametrize("gate", [0.0, -20.0, -1e4, float("-inf")])
@pytest.mark.parametrize("every", [1, 3], ids=["all", "mixed"])
def test_extreme_gates(gate: float, every: int) -> None:
    """A gate of one token, or of all, that keeps everything or nothing: outputs and gradients, the gates' included."""
    inputs = draw(50)
    inputs["log_decay"][:, ::every, :, ::2] = gate
    with aimed("on-chip"):
        found = gradients(chunk_kimi_delta_attention, inputs, chunk=32)
    expected = gradients(recurrence, {name: x.double() for name, x in inputs.items()})
    largest = max(float(x.square().mean().sqrt()) for x in expected.values())
    for name, ours in found.items():
        assert difference(ours, expected[name], 1, 1e-4 * largest).error < 1e-4, name
    with aimed("on-chip"):
        alone, _ = chunk_kimi_delta_attention(**inputs, chunk=32)
    assert difference(alone, expected["o"], 1, 1e-4 * largest).error < 1e-4


@pytest.mark.long
def test_long_memory() -> None:
    """Almost nothing decays over 2000 tokens: gates' gradients sum over all of them."""
    inputs = draw(2000, V=16)
    inputs["log_decay"].mul_(1e-4)
    with aimed("on-chip"):
        found = gradients(chunk_kimi_delta_attention, inputs, chunk=32)
    expected = gradients(recurrence, {name: x.double() for name, x in inputs.items()})
    for name, ours in found.items():
        assert difference(ours, expected[name], 1).error < 1e-4, name


def test_repeated_keys_stay_exact() -> None:
    """One key at every token: the inverse's powers would grow like binomial coefficients."""
    inputs = draw(64)
    inputs["k"][:] = inputs["k"][:, :1]
    inputs["beta"][:] = 1.0
    inputs["log_decay"].mul_(1e-3)
    with aimed("on-chip"):
        found = gradients(chunk_kimi_delta_attention, inputs, chunk=32)
    expected = gradients(recurrence, {name: x.double() for name, x in inputs.items()})
    for name in ("o", "q", "v"):
        assert difference(found[name], expected[name], 1).error < 1e-4, name


@pytest.mark.parametrize("used", ["o", "state"])
def test_gradient_of_one_output_alone(used: str) -> None:
    def found(run, dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [x.to(dtype).requires_grad_() for x in draw(40).values()]
        o, state = run(*inputs, output_final_state=True)
        return list(torch.autograd.grad((o if used == "o" else state).square().sum(), inputs, allow_unused=True))

    with aimed("on-chip"):
        ours = found(lambda *x, **w: chunk_kimi_delta_attention(*x, chunk=16, **w), torch.float32)
    for mine, oracle in zip(ours, found(recurrence, torch.float64), strict=True):
        expected = torch.zeros_like(mine) if oracle is None else oracle
        assert difference(mine, expected, 1).error < 1e-4


def test_a_nan_reaches_what_it_should() -> None:
    inputs = draw(40)
    inputs["k"][0, 20, 0, 3] = torch.nan
    with aimed("on-chip"):
        o, _ = chunk_kimi_delta_attention(**inputs, chunk=16)
    assert torch.isfinite(o[:, :16]).all()
    assert torch.isnan(o[:, 20:]).all()


def test_views_are_served_as_they_are() -> None:
    inputs = draw(30)
    views = {name: torch.cat([x, x], -1)[..., : x.shape[-1]] for name, x in inputs.items()}
    with aimed("on-chip"):
        o, _ = chunk_kimi_delta_attention(**inputs, chunk=16)
        assert torch.equal(o, chunk_kimi_delta_attention(**views, chunk=16)[0])
