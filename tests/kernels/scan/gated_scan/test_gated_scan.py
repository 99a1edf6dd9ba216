"""triton_chunk and triton_step of gated_scan against the oracle, in Triton's interpreter, and their host code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from kernels.scan.gated_scan.chunk import chunk_gated_scan, configuration, search
from kernels.scan.gated_scan.decode import step_gated_scan
from kernels.scan.gated_scan.spec import gated_scan, recurrence
from suite import Problem
from suite.errors import UsageError
from suite.numerics import difference
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.scan.cases import SMS, STATE, checked, short_segments, stepped
from tests.parameters import with_long

SQRT = {"input_scaling": "sqrt"}

# regime, the operator's axes, sizes. Between them, every pair of regime and feature occurs.
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "one_token": ("on-chip", {}, {"T": 1, **STATE}),
    "tail": ("on-chip", SQRT, {"T": 21, "B": 2, **STATE}),
    "odd_channels": ("on-chip", {}, {"T": 20, "H": 1, "V": 100}),
    "value_heads": ("on-chip", {}, {"T": 20, "H": 1, "HV": 4, "V": 60, "dtype": "fp16", **STATE}),
    "packed": ("on-chip", SQRT, {"T": 40, "layout": "packed:ragged", **STATE}),
    "segments": ("segments", {}, {"T": 75, **STATE}),
    "segments_scaled": ("segments", SQRT, {"T": 70, "dtype": "fp16"}),
    "segments_packed": ("segments", {}, {"T": 100, "layout": "packed:ragged", **STATE}),
}


segments_of_32_tokens = short_segments("kernels.scan.plan.LEAST")


def problem(own: dict[str, Any], sizes: dict[str, Any]) -> Problem:
    defaults = {"H": 1, "K": 16, "V": 32, "dtype": "fp32", "pass_": "fwdbwd"}
    return gated_scan.complete(Problem(**{**defaults, **sizes}), own)


@pytest.mark.interpret
@pytest.mark.parametrize("name", with_long(CASES, "segments_scaled", "tail"))
def test_outputs_states_and_gradients(name: str) -> None:
    regime, own, sizes = CASES[name]
    checked(gated_scan, problem(own, sizes), regime, {"o", "dx", "dlog_decay"})


@pytest.mark.interpret
@pytest.mark.parametrize("own", [{}, SQRT], ids=["plain", "scaled"])
def test_step(own: dict[str, Any]) -> None:
    case = problem(own, {"B": 3, "V": 300, "pass_": "decode"})
    stepped(gated_scan, case)


def draw(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.interpret
@pytest.mark.parametrize("regime", SMS)
def test_two_halves_with_the_carried_state_are_the_whole(regime: str) -> None:
    x, g = draw(1, 100, 1, 16), -draw(1, 100, 1, 16).abs() * 0.1
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        whole, end = chunk_gated_scan(x, g, output_final_state=True)
        first, state = chunk_gated_scan(x[:, :50], g[:, :50], output_final_state=True)
        second, last = chunk_gated_scan(x[:, 50:], g[:, 50:], initial_state=state, output_final_state=True)
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(last, end, rtol=1e-5, atol=1e-5)


@pytest.mark.interpret
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("scaling", ["none", "sqrt"])
def test_extreme_decays(regime: str, scaling: str) -> None:
    """Log decays of exactly 0, of -20 and -1e4 a token, and minus infinity: results and gradients, and no NaN."""
    x, start, weight = draw(1, 75, 1, 16), draw(1, 1, 16), draw(1, 75, 1, 16).double()
    g = -draw(1, 75, 1, 16).abs() * 0.1
    for first, value in ((2, 0.0), (3, -20.0), (5, -1e4), (7, -torch.inf)):
        g[:, first::11] = value

    def run(function, dtype: torch.dtype):
        leaves = [x.to(dtype, copy=True).requires_grad_() for x in (x, g, start)]
        o, end = function(*leaves[:2], input_scaling=scaling, initial_state=leaves[2], output_final_state=True)
        return o, end, *torch.autograd.grad((o * weight.to(dtype)).sum() + end.sum(), leaves)

    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        found = run(chunk_gated_scan, torch.float32)
    for name, ours, oracle in zip(("o", "end", "dx", "dg", "dh"), found, run(recurrence, torch.float64), strict=True):
        expected = torch.nan_to_num(oracle, nan=0.0)
        assert difference(ours, expected).error < 1e-4, name


@pytest.mark.interpret
def test_gradients_are_those_of_the_quadratic_form() -> None:
    """o_t = sum_s exp(G_t - G_s) x_s, which shares nothing with the recurrence."""
    exact = [draw(1, 30, 2, 8, dtype=torch.float64).requires_grad_() for _ in range(2)]
    exact[1].data = -exact[1].data.abs()
    single = [x.detach().float().requires_grad_() for x in exact]
    G = exact[1].cumsum(1)
    pairs = torch.ones(30, 30, dtype=torch.bool).tril()[None, :, :, None, None]
    decays = torch.where(pairs, (G[:, :, None] - G[:, None]), -torch.inf).exp()
    expected = (decays * exact[0][:, None]).sum(2)
    with aim("sm_90"):
        o, _ = chunk_gated_scan(*single)
    weight = draw(*o.shape)
    found = torch.autograd.grad((o * weight).sum(), single)
    for ours, oracle in zip(found, torch.autograd.grad((expected * weight).sum(), exact), strict=True):
        assert difference(ours, oracle, 1).error < 1e-5


@pytest.mark.long
@pytest.mark.interpret
@pytest.mark.parametrize("regime", SMS)
def test_long_memory(regime: str) -> None:
    """Decays of nearly 1 over 2000 tokens: the state grows all the way."""
    x, g = draw(1, 2000, 1, 8), -draw(1, 2000, 1, 8).abs() * 1e-5
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        o, _ = chunk_gated_scan(x, g)
    assert difference(o, recurrence(x.double(), g.double())[0], 1).error < 1e-5


def meta(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "length": ({"log_decay": meta(1, 39, 2, 16)}, "log_decay is"),
    "dtype": ({"log_decay": meta(1, 40, 2, 16, dtype=torch.float16)}, "log_decay is torch.float16"),
    "state": ({"initial_state": meta(2, 2, 16)}, "initial_state is"),
    "scaling": ({"input_scaling": "sqr"}, "did you mean 'sqrt'"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_named(name: str) -> None:
    changes, words = BAD[name]
    with pytest.raises(UsageError, match=words):
        chunk_gated_scan(**{"x": meta(1, 40, 2, 16), "log_decay": meta(1, 40, 2, 16), **changes})


def test_bad_steps_are_named() -> None:
    with pytest.raises(UsageError, match="2 tokens"):
        step_gated_scan(meta(1, 2, 1, 16), meta(1, 2, 1, 16), state=meta(1, 1, 16))
    with pytest.raises(UsageError, match="not contiguous"):
        step_gated_scan(meta(2, 1, 4, 4), meta(2, 1, 4, 4), state=meta(2, 4, 4).transpose(1, 2))


def test_regime_follows_from_what_fills_the_gpu() -> None:
    with aim("sm_90"):
        busy = configuration(gated_scan.complete(Problem(B=64, T=8192, H=16, K=128)), {})
        idle = configuration(gated_scan.complete(Problem(B=1, T=8192, H=16, K=128)), {})
    assert busy["output"]["regime"] == "on-chip"
    assert "local" not in busy
    assert idle["output"]["regime"] == idle["local"]["regime"] == "segments"


def test_search_starts_with_the_tables_own_launch() -> None:
    case = gated_scan.complete(Problem(B=1, T=8192, H=16, K=128, pass_="fwdbwd"))
    with aim("sm_90"):
        chosen, found = configuration(case, {}), search(case, {})
    assert len(found) == len(chosen) == 4
    for (name, own), (key, launches) in zip(chosen.items(), found.items(), strict=True):
        assert f"/{name}/" in key
        assert launches[0] == {field: own[field] for field in ("width", "rows", "warps", "stages")}
        assert 4 <= len(launches) == len({tuple(each.values()) for each in launches}) <= 12
