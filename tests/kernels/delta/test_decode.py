"""triton_step of the delta rules against the oracle, in Triton's interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import kernels.delta.delta_rule.decode
import kernels.delta.gated_delta_product.decode  # noqa: F401  (registers)
from kernels.delta.delta_rule.spec import delta_rule
from kernels.delta.gated_delta_product.spec import gated_delta_product
from kernels.delta.gated_delta_rule.chunk import chunk_gated_delta_rule
from kernels.delta.gated_delta_rule.decode import step_gated_delta_rule
from kernels.delta.gated_delta_rule.spec import gated_delta_rule
from suite import Operator, Problem
from suite.checks.checker import check_case
from suite.checks.inputs import draw_inputs
from suite.targets import aim

pytestmark = pytest.mark.interpret

CASES: dict[str, tuple[Operator, dict[str, Any], dict[str, Any]]] = {
    "plain": (delta_rule, {}, {"B": 3}),
    "gated": (gated_delta_rule, {"negative_eigenvalues": True}, {"B": 2, "HV": 4, "K": 60, "V": 100}),
    "norm": (gated_delta_rule, {"l2norm": True}, {"K": 256, "V": 48}),
    "two": (gated_delta_product, {}, {"HV": 4}),
    "four": (gated_delta_product, {"steps": 4, "l2norm": True}, {"B": 2}),
    "half": (gated_delta_rule, {}, {"dtype": "fp16"}),
    "half_state": (delta_rule, {}, {"dtype": "fp16", "state_dtype": "fp16", "K": 64}),
}


@pytest.mark.parametrize("name", CASES)
def test_output_and_state(name: str) -> None:
    operator, own, sizes = CASES[name]
    problem = Problem(**{"T": 100, "H": 2, "K": 32, "dtype": "fp32", "pass_": "decode", **sizes})
    found = check_case(operator, "triton_step", operator.complete(problem, own), device="interpret")
    assert found.ok, found.reason
    assert set(found.errors) == {"o", "state"}


def test_steps_continue_a_chunked_pass() -> None:
    at = gated_delta_rule.complete(Problem(B=2, T=40, H=1, HV=2, K=32, dtype="fp32"))
    inputs = draw_inputs(gated_delta_rule, at, 0)
    with aim("sm_90"):
        whole, _ = chunk_gated_delta_rule(**inputs, chunk=16, scale=0.3)
        before = {name: x[:, :37] for name, x in inputs.items()}
        _, state = chunk_gated_delta_rule(**before, chunk=16, scale=0.3, output_final_state=True)
        for t in range(37, 40):
            token = {name: x[:, t : t + 1] for name, x in inputs.items()}
            o = step_gated_delta_rule(**token, state=state, scale=0.3)
            torch.testing.assert_close(o, whole[:, t : t + 1], rtol=1e-4, atol=1e-5)
