"""triton_chunk and triton_step of retention against the oracle, in Triton's interpreter, in both regimes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from baselines.scalar_decay.retention.pytorch import naive
from kernels.scalar_decay.retention.chunk import chunk_retention
from kernels.scalar_decay.retention.decode import step_retention
from kernels.scalar_decay.retention.spec import log_decays, retention
from suite import Problem
from suite.checks.checker import Check, check_case
from suite.numerics import difference
from suite.targets import REPRESENTATIVES, aim
from tests.kernels.regimes import SMS
from tests.parameters import with_long

pytestmark = pytest.mark.interpret

STATE = {"initial_state": True}
CASES: dict[str, tuple[str, int, dict[str, Any]]] = {
    "one_token": ("on-chip", 16, {"T": 1, **STATE}),
    "tail": ("on-chip", 32, {"T": 63, "B": 2, "K": 16, "V": 48}),
    "odd": ("on-chip", 16, {"T": 20, "K": 60, "V": 100, "H": 1, **STATE}),
    "grouped": ("on-chip", 16, {"T": 35, "H": 4, "HK": 2, "HV": 2, **STATE}),
    "packed": ("on-chip", 16, {"T": 70, "H": 1, "layout": "packed:ragged", **STATE}),
    "half": ("on-chip", 64, {"T": 100, "K": 64, "V": 64, "H": 1, "dtype": "fp16", **STATE}),
    "segments": ("segments", 16, {"T": 140, "H": 1, **STATE}),
    "segments_value_heads": ("segments", 16, {"T": 100, "H": 1, "HV": 2, "K": 20}),
    "segments_packed": ("segments", 16, {"T": 200, "H": 1, "layout": "packed:ragged", **STATE}),
    # More segments than a program joins by itself, and than `combine` takes at once.
    "segments_many": ("segments", 16, {"T": 1100, "H": 1, "K": 16, "V": 16, **STATE}),
}


def check(regime: str, chunk: int, sizes: dict[str, Any]) -> Check:
    case = retention.complete(Problem(**{"H": 2, "K": 32, "V": 32, "dtype": "fp32", "pass_": "fwdbwd", **sizes}))
    with aim(replace(REPRESENTATIVES["sm_90"], sms=SMS[regime])):
        return check_case(retention, "triton_chunk", case, {"chunk": chunk}, device="interpret")


# The kernels are linear attention's, whose tests have the same shapes.
ONCE = [name for name in CASES if name != "segments_many"]


@pytest.mark.parametrize("name", with_long(ONCE, "segments", "segments_value_heads", "tail", "grouped"))
def test_outputs_states_and_gradients(name: str) -> None:
    found = check(*CASES[name])
    assert found.ok, found.reason
    assert {"o", "dq", "dk", "dv"} <= set(found.errors)
    assert found.repeatable


@pytest.mark.long
def test_many_segments() -> None:
    found = check(*CASES["segments_many"])
    assert found.ok, found.reason


@pytest.mark.long
@pytest.mark.parametrize("regime", SMS)
@pytest.mark.parametrize("size", [64, 128, 256])
def test_large_heads(regime: str, size: int) -> None:
    found = check(regime, 64, {"T": 500, "H": 1, "K": size, "V": size, "dtype": "fp16", **STATE})
    assert found.ok, found.reason


def test_gradients_are_those_of_the_quadratic_form() -> None:
    exact = [torch.randn(2, 50, 2, d, dtype=torch.float64).requires_grad_() for d in (32, 32, 48)]
    single = [x.detach().float().requires_grad_() for x in exact]
    with aim("sm_90"):
        o, _ = chunk_retention(*single, chunk=16)
    weight = torch.randn_like(o)
    found = torch.autograd.grad((o * weight).sum(), single)
    expected = torch.autograd.grad((naive(*exact, log_decays(2))[0] * weight).sum(), exact)
    for name, ours, oracle in zip("qkv", found, expected, strict=True):
        assert difference(ours, oracle, 1).error < 1e-5, name


@pytest.mark.parametrize("sizes", [{"B": 3}, {"H": 4, "HK": 2, "HV": 2, "K": 60, "V": 100}], ids=["plain", "grouped"])
def test_step(sizes: dict[str, Any]) -> None:
    case = Problem(**{"T": 100, "H": 2, "K": 32, "dtype": "fp32", "pass_": "decode", **sizes})
    found = check_case(retention, "triton_step", case, device="interpret")
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


def test_steps_continue_a_chunked_pass_with_the_papers_decays() -> None:
    q, k, v = (torch.randn(2, 40, 2, 32) for _ in range(3))
    with aim("sm_90"):
        whole, _ = chunk_retention(q, k, v, chunk=16)
        _, state = chunk_retention(q[:, :37], k[:, :37], v[:, :37], output_final_state=True, chunk=16)
        for t in range(37, 40):
            o = step_retention(*(x[:, t : t + 1] for x in (q, k, v)), state=state)
            torch.testing.assert_close(o, whole[:, t : t + 1], rtol=1e-4, atol=1e-5)
