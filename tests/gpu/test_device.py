"""On a device: every implementation against the oracle.

`python -m pytest tests/gpu` on a machine with a CUDA device; skipped, visibly, elsewhere.
"""

from __future__ import annotations

import pytest

from suite import Problem
from suite.checks.checker import check_case
from suite.discovery import discover

pytestmark = pytest.mark.gpu

SHAPES = [
    {"T": 1, "K": 64},
    {"T": 63, "K": 60, "V": 100},
    {"T": 500, "K": 64, "H": 4, "HK": 2, "HV": 2},
    {"T": 1000, "K": 128, "initial_state": True},
    {"T": 2048, "K": 128, "layout": "packed:ragged"},
    {"T": 1024, "K": 256},
]
CASES = [
    (op.name, made.name, pass_)
    for op in discover().operators.values()
    for made in op.implementations.values()
    for pass_ in ("fwdbwd", "fwd", "decode")
    if pass_ in made.passes and "cuda" in made.devices and not (pass_ == "fwd" and "fwdbwd" in made.passes)
]


@pytest.mark.parametrize("dtype", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "_".join(f"{k}{v}" for k, v in shape.items()))
@pytest.mark.parametrize(("operator", "implementation", "pass_"), CASES)
def test_against_the_oracle(operator: str, implementation: str, pass_: str, shape: dict, dtype: str) -> None:
    problem = Problem(B=1 if "layout" in shape else 2, **{"H": 2, **shape}, dtype=dtype, pass_=pass_)  # type: ignore[arg-type]
    if pass_ == "decode" and ("layout" in shape or shape.get("initial_state")):
        pytest.skip("decode is dense and always has a state")
    found = check_case(discover().operator(operator), implementation, problem, device="cuda")
    if found.status in ("unsupported", "oom"):
        pytest.skip(found.reason)
    assert found.ok, found.reason
