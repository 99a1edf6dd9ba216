"""triton_chunk of the delta rule, without a gate, against the oracle in Triton's interpreter."""

from __future__ import annotations

import pytest

import kernels.delta.delta_rule.chunk  # noqa: F401  (registers)
from kernels.delta.delta_rule.spec import delta_rule
from tests.kernels.delta.cases import PACKED, STATE, Case, check

pytestmark = pytest.mark.interpret

CASES: dict[str, Case] = {
    "tail": ("on-chip", 32, {}, {"T": 63, **STATE}),
    "norm": ("on-chip", 16, {"l2norm": True, "negative_eigenvalues": True}, {"T": 20, "HV": 4, "V": 20}),
    "half": ("on-chip", 64, {}, {"T": 130, "K": 60, "V": 100, "dtype": "fp16", **STATE}),
    "packed": ("on-chip", 16, {}, {"T": 60, **PACKED}),
    "segments": ("segments", 16, {}, {"T": 140, **STATE, "K": 16}),
}


@pytest.mark.parametrize("name", CASES)
def test_outputs_states_and_gradients(name: str) -> None:
    check(delta_rule, CASES[name])
