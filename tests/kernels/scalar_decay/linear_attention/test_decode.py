"""triton_step against the oracle, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.scalar_decay.linear_attention.chunk import chunk_linear_attention
from kernels.scalar_decay.linear_attention.decode import step_linear_attention
from kernels.scalar_decay.linear_attention.spec import linear_attention
from suite import Problem
from suite.checks.checker import check_case
from suite.errors import UsageError
from suite.targets import aim

POSITIVE = {"feature_map": "elu1", "normalised": True}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {"B": 3}),
    "slices": ({"feature_map": "elu1"}, {"K": 256, "V": 100, "H": 4, "HK": 2, "HV": 2}),
    "normalised": (POSITIVE, {"B": 2, "K": 60, "V": 100, "HV": 4}),
    "turns": ({"normalised": True}, {"K": 256, "V": 256, "H": 1}),
    "relu": ({"feature_map": "relu", "normalised": True}, {"K": 128, "V": 32}),
    "half": ({}, {"dtype": "fp16", "B": 2}),
    "softmax": ({"feature_map": "softmax", "normalised": True}, {"K": 60, "B": 2}),
    "favor": ({"feature_map": "favor", "normalised": True, "features": 64}, {"H": 4, "HK": 2, "HV": 2}),
    "taylor": ({"feature_map": "taylor"}, {"K": 16, "dtype": "fp16"}),
    "half_state": (POSITIVE, {"dtype": "fp16", "state_dtype": "fp16", "K": 64}),
}


@pytest.mark.interpret
@pytest.mark.parametrize("name", CASES)
def test_output_and_state(name: str) -> None:
    own, sizes = CASES[name]
    problem = Problem(**{"T": 100, "H": 2, "K": 32, "dtype": "fp32", "pass_": "decode", **sizes})
    found = check_case(linear_attention, "triton_step", linear_attention.complete(problem, own), device="interpret")
    assert found.ok, found.reason
    assert any(each.startswith("state") for each in found.errors)


@pytest.mark.interpret
def test_steps_continue_a_chunked_pass() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 40, 2, 32, generator=generator) for _ in range(3))
    options = {"feature_map": "elu1", "normalised": True, "scale": 0.3}
    with aim("sm_90"):
        whole, _ = chunk_linear_attention(q, k, v, chunk=16, **options)
        _, state = chunk_linear_attention(q[:, :37], k[:, :37], v[:, :37], output_final_state=True, chunk=16, **options)
        for t in range(37, 40):
            o = step_linear_attention(*(x[:, t : t + 1] for x in (q, k, v)), state=state, **options)
            torch.testing.assert_close(o, whole[:, t : t + 1], rtol=1e-4, atol=1e-5)


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_more_than_one_token_is_refused() -> None:
    with pytest.raises(UsageError, match="2 tokens"):
        step_linear_attention(*(meta(1, 2, 1, 16) for _ in range(3)), state=meta(1, 1, 16, 16))


def test_a_state_that_can_not_be_updated_in_place_is_refused() -> None:
    token = [meta(1, 1, 1, 16) for _ in range(3)]
    with pytest.raises(UsageError, match="not contiguous"):
        step_linear_attention(*token, state=meta(1, 1, 16, 16).transpose(2, 3))
    with pytest.raises(UsageError, match="must be"):
        step_linear_attention(*token, state=meta(1, 2, 16, 16))
