"""triton_chunk of Kimi Delta Attention in Triton's interpreter: outputs, every gradient, states, both regimes."""

from __future__ import annotations

import pytest
import torch

from kernels.channel_delta.kimi_delta_attention.chunk import chunk_kimi_delta_attention
from kernels.channel_delta.kimi_delta_attention.spec import recurrence
from suite.numerics import difference
from tests.kernels.channel_delta.cases import (
    FORWARD,
    KIMI,
    LARGE,
    NAMES,
    SMS,
    agree,
    aimed,
    checked,
    extreme_gates_match,
    gradients,
    halves_match,
    large_heads_match,
    parallel_form_agrees,
)

pytestmark = pytest.mark.interpret


@pytest.mark.parametrize("name", NAMES)
def test_outputs_states_and_gradients(name: str) -> None:
    checked(KIMI, name)


@pytest.mark.parametrize("name", FORWARD)
def test_forward_alone(name: str) -> None:
    checked(KIMI, name, "fwd")


@pytest.mark.parametrize("regime", SMS)
def test_norms_are_taken_in_the_kernel(regime: str) -> None:
    """Of rows that are far from normalised: in both kernels of a forward pass alone, and with gradients."""
    inputs = KIMI.draw(40, HV=2, K=40)
    inputs["q"], inputs["k"] = inputs["q"] * 3.0, inputs["k"] * torch.linspace(0.2, 5.0, 40)[:, None, None]
    expected = gradients(recurrence, {name: x.double() for name, x in inputs.items()}, l2norm=True)
    with aimed(regime):
        found = gradients(chunk_kimi_delta_attention, inputs, l2norm=True, chunk=16)
        found["o alone"] = chunk_kimi_delta_attention(**inputs, l2norm=True, chunk=16)[0]
    for name, ours in found.items():
        assert difference(ours, expected[name.removesuffix(" alone")], 1).error < 1e-5, name


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@LARGE
def test_large_heads(regime: str, size: int) -> None:
    large_heads_match(KIMI, regime, size)


@pytest.mark.parametrize("regime", SMS)
def test_two_halves_with_the_carried_state_are_the_whole(regime: str) -> None:
    halves_match(KIMI, regime)


def test_gradients_are_those_of_the_parallel_form() -> None:
    parallel_form_agrees(KIMI)


@pytest.mark.parametrize("gate", [0.0, -20.0, -1e4, float("-inf")])
@pytest.mark.parametrize("every", [1, 3], ids=["all", "mixed"])
def test_extreme_gates(gate: float, every: int) -> None:
    extreme_gates_match(KIMI, gate, every)


@pytest.mark.long
def test_long_memory() -> None:
    """Almost nothing decays over 2000 tokens: gates' gradients sum over all of them."""
    inputs = KIMI.draw(2000, V=16)
    inputs["log_decay"].mul_(1e-4)
    agree(KIMI, inputs, 32, 1e-4)


def test_repeated_keys_stay_exact() -> None:
    """One key at every token: the inverse's powers would grow like binomial coefficients."""
    inputs = KIMI.draw(64)
    inputs["k"][:] = inputs["k"][:, :1]
    inputs["beta"][:] = 1.0
    inputs["log_decay"].mul_(1e-3)
    agree(KIMI, inputs, 32, 1e-4, names=("o", "q", "v"))


@pytest.mark.parametrize("used", ["o", "state"])
def test_gradient_of_one_output_alone(used: str) -> None:
    def found(run, dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = [x.to(dtype).requires_grad_() for x in KIMI.draw(40).values()]
        o, state = run(*inputs, output_final_state=True)
        return list(torch.autograd.grad((o if used == "o" else state).square().sum(), inputs, allow_unused=True))

    with aimed("on-chip"):
        ours = found(lambda *x, **w: chunk_kimi_delta_attention(*x, chunk=16, **w), torch.float32)
    for mine, oracle in zip(ours, found(recurrence, torch.float64), strict=True):
        expected = torch.zeros_like(mine) if oracle is None else oracle
        assert difference(mine, expected, 1).error < 1e-4


def test_a_nan_reaches_what_it_should() -> None:
    inputs = KIMI.draw(40)
    inputs["k"][0, 20, 0, 3] = torch.nan
    with aimed("on-chip"):
        o, _ = chunk_kimi_delta_attention(**inputs, chunk=16)
    assert torch.isfinite(o[:, :16]).all()
    assert torch.isnan(o[:, 20:]).all()


def test_views_are_served_as_they_are() -> None:
    inputs = KIMI.draw(30)
    views = {name: torch.cat([x, x], -1)[..., : x.shape[-1]] for name, x in inputs.items()}
    with aimed("on-chip"):
        o, _ = chunk_kimi_delta_attention(**inputs, chunk=16)
        assert torch.equal(o, chunk_kimi_delta_attention(**views, chunk=16)[0])
