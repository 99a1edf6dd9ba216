"""triton_step of Kimi Delta Attention against the oracle, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest

from kernels.channel_delta.kimi_delta_attention.decode import step_kimi_delta_attention
from tests.kernels.channel_delta.cases import KIMI, stepped, steps_continue

pytestmark = pytest.mark.interpret

CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {"B": 3}),
    "values": ({"negative_eigenvalues": True}, {"K": 60, "V": 100, "HV": 4}),
    "norm": ({"l2norm": True}, {"K": 128, "V": 32}),
    "half": ({}, {"dtype": "fp16", "B": 2}),
    "half_state": ({}, {"dtype": "fp16", "state_dtype": "fp16", "K": 64}),
    "wide": ({}, {"K": 256, "V": 256, "H": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_output_and_state(name: str) -> None:
    own, sizes = CASES[name]
    stepped(KIMI, sizes, own)


def test_steps_continue_a_chunked_pass() -> None:
    steps_continue(KIMI, step_kimi_delta_attention)
