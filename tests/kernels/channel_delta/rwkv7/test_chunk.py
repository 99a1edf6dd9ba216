"""triton_chunk of RWKV-7 in Triton's interpreter: outputs, every gradient, states, both regimes."""

from __future__ import annotations

import pytest
import torch

from kernels.channel_delta.kimi_delta_attention.chunk import chunk_kimi_delta_attention
from kernels.channel_delta.rwkv7.chunk import chunk_rwkv7
from kernels.channel_delta.rwkv7.spec import recurrence
from suite.numerics import difference
from tests.kernels.channel_delta.cases import (
    FORWARD,
    LARGE,
    NAMES,
    RWKV7,
    SMS,
    aimed,
    checked,
    extreme_gates_match,
    halves_match,
    large_heads_match,
    parallel_form_agrees,
)

pytestmark = pytest.mark.interpret


@pytest.mark.parametrize("name", NAMES)
def test_outputs_states_and_gradients(name: str) -> None:
    checked(RWKV7, name)


@pytest.mark.parametrize("name", FORWARD)
def test_forward_alone(name: str) -> None:
    checked(RWKV7, name, "fwd")


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@LARGE
def test_large_heads(regime: str, size: int) -> None:
    large_heads_match(RWKV7, regime, size)


@pytest.mark.parametrize("regime", SMS)
def test_two_halves_with_the_carried_state_are_the_whole(regime: str) -> None:
    halves_match(RWKV7, regime)


def test_gradients_are_those_of_the_parallel_form() -> None:
    parallel_form_agrees(RWKV7)


@pytest.mark.parametrize(("gate", "every"), [(0.0, 1), (-20.0, 1), (-1e4, 3), (float("-inf"), 3)])
def test_extreme_gates(gate: float, every: int) -> None:
    extreme_gates_match(RWKV7, gate, every)


def test_scale_is_the_callers_and_1_by_default() -> None:
    inputs = RWKV7.draw(30)
    with aimed("on-chip"):
        plain, _ = chunk_rwkv7(**inputs, chunk=16)
        half, _ = chunk_rwkv7(**inputs, scale=0.5, chunk=16)
    torch.testing.assert_close(half, plain / 2)
    assert difference(plain, recurrence(*(x.double() for x in inputs.values()))[0], 1).error < 1e-5


def test_it_holds_kimi_delta_attention() -> None:
    """S = diag(a) S + b k (v - k^T diag(a) S)^T is this recurrence with a = -k e^g, b = beta k and values beta v."""
    inputs = RWKV7.draw(40)
    k = torch.nn.functional.normalize(inputs["k"], dim=-1)
    beta = torch.linspace(0.1, 1.0, 40).reshape(1, 40, 1)
    g = inputs["log_decay"]
    with aimed("on-chip"):
        expected, _ = chunk_kimi_delta_attention(inputs["q"], k, inputs["v"], g, beta, scale=1.0, chunk=16)
        found, _ = chunk_rwkv7(
            inputs["q"], k, inputs["v"] * beta[..., None], g, -k * g.exp(), k * beta[..., None], chunk=16
        )
    assert difference(found, expected.double(), 1).error < 1e-5
