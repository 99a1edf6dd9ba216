"""triton_chunk and triton_step of s4d against the oracle, in Triton's interpreter, and their host code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.scan.s4d.chunk import chunk_s4d, configuration, search
from kernels.scan.s4d.decode import step_s4d
from kernels.scan.s4d.plan import CHUNKS
from kernels.scan.s4d.spec import recurrence, s4d, taps
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.errors import UsageError
from suite.numerics import difference
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.scan.cases import SMS, STATE, checked, short_segments, stepped
from tests.parameters import with_long

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "one_token": ("on-chip", {"T": 1, "B": 2, **STATE}),
    "tail": ("on-chip", {"T": 43, **STATE}),
    "odd": ("on-chip", {"T": 10, "K": 60, "H": 2, "V": 3, "dtype": "fp16", **STATE}),
    "no_state": ("on-chip", {"T": 64, "K": 100, "V": 1}),
    "packed": ("on-chip", {"T": 22, "V": 2, "layout": "packed:halves", **STATE}),
    "segments": ("segments", {"T": 75, "V": 2, **STATE}),
    "segments_no_state": ("segments", {"T": 64, "V": 1}),
    "segments_packed": ("segments", {"T": 90, "V": 1, "layout": "packed:ragged", **STATE}),
}


segments_of_32_tokens = short_segments("kernels.scan.s4d.plan.LEAST")


def problem(**sizes: Any) -> Problem:
    return s4d.complete(Problem(**{"H": 1, "K": 6, "V": 4, "dtype": "fp32", "pass_": "fwdbwd", **sizes}))


@pytest.mark.interpret
@pytest.mark.parametrize("name", with_long(CASES, "segments", "odd", "segments_no_state", "tail", "no_state"))
def test_outputs_states_and_gradients(name: str) -> None:
    regime, sizes = CASES[name]
    checked(s4d, problem(**sizes), regime, {"o", "du", "dlog_dt", "dA_real", "dA_imag", "dC", "dD"})


@pytest.mark.interpret
def test_step() -> None:
    stepped(s4d, problem(B=2, K=20, V=100, pass_="decode"))


@pytest.mark.interpret
def test_two_halves_with_the_carried_state_are_the_whole() -> None:
    inputs = draw_inputs(s4d, problem(T=50, pass_="fwd"), 0)
    u = inputs.pop("u")
    with aim("sm_90"):
        whole, end = chunk_s4d(u, **inputs, output_final_state=True)
        first, state = chunk_s4d(u[:, :37], **inputs, output_final_state=True)
        second, last = chunk_s4d(u[:, 37:], **inputs, initial_state=state, output_final_state=True)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(last, end, rtol=1e-4, atol=1e-4)


@pytest.mark.interpret
def test_gradients_are_those_of_the_convolution() -> None:
    """o = k * u + D u by the full Toeplitz matrix in float64, which shares no recurrence with the kernels."""
    inputs = draw_inputs(s4d, problem(T=70, K=8, V=2), 0)
    exact = {n: x.detach().double().requires_grad_() for n, x in inputs.items()}
    k = taps(exact["log_dt"], exact["A_real"], exact["A_imag"], exact["C"], 70)
    lag = torch.arange(70)[:, None] - torch.arange(70)[None, :]
    matrix = torch.where(lag >= 0, k[..., lag.clamp_min(0)], 0.0)
    expected = torch.einsum("hvij,bjhv->bihv", matrix, exact["u"]) + exact["D"] * exact["u"]
    with aim("sm_90"):
        o, _ = chunk_s4d(**inputs)
    weight = torch.randn(o.shape, generator=torch.Generator().manual_seed(1))
    found = torch.autograd.grad((o * weight).sum(), list(inputs.values()))
    oracle = torch.autograd.grad((expected * weight).sum(), list(exact.values()))
    for name, ours, right in zip(inputs, found, oracle, strict=True):
        assert difference(ours, right).error < 1e-5, name


@pytest.mark.interpret
def test_modes_that_vanish_at_once_and_modes_that_stay() -> None:
    """log |a| = -1e4, -20 and -1e-9 a token: right results and gradients, no NaN."""
    inputs = draw_inputs(s4d, problem(T=40, V=3, pass_="fwd"), 0)
    inputs["log_dt"] = torch.zeros_like(inputs["log_dt"])
    rates = torch.tensor([-1e4, -20.0, -1e-9])[None, :, None]
    inputs["A_real"] = rates.expand_as(inputs["A_real"]).clone()
    leaves = {n: x.requires_grad_() for n, x in inputs.items()}
    exact = {n: x.detach().double().requires_grad_() for n, x in inputs.items()}
    with aim("sm_90"):
        o, _ = chunk_s4d(**leaves)
    expected, _ = recurrence(**exact)
    assert difference(o, expected, 1).error < 1e-4
    found = torch.autograd.grad(o.square().sum(), list(leaves.values()))
    oracle = torch.autograd.grad(expected.square().sum(), list(exact.values()))
    for name, ours, right in zip(inputs, found, oracle, strict=True):
        assert difference(ours, right).error < 1e-4, name


@pytest.mark.interpret
def test_states_of_many_chunks() -> None:
    """More than two groups of chunks in one tile, and a second tile."""
    inputs = draw_inputs(s4d, problem(T=2100, K=4, V=1, pass_="fwd", initial_state=True), 0)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=1)):
        tiles = configuration(problem(T=2100, K=4, V=1, pass_="fwd"), {})
        assert tiles["output"]["rows"] * CHUNKS[4] < 2100
        o, end = chunk_s4d(**inputs, output_final_state=True)
    expected, final = recurrence(**{n: x.double() for n, x in inputs.items()}, output_final_state=True)
    assert difference(o, expected, 1).error < 1e-4
    assert difference(end, final).error < 1e-4


@pytest.mark.long
@pytest.mark.interpret
@pytest.mark.parametrize("regime", SMS)
def test_long_memory(regime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """|a| of nearly 1 over 2000 tokens."""
    monkeypatch.setattr("kernels.scan.s4d.plan.LEAST", 512)
    inputs = draw_inputs(s4d, problem(T=2000, K=4, V=1, pass_="fwd"), 0)
    inputs["log_dt"] = torch.full_like(inputs["log_dt"], -9.2)
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        o, _ = chunk_s4d(**inputs)
    expected, _ = recurrence(**{n: x.double() for n, x in inputs.items()})
    assert difference(o, expected, 1).error < 1e-4


def test_the_recurrence_is_the_convolution() -> None:
    """In float64, for every channel: an impulse's answer is the kernel, and any input's is the convolution with it."""
    inputs = draw_inputs(s4d, problem(T=60, K=10, V=5, pass_="fwd"), 0)
    wide = {n: x.double() for n, x in inputs.items()}
    k = taps(wide["log_dt"], wide["A_real"], wide["A_imag"], wide["C"], 60)
    impulse = torch.zeros_like(wide["u"])
    impulse[:, 0] = 1.0
    only: dict[str, Any] = wide | {"u": impulse, "D": torch.zeros_like(wide["D"])}
    answer, _ = recurrence(**only)
    torch.testing.assert_close(answer[0].permute(1, 2, 0), k, rtol=1e-10, atol=1e-10)
    direct = sum(k[..., j] * torch.roll(wide["u"], j, 1).index_fill(1, torch.arange(j), 0.0) for j in range(60))
    torch.testing.assert_close(recurrence(**wide)[0], direct + wide["D"] * wide["u"], rtol=1e-9, atol=1e-9)


def test_kernel_taps_are_the_definitions() -> None:
    """2 Re sum C (a - 1) / A a^j in complex arithmetic."""
    inputs = draw_inputs(s4d, problem(T=7, K=6, V=3, pass_="fwd"), 0)
    A = torch.complex(inputs["A_real"].double(), inputs["A_imag"].double())
    C = torch.view_as_complex(inputs["C"].double())
    a = (inputs["log_dt"].double().exp()[..., None] * A).exp()
    expected = torch.stack([2 * (C * (a - 1) / A * a**j).sum(-1).real for j in range(7)], dim=-1)
    found = taps(inputs["log_dt"], inputs["A_real"], inputs["A_imag"], inputs["C"], 7)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def meta_inputs(**changes: torch.Tensor) -> dict[str, torch.Tensor]:
    shapes = {
        "u": (1, 9, 2, 16),
        "log_dt": (2, 16),
        "A_real": (2, 16, 4),
        "A_imag": (2, 16, 4),
        "C": (2, 16, 4, 2),
        "D": (2, 16),
    }
    return {name: meta(*shape) for name, shape in shapes.items()} | changes


BAD: dict[str, tuple[dict[str, torch.Tensor], str]] = {
    "A_imag": ({"A_imag": meta(2, 16, 5)}, "A_imag is"),
    "C": ({"C": meta(2, 16, 4)}, "C is"),
    "state": ({"initial_state": meta(1, 2, 4, 16)}, "initial_state is"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    changes, words = BAD[name]
    with pytest.raises(UsageError, match=words):
        chunk_s4d(**meta_inputs(**changes))


def test_bad_steps_are_named() -> None:
    with pytest.raises(UsageError, match="9 tokens"):
        step_s4d(**meta_inputs(), state=meta(1, 2, 8, 16))
    with pytest.raises(UsageError, match="state is"):
        step_s4d(**meta_inputs(u=meta(1, 1, 2, 16)), state=meta(1, 2, 4, 16))


def test_odd_numbers_of_modes_are_refused() -> None:
    check = check_case(s4d, "triton_chunk", s4d.complete(Problem(T=4, K=15, dtype="fp32")), device="interpret")
    assert "K must be even" in check.reason


def test_search_starts_with_the_tables_own_launch() -> None:
    case = problem(T=8192, H=16, K=64, V=64)
    with aim("sm_90"):
        chosen, found = configuration(case, {}), search(case, {})
    assert len(found) == len(chosen)
    for own, launches in zip(chosen.values(), found.values(), strict=True):
        assert launches[0] == {field: own[field] for field in ("rows", "modes", "warps", "stages")}
