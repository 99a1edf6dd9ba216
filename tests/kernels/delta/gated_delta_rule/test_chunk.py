"""triton_chunk of the gated delta rule against the oracle, in Triton's interpreter: all gradients, both regimes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from baselines.delta.pytorch import naive
from kernels.delta.gated_delta_rule.chunk import chunk_gated_delta_rule
from kernels.delta.gated_delta_rule.spec import gated_delta_rule, recurrence
from suite import Problem
from suite.checks.inputs import draw_inputs
from suite.numerics import difference
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.delta.cases import PACKED, SMS, STATE, Case, check
from tests.parameters import with_long

pytestmark = pytest.mark.interpret

NEGATIVE = {"negative_eigenvalues": True}
NORM = {"l2norm": True}
# Between them, every pair of regime and feature occurs.
CASES: dict[str, Case] = {
    "one_token": ("on-chip", 16, {}, {"T": 1, **STATE}),
    "tail": ("on-chip", 32, NEGATIVE, {"T": 63, **STATE, "V": 48}),
    "value_heads": ("on-chip", 32, {}, {"T": 40, "B": 2, "HV": 2, **STATE}),
    "odd": ("on-chip", 16, {}, {"T": 30, "K": 60, "V": 100}),
    "odd_norm": ("on-chip", 32, NORM, {"T": 30, "K": 100, "V": 60, "HV": 4}),
    "half": ("on-chip", 64, {}, {"T": 130, "K": 64, "V": 64, "dtype": "fp16", **STATE}),
    "half_norm": ("on-chip", 64, {**NORM, **NEGATIVE}, {"T": 70, "dtype": "fp16"}),
    "half_state": ("on-chip", 32, {}, {"T": 40, "dtype": "fp16", "state_dtype": "fp16", **STATE}),
    "packed": ("on-chip", 16, {}, {"T": 80, **PACKED}),
    "cut_keys": ("on-chip", 16, NORM, {"T": 20, "K": 160, "V": 16}),
    "segments": ("segments", 16, NEGATIVE, {"T": 258, **STATE, "K": 16, "V": 16}),
    "pairs": ("on-chip", 16, NORM, {"T": 112, "HV": 2, **STATE}),
    "more_value_heads": ("on-chip", 32, NORM, {"T": 70, "H": 2, "HV": 8}),
    "segments_two": ("segments", 16, NORM, {"T": 270, "layout": "packed:halves", "K": 16}),
    "segments_odd": ("segments", 16, {}, {"T": 270, "K": 60, "V": 20, **STATE}),
    "segments_packed": ("segments", 16, NORM, {"T": 320, **PACKED, "K": 16, "HV": 2}),
    "segments_half": ("segments", 32, {}, {"T": 520, "dtype": "fp16", **STATE}),
}
LONG = ("pairs", "more_value_heads", "segments_two", "segments_odd", "segments_packed", "segments_half", "odd", "tail")


@pytest.mark.parametrize("name", with_long(CASES, *LONG))
def test_outputs_states_and_gradients(name: str) -> None:
    check(gated_delta_rule, CASES[name])


@pytest.mark.long
def test_keys_that_value_heads_share_may_be_cut() -> None:
    """Blackwell has no room for whole rows of dq and dk that last through all value heads."""
    check(gated_delta_rule, CASES["odd_norm"], arch="sm_100")


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_large_heads(regime: str, size: int) -> None:
    check(gated_delta_rule, (regime, 64, {}, {"T": 1100, "K": size, "V": size, "dtype": "fp16", **STATE}))


def drawn(T: int, **sizes: Any) -> dict[str, torch.Tensor]:
    at = gated_delta_rule.complete(Problem(**{"T": T, "H": 1, "K": 32, "dtype": "fp32", **sizes}))
    return draw_inputs(gated_delta_rule, at, seed=3)


def gradients(run, inputs: dict[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """o and the gradients of sum(o^2) + sum(final state^2), by name."""
    leaves = {name: x.to(dtype, copy=True).requires_grad_() for name, x in inputs.items()}
    o, final = run(**leaves, output_final_state=True)
    found = torch.autograd.grad(o.square().sum() + final.square().sum(), list(leaves.values()))
    return {"o": o.detach()} | dict(zip(leaves, found, strict=True))


def assert_close(ours: dict[str, torch.Tensor], exact: dict[str, torch.Tensor], limit: float) -> None:
    for name, oracle in exact.items():
        found = difference(ours[name], oracle, 1)
        assert not found.exceeds(limit), (name, found)


def ours(**words: Any):
    with aim(replace(REPRESENTATIVES["sm_90"], sms=1)):
        return chunk_gated_delta_rule(**words, chunk=16)


def test_gradients_are_those_of_the_naive_form() -> None:
    """One T x T solve in float64 shares nothing with the recurrence or the chunks."""
    inputs = drawn(40, V=48, HV=2)
    assert_close(gradients(ours, inputs, torch.float32), gradients(naive, inputs, torch.float64), 1e-5)


@pytest.mark.parametrize("regime", ["on-chip", pytest.param("segments", marks=pytest.mark.long)])
def test_two_halves_with_the_carried_state_are_the_whole(regime: str) -> None:
    inputs = drawn(290 if regime == "segments" else 90)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        whole, end = chunk_gated_delta_rule(**inputs, output_final_state=True, chunk=16)
        first, state = chunk_gated_delta_rule(
            **{name: x[:, :41] for name, x in inputs.items()}, output_final_state=True, chunk=16
        )
        second, last = chunk_gated_delta_rule(
            **{name: x[:, 41:] for name, x in inputs.items()}, initial_state=state, output_final_state=True, chunk=16
        )
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, end, rtol=1e-4, atol=1e-5)


EXTREME = {
    "none": lambda g: torch.zeros_like(g),
    "zeros_between": lambda g: torch.where(torch.arange(g.shape[1])[None, :, None] % 7 == 3, -torch.inf, -0.01),
    "strong": lambda g: torch.full_like(g, -20.0),
    "beyond": lambda g: torch.where(torch.arange(g.shape[1])[None, :, None] % 5 == 0, -1e4, g),
}


@pytest.mark.parametrize("gate", EXTREME)
def test_extreme_gates(gate: str) -> None:
    inputs = drawn(40)
    inputs["log_decay"] = EXTREME[gate](inputs["log_decay"])
    inputs["initial_state"] = torch.randn(1, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    # The gradient of a gate of -20 is 2e-9 of the others: it has no digits in float32.
    exact, found = gradients(recurrence, inputs, torch.float64), gradients(ours, inputs, torch.float32)
    assert all(torch.isfinite(x).all() for x in found.values())
    if gate == "strong":
        assert exact.pop("log_decay").abs().max() < 1e-6
        assert found["log_decay"].abs().max() < 1e-4
    assert_close(found, exact, 1e-4)


def test_beta_of_exactly_0_writes_nothing_and_has_a_gradient() -> None:
    inputs = drawn(40)
    inputs["beta"][:, ::3] = 0.0
    found, exact = gradients(ours, inputs, torch.float32), gradients(recurrence, inputs, torch.float64)
    assert_close(found, exact, 1e-4)
    assert (found["beta"][:, ::3] != 0).any()


@pytest.mark.parametrize("used", ["o", "final"])
def test_gradient_of_one_output_alone(used: str) -> None:
    def alone(run, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in drawn(40).values()]
        o, final = run(**dict(zip(drawn(40), leaves, strict=True)), output_final_state=True)
        loss = (o if used == "o" else final).square().sum()
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for g, x in zip(found, leaves, strict=True)]

    for out, oracle in zip(alone(ours, torch.float32), alone(recurrence, torch.float64), strict=True):
        assert difference(out, oracle).error < 1e-4


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
def test_a_long_memory_stays_exact(regime: str) -> None:
    """Decays of nearly 1 over 2000 tokens: every token is still seen at the end."""
    inputs = drawn(2000, K=16)
    inputs["log_decay"] = torch.full_like(inputs["log_decay"], -1e-4)
    exact = gradients(recurrence, inputs, torch.float64)

    def run(**words: Any):
        with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
            return chunk_gated_delta_rule(**words, chunk=32)

    assert_close(gradients(run, inputs, torch.float32), exact, 1e-4)


def test_nan_is_not_hidden() -> None:
    inputs = drawn(40)
    for name in ("log_decay", "beta", "k"):
        bad = {key: x.clone() for key, x in inputs.items()}
        bad[name][0, 17] = torch.nan
        o, _ = ours(**bad)
        assert torch.isfinite(o[:, :16]).all(), name
        assert torch.isnan(o[:, 17:]).any(), name
