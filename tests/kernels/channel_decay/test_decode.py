"""triton_step of GLA, HGRN-2 and RWKV-6 against their oracles, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.channel_decay.gated_linear_attention.chunk import chunk_gated_linear_attention
from kernels.channel_decay.gated_linear_attention.decode import step_gated_linear_attention
from kernels.channel_decay.gated_linear_attention.spec import gated_linear_attention
from kernels.channel_decay.hgrn2.decode import step_hgrn2
from kernels.channel_decay.hgrn2.spec import hgrn2
from kernels.channel_decay.rwkv6.decode import step_rwkv6
from kernels.channel_decay.rwkv6.spec import rwkv6
from suite import Problem
from suite.checks.checker import check_case
from suite.errors import UsageError
from suite.targets import aim

OPERATORS = {each.name: each for each in (gated_linear_attention, hgrn2, rwkv6)}
SIZES: dict[str, dict[str, Any]] = {
    "plain": {"B": 3},
    "odd": {"K": 60, "V": 100, "HV": 4},
    "grouped": {"K": 256, "H": 4, "HK": 2, "HV": 2, "B": 2},
    "half": {"dtype": "fp16", "state_dtype": "fp16"},
}


@pytest.mark.interpret
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", OPERATORS)
def test_output_and_state(name: str, size: str) -> None:
    problem = Problem(**{"T": 100, "H": 2, "K": 32, "dtype": "fp32", "pass_": "decode", **SIZES[size]})
    found = check_case(OPERATORS[name], "triton_step", problem, device="interpret")
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


@pytest.mark.interpret
def test_steps_continue_a_chunked_pass() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v, x = (torch.randn(2, 20, 1, 16, generator=generator) for _ in range(4))
    inputs = (q, k, v, -x.abs())
    with aim("sm_90"):
        whole, _ = chunk_gated_linear_attention(*inputs, chunk=16)
        _, state = chunk_gated_linear_attention(*(x[:, :18] for x in inputs), output_final_state=True, chunk=16)
        for t in range(18, 20):
            o = step_gated_linear_attention(*(x[:, t : t + 1] for x in inputs), state=state)
            torch.testing.assert_close(o, whole[:, t : t + 1], rtol=1e-4, atol=1e-5)


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def test_more_than_one_token_is_refused() -> None:
    with pytest.raises(UsageError, match="2 tokens"):
        step_hgrn2(*(meta(1, 2, 1, 16) for _ in range(3)), state=meta(1, 1, 16, 16))


def test_shapes_that_do_not_agree_are_refused() -> None:
    token = [meta(1, 1, 1, 16) for _ in range(4)]
    with pytest.raises(UsageError, match="not contiguous"):
        step_gated_linear_attention(*token, state=meta(1, 1, 16, 16).transpose(2, 3))
    with pytest.raises(UsageError, match=r"state is .* must be"):
        step_gated_linear_attention(*token, state=meta(1, 2, 16, 16))
    with pytest.raises(UsageError, match=r"u is .* must be"):
        step_rwkv6(*token, meta(2, 16), state=meta(1, 1, 16, 16))
