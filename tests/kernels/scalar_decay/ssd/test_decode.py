"""triton_step of SSD against the oracle, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kernels.scalar_decay.ssd.chunk import chunk_ssd
from kernels.scalar_decay.ssd.decode import step_ssd
from kernels.scalar_decay.ssd.spec import ssd
from suite import Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.targets import aim

ALL = {"skip": True, "gated": True}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "core": ({}, {"B": 3}),
    "skip": ({"skip": True}, {"K": 60, "V": 100, "H": 1, "HV": 4}),
    "all": (ALL, {"K": 128, "V": 64, "H": 1, "HV": 3}),
    "half_state": (ALL, {"dtype": "fp16", "state_dtype": "fp16"}),
}


@pytest.mark.interpret
@pytest.mark.parametrize("name", CASES)
def test_output_and_state(name: str) -> None:
    own, sizes = CASES[name]
    problem = Problem(**{"T": 100, "H": 2, "K": 32, "dtype": "fp32", "pass_": "decode", **sizes})
    found = check_case(ssd, "triton_step", ssd.complete(problem, own), device="interpret")
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


@pytest.mark.interpret
def test_steps_continue_a_chunked_pass() -> None:
    inputs = draw_inputs(ssd, ssd.complete(Problem(B=2, T=40, H=1, HV=2, K=32, dtype="fp32"), ALL), 0)

    def part(first: int, end: int) -> dict[str, torch.Tensor]:
        return {name: x[:, first:end] if x.ndim > 1 else x for name, x in inputs.items()}

    with aim("sm_90"):
        whole, _ = chunk_ssd(**inputs, chunk=16)
        _, state = chunk_ssd(**part(0, 37), output_final_state=True, chunk=16)
        for t in range(37, 40):
            o = step_ssd(**part(t, t + 1), state=state)
            torch.testing.assert_close(o, whole[:, t : t + 1], rtol=1e-4, atol=1e-5)
