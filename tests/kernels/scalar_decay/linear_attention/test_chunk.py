"""triton_chunk against the oracle, in Triton's interpreter: forward, every gradient, states, both regimes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.feature_maps.registry import map_named
from kernels.scalar_decay.linear_attention.chunk import FUSED, FUSED_FORWARD, chunk_linear_attention
from kernels.scalar_decay.linear_attention.spec import linear_attention, recurrence
from suite import Problem
from suite.checks.checker import Check, check_case
from suite.numerics import difference
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.regimes import SMS
from tests.parameters import with_long

pytestmark = pytest.mark.interpret

POSITIVE = {"feature_map": "elu1", "normalised": True}
GQA = {"H": 4, "HK": 2, "HV": 2}
VALUE_HEADS = {"H": 1, "HV": 3}
STATE = {"initial_state": True}
PACKED = {"layout": "packed:ragged", **STATE}
FULL = {"causal": False}
SOFTMAX, FAVOR, TAYLOR = ({"feature_map": name, "normalised": True} for name in ("softmax", "favor", "taylor"))

# regime, chunk, the operator's axes, sizes. Between them, every pair of regime and feature occurs.
CASES: dict[str, tuple[str, int, dict[str, Any], dict[str, Any]]] = {
    "one_token": ("on-chip", 16, {}, {"T": 1}),
    "one_token_normalised": ("on-chip", 16, POSITIVE, {"T": 1, **STATE}),
    "tail": ("on-chip", 32, {}, {"T": 63, **STATE, "K": 16, "V": 48}),
    "tail_normalised": ("on-chip", 32, POSITIVE, {"T": 130, **STATE, "B": 2}),
    "identity_normalised": ("on-chip", 16, {"normalised": True}, {"T": 63, **GQA}),
    "relu": ("on-chip", 16, {"feature_map": "relu"}, {"T": 40, "K": 60, "V": 100, **VALUE_HEADS}),
    "elu1": ("on-chip", 32, {"feature_map": "elu1"}, {"T": 50, "K": 100, "V": 60, "H": 1, **STATE}),
    # fp32 takes at most 32 tokens at a time, so long chunks are fp16's.
    "wide_chunk": ("on-chip", 128, POSITIVE, {"T": 150, "H": 1, "dtype": "fp16"}),
    "default_chunk": ("on-chip", 64, {}, {"T": 130, "K": 128, "V": 128, "H": 1, "dtype": "fp16", **STATE}),
    "beyond": ("on-chip", 128, {}, {"T": 20, "dtype": "fp16", **VALUE_HEADS}),
    "shortened": ("on-chip", 64, {}, {"T": 70, "H": 1}),
    "packed": ("on-chip", 16, {}, {"T": 150, **PACKED, **GQA}),
    "packed_normalised": ("on-chip", 16, POSITIVE, {"T": 120, **PACKED, "K": 20}),
    "half": ("on-chip", 32, {}, {"T": 70, "dtype": "fp16", **STATE}),
    "half_normalised": ("on-chip", 32, POSITIVE, {"T": 70, "dtype": "fp16", **STATE, **GQA}),
    "half_state": ("on-chip", 16, {}, {"T": 40, "dtype": "fp16", "state_dtype": "fp16", **STATE}),
    "segments": ("segments", 16, {}, {"T": 140, **STATE}),
    "segments_normalised": ("segments", 16, POSITIVE, {"T": 100, **STATE, "B": 2, "H": 1}),
    "segments_no_state": ("segments", 16, {"normalised": True}, {"T": 130, "H": 1, "HV": 2}),
    "segments_odd": ("segments", 16, {"feature_map": "elu1"}, {"T": 70, "K": 60, "V": 100, "H": 1, **STATE}),
    "segments_relu": ("segments", 16, {"feature_map": "relu"}, {"T": 100, "H": 2, "HK": 1, "HV": 1}),
    "segments_packed": ("segments", 16, {}, {"T": 200, **PACKED, "H": 1}),
    "segments_packed_normalised": ("segments", 16, POSITIVE, {"T": 200, **PACKED, "H": 1, "K": 16}),
    # Sequences of one length that is no multiple of a segment: their last states lie beyond N x segments slots.
    "segments_even": ("segments", 16, {}, {"T": 600, "layout": "packed:even8", "H": 1, "K": 16, **STATE}),
    "segments_half": ("segments", 32, POSITIVE, {"T": 150, "dtype": "fp16", "H": 1, **STATE}),
    # Without causality.
    "full": ("on-chip", 32, FULL, {"T": 63, "B": 2, "K": 60, "V": 100, "H": 1}),
    "full_one_token": ("on-chip", 16, FULL, {"T": 1}),
    "full_normalised": ("on-chip", 16, {**POSITIVE, **FULL}, {"T": 70, "HV": 4, "K": 20}),
    "full_half": ("on-chip", 64, {**POSITIVE, **FULL}, {"T": 100, "H": 1, "dtype": "fp16"}),
    "full_packed": ("on-chip", 16, {"feature_map": "relu", **FULL}, {"T": 90, "layout": "packed:ragged", "H": 1}),
    "full_segments": ("segments", 16, FULL, {"T": 125, "H": 2, "HK": 1, "HV": 1, "K": 16}),
    "full_segments_normalised": ("segments", 16, {**POSITIVE, **FULL}, {"T": 127, "H": 1, "V": 20}),
    "full_segments_packed": (
        "segments",
        16,
        {"feature_map": "relu", **FULL},
        {"T": 200, "layout": "packed:halves", "H": 1, "K": 16},
    ),
    # Features in memory.
    "softmax": ("on-chip", 16, SOFTMAX, {"T": 40, "K": 60, "V": 30, **STATE, "H": 1}),
    "softmax_half": ("segments", 16, {"feature_map": "softmax"}, {"T": 90, **GQA, "dtype": "fp16"}),
    "favor": ("on-chip", 32, {**FAVOR, "features": 64}, {"T": 63, "K": 20, "H": 1, **STATE}),
    "favor_full_half": ("segments", 16, {**FAVOR, **FULL}, {"T": 128, "K": 64, "HV": 4, "dtype": "fp16"}),
    "taylor": ("on-chip", 32, TAYLOR, {"T": 40, "K": 8, "H": 1, **STATE}),
    "hedgehog": ("on-chip", 16, {"feature_map": "hedgehog", **FULL}, {"T": 33, "K": 12, "H": 1}),
    # More segments than the combine kernel loads at once.
    "segments_many": ("segments", 16, {}, {"T": 600, "H": 1, "K": 16, "V": 16, **STATE}),
}


def problem(own: dict[str, Any], sizes: dict[str, Any]) -> Problem:
    defaults = {"H": 2, "K": 32, "V": 32, "dtype": "fp32", "pass_": "fwdbwd"}
    return linear_attention.complete(Problem(**{**defaults, **sizes}), own)


def check(regime: str, chunk: int, own: dict[str, Any], sizes: dict[str, Any]) -> Check:
    case = problem(own, sizes)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        configuration = linear_attention.implementations["triton_chunk"].configuration
        assert configuration is not None
        chosen = configuration(case, {"chunk": chunk})
        assert {each["regime"] for each in chosen.values() if "regime" in each} == {regime}
        return check_case(linear_attention, "triton_chunk", case, {"chunk": chunk}, device="interpret")


@pytest.mark.parametrize(
    "name",
    with_long(
        CASES,
        "segments_many",
        "segments_even",
        "segments_normalised",
        "segments_odd",
        "packed_normalised",
        "segments_no_state",
        "full_segments_packed",
        "softmax_half",
        "segments",
        "half_normalised",
        "full_normalised",
    ),
)
def test_outputs_states_and_gradients(name: str) -> None:
    found = check(*CASES[name])
    assert found.ok, found.reason
    assert {"o", "dq", "dk", "dv"} <= set(found.errors)
    assert found.repeatable


# Where nothing is differentiated, softmax is made on chip: another path than the cases above take.
FORWARD: dict[str, tuple[str, int, dict[str, Any], dict[str, Any]]] = {
    "softmax": ("on-chip", 16, SOFTMAX, {"T": 63, "K": 60, "V": 100, "B": 2, "H": 1}),
    "softmax_segments": ("segments", 16, {"feature_map": "softmax"}, {"T": 150, **STATE, "K": 20, **GQA}),
    "softmax_full_packed": ("segments", 16, {**SOFTMAX, **FULL}, {"T": 150, "layout": "packed:ragged", "H": 1}),
    "softmax_half": ("on-chip", 32, {**SOFTMAX, **FULL}, {"T": 70, "dtype": "fp16", "HV": 4}),
    "favor_packed": ("on-chip", 32, {**FAVOR, "features": 16}, {"T": 90, **PACKED, "H": 1}),
}


@pytest.mark.parametrize("name", FORWARD)
def test_outputs_alone(name: str) -> None:
    regime, chunk, own, sizes = FORWARD[name]
    found = check(regime, chunk, own, {**sizes, "pass_": "fwd"})
    assert found.ok, found.reason


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize("own", [{}, POSITIVE], ids=["plain", "normalised"])
def test_large_heads(regime: str, size: int, own: dict[str, Any]) -> None:
    found = check(regime, 64, own, {"T": 500, "H": 1, "K": size, "V": size, "dtype": "fp16", **STATE})
    assert found.ok, found.reason


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("regime", SMS)
def test_two_halves_with_the_carried_state_are_the_whole(regime: str, normalised: bool) -> None:
    q, k, v = draw(1, 150, 2, 32), draw(1, 150, 2, 32) + 0.1, draw(1, 150, 2, 20)
    options = {"feature_map": "elu1", "normalised": normalised, "output_final_state": True, "chunk": 16}
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        whole, end = chunk_linear_attention(q, k, v, **options)
        first, state = chunk_linear_attention(q[:, :70], k[:, :70], v[:, :70], **options)
        second, last = chunk_linear_attention(q[:, 70:], k[:, 70:], v[:, 70:], initial_state=state, **options)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last, end, rtol=1e-4, atol=1e-4)


def quadratic(inputs: list[torch.Tensor], feature_map: str, normalised: bool) -> torch.Tensor:
    """The T x T form, which shares nothing with the recurrence or the chunks."""
    q, k, v = inputs
    phi = map_named(feature_map)
    scores = torch.einsum("bihk,bjhk->bhij", phi(q), phi(k)).tril() * q.shape[-1] ** -0.5
    o = torch.einsum("bhij,bjhv->bihv", scores, v)
    return o / (scores.sum(-1).transpose(1, 2)[..., None] + 1e-6) if normalised else o


@pytest.mark.parametrize(("feature_map", "normalised"), [("identity", False), ("relu", False), ("elu1", True)])
def test_gradients_are_those_of_the_quadratic_form(feature_map: str, normalised: bool) -> None:
    exact = [draw(2, 50, 2, d, dtype=torch.float64).requires_grad_() for d in (32, 32, 48)]
    exact[1].data += 0.3
    single = [x.detach().float().requires_grad_() for x in exact]
    with aim("sm_90"):
        o, _ = chunk_linear_attention(*single, feature_map=feature_map, normalised=normalised, chunk=16)
        expected = quadratic(exact, feature_map, normalised)
        weight = draw(*o.shape)
        found = torch.autograd.grad((o * weight).sum(), single)
    for name, ours, oracle in zip("qkv", found, torch.autograd.grad((expected * weight).sum(), exact), strict=True):
        assert difference(ours, oracle, 1).error < 1e-5, name


@pytest.mark.parametrize("used", ["o", "S", "z"])
def test_gradient_of_one_output_alone(used: str) -> None:
    def gradients(run, dtype: torch.dtype) -> list[torch.Tensor]:
        leaves = [draw(1, 40, 2, 16, dtype=dtype) for _ in range(3)]
        leaves += [draw(1, 2, 16, 16, dtype=dtype), draw(1, 2, 16, dtype=dtype).abs() + 1]
        q, k, v, S, z = (x.requires_grad_() for x in leaves)
        o, end = run(q, k, v, feature_map="elu1", normalised=True, initial_state=(S, z), output_final_state=True)
        loss = {"o": o, "S": end[0], "z": end[1]}[used].square().sum()
        found = torch.autograd.grad(loss, [q, k, v, S, z], allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for g, x in zip(found, (q, k, v, S, z), strict=True)]

    with aim("sm_90"):
        ours = gradients(lambda *a, **w: chunk_linear_attention(*a, chunk=16, **w), torch.float32)
    for name, out, oracle in zip(("q", "k", "v", "S", "z"), ours, gradients(recurrence, torch.float64), strict=True):
        assert difference(out, oracle).error < 1e-4, name


@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("used", ["o", "S"])
def test_half_precision_holds_the_range_of_a_long_context(regime: str, used: str) -> None:
    """States above fp16's largest number, and denominators whose inverses it holds with 4 bits."""
    q, k, v = (draw(1, 80, 1, 32, dtype=torch.float16) for _ in range(3))
    S, z = draw(1, 1, 32, 32) * 1e5, torch.full((1, 1, 32), 2e5)
    weight = draw(1, 80, 1, 32, dtype=torch.float16) * 100

    def run(function, dtype: torch.dtype, state_dtype: torch.dtype) -> tuple[torch.Tensor, ...]:
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in (q, k, v)]
        state = (S.to(state_dtype, copy=True).requires_grad_(), z.to(state_dtype))
        o, end = function(*leaves, feature_map="elu1", normalised=True, initial_state=state, output_final_state=True)
        loss = (o * weight.to(dtype)).sum() if used == "o" else end[0].sum() + 0 * o.sum()
        return o, *torch.autograd.grad(loss, [*leaves, state[0]])

    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        found = run(lambda *a, **w: chunk_linear_attention(*a, chunk=16, **w), torch.float16, torch.float32)
    expected = run(recurrence, torch.float64, torch.float64)
    for name, out, oracle in zip(("o", "dq", "dk", "dv", "dS"), found, expected, strict=True):
        assert difference(out, oracle).error < 3e-3, name


def test_views_are_served_as_they_are() -> None:
    packed = draw(1, 50, 2, 96)
    parts = packed.split(32, dim=-1)
    with aim("sm_90"):
        o, _ = chunk_linear_attention(*parts, chunk=16)
        expected, _ = chunk_linear_attention(*(x.contiguous() for x in parts), chunk=16)
    assert torch.equal(o, expected)


@pytest.mark.parametrize("feature_map", [*FUSED, *FUSED_FORWARD])
def test_nan_is_not_hidden_by_a_feature_map(feature_map: str) -> None:
    q, k, v = (draw(1, 20, 1, 16) for _ in range(3))
    k[0, 7, 0, 3] = torch.nan
    with aim("sm_90"):
        o, _ = chunk_linear_attention(q, k, v, feature_map=feature_map, chunk=16)
    assert torch.isfinite(o[:, :7]).all()
    assert torch.isnan(o[:, 7:]).all()
