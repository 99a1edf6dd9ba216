"""triton_step of RWKV-7 against the oracle, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest

from kernels.channel_delta.rwkv7.decode import step_rwkv7
from tests.kernels.channel_delta.cases import RWKV7, stepped, steps_continue

pytestmark = pytest.mark.interpret

CASES: dict[str, dict[str, Any]] = {
    "plain": {"B": 3},
    "values": {"K": 60, "V": 100, "HV": 4},
    "half": {"dtype": "fp16", "B": 2},
    "half_state": {"dtype": "fp16", "state_dtype": "fp16", "K": 64},
    "wide": {"K": 256, "V": 256, "H": 1},
}


@pytest.mark.parametrize("name", CASES)
def test_output_and_state(name: str) -> None:
    stepped(RWKV7, CASES[name])


def test_steps_continue_a_chunked_pass() -> None:
    steps_continue(RWKV7, step_rwkv7)
