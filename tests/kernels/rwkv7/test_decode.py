"""triton_step of RWKV-7 against the oracle, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.rwkv7.chunk import chunk_rwkv7
from kernels.rwkv7.decode import step_rwkv7
from kernels.rwkv7.spec import rwkv7
from suite import Problem
from suite.checking import check_case
from suite.inputs import draw_inputs
from suite.targets import aim

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
    problem = Problem(**{"T": 100, "H": 2, "K": 32, "dtype": "fp32", "pass_": "decode", **CASES[name]})
    found = check_case(rwkv7, "triton_step", rwkv7.complete(problem), device="interpret")
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


def test_steps_continue_a_chunked_pass() -> None:
    at = rwkv7.complete(Problem(B=2, T=40, H=1, HV=2, K=16, dtype="fp32"))
    inputs = draw_inputs(rwkv7, at, seed=0)
    with aim("sm_90"):
        whole, _ = chunk_rwkv7(**inputs, chunk=16)
        before = {name: x[:, :37] for name, x in inputs.items()}
        _, state = chunk_rwkv7(**before, output_final_state=True, chunk=16)
        for t in range(37, 40):
            o = step_rwkv7(**{name: x[:, t : t + 1] for name, x in inputs.items()}, state=state)
            torch.testing.assert_close(o, whole[:, t : t + 1], rtol=1e-4, atol=1e-5)
