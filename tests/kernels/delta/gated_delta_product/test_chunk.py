"""triton_chunk of gated delta products against the oracle, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch

from kernels.delta.gated_delta_product.chunk import chunk_gated_delta_product
from kernels.delta.gated_delta_product.spec import gated_delta_product
from kernels.delta.gated_delta_rule.chunk import chunk_gated_delta_rule
from suite import Problem
from suite.checks.inputs import draw_inputs
from suite.targets import aim
from tests.kernels.delta.cases import PACKED, STATE, Case, check
from tests.parameters import with_long

pytestmark = pytest.mark.interpret

# Three steps a token: no power of 2 holds whole tokens, so chunks cut them.
CASES: dict[str, Case] = {
    "one_step": ("on-chip", 16, {"steps": 1}, {"T": 40, **STATE}),
    "two": ("on-chip", 16, {"steps": 2, "negative_eigenvalues": True}, {"T": 20, "HV": 2, **STATE}),
    "three": ("on-chip", 16, {"steps": 3, "l2norm": True}, {"T": 31, "V": 20, **STATE}),
    "four": ("on-chip", 32, {"steps": 4}, {"T": 21}),
    "half": ("on-chip", 64, {"steps": 3}, {"T": 50, "dtype": "fp16", **STATE}),
    "packed": ("on-chip", 16, {"steps": 3}, {"T": 30, **PACKED}),
    "segments": ("segments", 16, {"steps": 3, "l2norm": True}, {"T": 50, **STATE, "K": 16}),
    "segments_packed": ("segments", 16, {"steps": 2}, {"T": 200, **PACKED, "K": 16}),
    "segments_many": ("segments", 16, {"steps": 4, "l2norm": True}, {"T": 130, **STATE, "HV": 2}),
}


@pytest.mark.parametrize("name", with_long(CASES, "segments_packed", "segments_many"))
def test_outputs_states_and_gradients(name: str) -> None:
    check(gated_delta_product, CASES[name])


def test_one_step_is_the_gated_delta_rule_bit_for_bit() -> None:
    at = gated_delta_product.complete(Problem(T=50, H=2, K=32, dtype="fp32"), {"steps": 1})
    inputs = {name: x.requires_grad_() for name, x in draw_inputs(gated_delta_product, at, 0).items()}
    with aim("sm_90"):
        o, _ = chunk_gated_delta_product(**inputs, steps=1, chunk=16)
        found = torch.autograd.grad(o.square().sum(), list(inputs.values()))
        flat = {name: x.squeeze(2) if name in ("k", "v", "beta") else x for name, x in inputs.items()}
        expected, _ = chunk_gated_delta_rule(**flat, chunk=16)
        right = torch.autograd.grad(expected.square().sum(), list(inputs.values()))
    assert torch.equal(o, expected)
    assert all(torch.equal(x, y) for x, y in zip(found, right, strict=True))
